# SPDX-License-Identifier: Apache-2.0
"""Builders of packets, as plain bytes: each returns one header with its payload behind it.

They nest the way the headers do. A MAC address is "02:00:00:00:00:01", 6 bytes or an int; an IPv4
address is "10.0.0.1", 4 bytes or an int; an IPv6 address is "fe80::1", 16 bytes or an int. Checksums
and lengths are right unless you say otherwise. What does not fit its field is a ValueError.

    frame = eth("02:00:00:00:00:01", "02:00:00:00:00:02", ETH_IP4,
                ip4("10.0.0.2", "10.0.9.9", PROTO_UDP, udp("10.0.0.2", "10.0.9.9", 1000, 53)))
    tagged = eth(BROADCAST, "02:00:00:00:00:02", ETH_VLAN,
                 vlan(10, ETH_ARP, arp_request("02:00:00:00:00:02", "10.0.0.2", "10.0.0.1")))
    solicited = ip6("fe80::2", "ff02::1:ff00:1", PROTO_ICMP6,
                    neighbor_solicitation("fe80::2", "ff02::1:ff00:1", "fe80::1"), hops=255)
"""

from ipaddress import IPv4Address, IPv6Address

Mac = str | bytes | int
Ip4 = str | bytes | int
Ip6 = str | bytes | int

ETH_IP4, ETH_ARP, ETH_VLAN, ETH_QINQ, ETH_IP6 = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD
PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_ICMP6 = 1, 6, 17, 58
BROADCAST = b"\xff" * 6
ETH_MIN = 60  # the shortest Ethernet frame, without its FCS

_TCP_FLAGS = "FSRPAUEC"  # bit 0 first: RFC 9293 section 3.1
_ND_FLAGS = "RSO"  # bit 7 first: RFC 4861 section 4.4


def mac_bytes(mac: Mac) -> bytes:
    """Return the 6 bytes of a MAC address."""
    if isinstance(mac, int):
        return _field("MAC address", mac, 6)
    if isinstance(mac, str):
        parts = mac.replace("-", ":").split(":")
        if len(parts) != 6 or any(len(p) not in (1, 2) for p in parts):
            msg = f"MAC address {mac!r}: want six hex bytes, as 02:00:00:00:00:01"
            raise ValueError(msg)
        try:
            return bytes(int(p, 16) for p in parts)
        except ValueError:
            msg = f"MAC address {mac!r}: not hexadecimal"
            raise ValueError(msg) from None
    if len(mac) != 6:
        msg = f"MAC address {mac!r}: {len(mac)} bytes, want 6"
        raise ValueError(msg)
    return bytes(mac)


def ip4_bytes(address: Ip4) -> bytes:
    """Return the 4 bytes of an IPv4 address."""
    try:
        return IPv4Address(address).packed
    except ValueError as error:
        msg = f"IPv4 address {address!r}: {error}"
        raise ValueError(msg) from None


def ip6_bytes(address: Ip6) -> bytes:
    """Return the 16 bytes of an IPv6 address."""
    try:
        return IPv6Address(address).packed
    except ValueError as error:
        msg = f"IPv6 address {address!r}: {error}"
        raise ValueError(msg) from None


def checksum(data: bytes) -> int:
    """Return the Internet checksum of data (RFC 1071)."""
    if len(data) % 2:
        data += b"\x00"
    total = sum(data[0::2]) * 256 + sum(data[1::2])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def eth(dst: Mac, src: Mac, ethertype: int, payload: bytes = b"", *, pad_to: int = 0) -> bytes:
    """Return an Ethernet II frame without FCS, zero-padded to pad_to bytes (ETH_MIN: as wired)."""
    frame = mac_bytes(dst) + mac_bytes(src) + _field("ethertype", ethertype, 2) + payload
    return frame + bytes(max(0, pad_to - len(frame)))


def vlan(vid: int, ethertype: int, payload: bytes = b"", *, pcp: int = 0, dei: int = 0) -> bytes:
    """Return what follows ethertype 0x8100 or 0x88a8: the TCI, the inner type, the payload."""
    tci = _bits("PCP", pcp, 3) << 13 | _bits("DEI", dei, 1) << 12 | _bits("VLAN id", vid, 12)
    return _field("TCI", tci, 2) + _field("ethertype", ethertype, 2) + payload


def arp_request(sender_mac: Mac, sender_ip: Ip4, target_ip: Ip4, target_mac: Mac = 0) -> bytes:
    """Return the 28 bytes of an ARP request; sender_ip 0 makes it a probe (RFC 5227)."""
    return _arp(1, sender_mac, sender_ip, target_mac, target_ip)


def arp_reply(sender_mac: Mac, sender_ip: Ip4, target_mac: Mac, target_ip: Ip4) -> bytes:
    """Return the 28 bytes of an ARP reply: sender_ip is at sender_mac."""
    return _arp(2, sender_mac, sender_ip, target_mac, target_ip)


def ip4(
    src: Ip4,
    dst: Ip4,
    proto: int,
    payload: bytes = b"",
    *,
    ttl: int = 64,
    tos: int = 0,
    ident: int = 0,
    flags_df: bool = False,
    flags_mf: bool = False,
    frag_off: int = 0,
    options: bytes = b"",
    version: int = 4,
    ihl: int | None = None,
    total_length: int | None = None,
    checksum: int | None = None,
) -> bytes:
    """Return an IPv4 packet (RFC 791).

    frag_off is in bytes, a multiple of 8; options are padded with zeros to a multiple of 4, at
    most 40. ihl (in words), total_length and checksum are computed where None.
    """
    options += bytes(-len(options) % 4)
    if len(options) > 40:
        msg = f"IPv4 options: {len(options)} bytes, at most 40 fit"
        raise ValueError(msg)
    if frag_off % 8:
        msg = f"fragment offset {frag_off}: want a multiple of 8 bytes"
        raise ValueError(msg)
    ihl = 5 + len(options) // 4 if ihl is None else ihl
    if total_length is None:
        total_length = 20 + len(options) + len(payload)
    fragment = flags_df << 14 | flags_mf << 13 | _bits("fragment offset / 8", frag_off // 8, 13)
    head = (
        bytes([_bits("version", version, 4) << 4 | _bits("ihl", ihl, 4)])
        + _field("TOS", tos, 1)
        + _field("total length", total_length, 2)
        + _field("identification", ident, 2)
        + _field("fragment", fragment, 2)
        + _field("TTL", ttl, 1)
        + _field("protocol", proto, 1)
    )
    tail = ip4_bytes(src) + ip4_bytes(dst) + options
    return _with_checksum(head, tail, checksum) + payload


def icmp_echo(
    ident: int = 0,
    seq: int = 0,
    payload: bytes = b"",
    *,
    reply: bool = False,
    checksum: int | None = None,
) -> bytes:
    """Return an ICMP echo request, or reply (RFC 792)."""
    head = bytes([0 if reply else 8, 0])
    tail = _field("identifier", ident, 2) + _field("sequence", seq, 2) + payload
    return _with_checksum(head, tail, checksum)


def ip6(
    src: Ip6,
    dst: Ip6,
    proto: int,
    payload: bytes = b"",
    *,
    hops: int = 64,
    traffic_class: int = 0,
    flow: int = 0,
    version: int = 6,
    payload_length: int | None = None,
) -> bytes:
    """Return an IPv6 packet (RFC 8200). Extension headers are the caller's: proto is the first's."""
    first = _bits("version", version, 4) << 28 | _bits("traffic class", traffic_class, 8) << 20
    first |= _bits("flow label", flow, 20)
    length = len(payload) if payload_length is None else payload_length
    head = first.to_bytes(4, "big") + _field("payload length", length, 2)
    head += _field("next header", proto, 1) + _field("hop limit", hops, 1)
    return head + ip6_bytes(src) + ip6_bytes(dst) + payload


def icmp6(
    src: Ip6, dst: Ip6, kind: int, code: int = 0, body: bytes = bytes(4), *,
    checksum: int | None = None,
) -> bytes:  # fmt: skip
    """Return an ICMPv6 message (RFC 4443): body follows the checksum. src, dst are for the latter."""
    head = _field("type", kind, 1) + _field("code", code, 1)
    length = (len(body) + 4).to_bytes(4, "big")
    pseudo = ip6_bytes(src) + ip6_bytes(dst) + length + bytes([0, 0, 0, PROTO_ICMP6])
    return _with_checksum(head, body, checksum, pseudo)


def icmp6_echo(
    src: Ip6, dst: Ip6, ident: int = 0, seq: int = 0, payload: bytes = b"", *, reply: bool = False
) -> bytes:
    """Return an ICMPv6 echo request, or reply (RFC 4443 section 4)."""
    body = _field("identifier", ident, 2) + _field("sequence", seq, 2) + payload
    return icmp6(src, dst, 129 if reply else 128, 0, body)


def neighbor_solicitation(src: Ip6, dst: Ip6, target: Ip6, mac: Mac | None = None) -> bytes:
    """Return a neighbor solicitation (RFC 4861 section 4.3); mac is its sender's, None: not said."""
    option = b"" if mac is None else b"\x01\x01" + mac_bytes(mac)
    return icmp6(src, dst, 135, 0, bytes(4) + ip6_bytes(target) + option)


def neighbor_advertisement(
    src: Ip6, dst: Ip6, target: Ip6, mac: Mac | None = None, *, flags: str = "RSO"
) -> bytes:
    """Return a neighbor advertisement (RFC 4861 section 4.4); mac is the target's.

    flags are letters of "RSO": from a router, solicited, override.
    """
    if unknown := set(flags) - set(_ND_FLAGS):
        msg = f"ND flags {flags!r}: {sorted(unknown)} not among {_ND_FLAGS}"
        raise ValueError(msg)
    first = sum(0x80 >> _ND_FLAGS.index(f) for f in set(flags))
    option = b"" if mac is None else b"\x02\x01" + mac_bytes(mac)
    return icmp6(src, dst, 136, 0, bytes([first, 0, 0, 0]) + ip6_bytes(target) + option)


def udp(
    src: Ip4, dst: Ip4, sport: int, dport: int, payload: bytes = b"", *, checksum: int | None = None
) -> bytes:
    """Return a UDP datagram (RFC 768). src and dst are for the checksum; checksum=0: none.

    Addresses are IPv6 where src is a text with colons, or 16 bytes.
    """
    length = 8 + len(payload)
    head = _field("source port", sport, 2) + _field("destination port", dport, 2)
    head += _field("UDP length", length, 2)
    pseudo = _ends(src, dst) + bytes([0, PROTO_UDP]) + _field("length", length, 2)
    segment = _with_checksum(head, payload, checksum, pseudo)
    if checksum is None and segment[6:8] == b"\x00\x00":
        segment = segment[:6] + b"\xff\xff" + segment[8:]
    return segment


def tcp(
    src: Ip4,
    dst: Ip4,
    sport: int,
    dport: int,
    payload: bytes = b"",
    *,
    seq: int = 0,
    ack: int = 0,
    flags: str = "S",
    window: int = 65535,
    options: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    """Return a TCP segment (RFC 9293 section 3.1). flags are letters of "FSRPAUEC"."""
    options += bytes(-len(options) % 4)
    if len(options) > 40:
        msg = f"TCP options: {len(options)} bytes, at most 40 fit"
        raise ValueError(msg)
    if unknown := set(flags) - set(_TCP_FLAGS):
        msg = f"TCP flags {flags!r}: {sorted(unknown)} not among {_TCP_FLAGS}"
        raise ValueError(msg)
    head = (
        _field("source port", sport, 2)
        + _field("destination port", dport, 2)
        + _field("sequence number", seq, 4)
        + _field("acknowledgment number", ack, 4)
        + bytes([(5 + len(options) // 4) << 4, sum(1 << _TCP_FLAGS.index(f) for f in set(flags))])
        + _field("window", window, 2)
    )
    tail = b"\x00\x00" + options + payload  # urgent pointer first
    length = _field("TCP length", len(head) + 2 + len(tail), 2)
    pseudo = _ends(src, dst) + bytes([0, PROTO_TCP]) + length
    return _with_checksum(head, tail, checksum, pseudo)


def _ends(src: Ip4 | Ip6, dst: Ip4 | Ip6) -> bytes:
    """Both addresses as a pseudo-header has them. What else is in it sums up alike (RFC 8200 8.1)."""
    six = ":" in src if isinstance(src, str) else isinstance(src, bytes) and len(src) == 16
    return ip6_bytes(src) + ip6_bytes(dst) if six else ip4_bytes(src) + ip4_bytes(dst)


def _arp(op: int, sender_mac: Mac, sender_ip: Ip4, target_mac: Mac, target_ip: Ip4) -> bytes:
    fixed = bytes([0, 1, 8, 0, 6, 4, 0, op])
    sender = mac_bytes(sender_mac) + ip4_bytes(sender_ip)
    return fixed + sender + mac_bytes(target_mac) + ip4_bytes(target_ip)


def _with_checksum(head: bytes, tail: bytes, value: int | None, pseudo: bytes = b"") -> bytes:
    """Put a checksum between head (of even length) and tail: value, or the right one."""
    if value is None:
        value = checksum(pseudo + head + b"\x00\x00" + tail)
    return head + _field("checksum", value, 2) + tail


def _bits(name: str, value: int, width: int) -> int:
    if not 0 <= value < 1 << width:
        msg = f"{name} {value}: does not fit in {width} bits"
        raise ValueError(msg)
    return value


def _field(name: str, value: int, size: int) -> bytes:
    return _bits(name, value, 8 * size).to_bytes(size, "big")
