# SPDX-License-Identifier: Apache-2.0
"""Header bytes as one line of text, for traces. Takes any bytes, however few.

    02:00:00:00:00:02 > 02:76:66:00:00:01 vlan 7 IPv4 10.0.1.2 > 10.0.2.2 ttl 64 UDP 1024 > 53

IEEE 802.3 and 802.1Q, RFC 826 (ARP), RFC 791 (IPv4), RFC 792 (ICMP), RFC 768 (UDP), RFC 9293 (TCP),
RFC 8200 (IPv6), RFC 4443 (ICMPv6), RFC 4861 (ND).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

IP4, ARP, VLAN, IP6, SERVICE_VLAN = 0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8
KNOWN = (IP4, ARP, VLAN, IP6, SERVICE_VLAN)
VERSION_4, VERSION_6 = 4, 6
HEX_SHOWN = 16  # bytes of what is not understood that are shown
TAGS_SHOWN = 4

ICMP_TYPES = {
    0: "echo reply",
    3: "unreachable",
    4: "source quench",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
    12: "parameter problem",
}
ICMP_ECHO = (0, 8)
UNREACHABLE = 3
UNREACHABLE_CODES = {
    0: "network",
    1: "host",
    2: "protocol",
    3: "port",
    4: "fragmentation needed",
    9: "network prohibited",
    10: "host prohibited",
    13: "prohibited",
}
FRAGMENT, AH, ICMP6 = 44, 51, 58
ICMP6_TYPES = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    137: "redirect",
    143: "listener report",
}
ICMP6_ECHO = (128, 129)
UNREACHABLE6, TOO_BIG6, PROBLEM6, SOLICITATION, ADVERTISEMENT = 1, 2, 4, 135, 136
UNREACHABLE6_CODES = {0: "no route", 1: "prohibited", 2: "scope", 3: "address", 4: "port"}
ND_FLAGS = ((0x80, "router"), (0x40, "solicited"), (0x20, "override"))
EXTENSIONS = {0: "hop-by-hop", 43: "routing", 44: "fragment", 51: "AH", 60: "destination options"}
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


def frame(head: bytes) -> str:
    """The line for bytes that begin with an Ethernet header."""
    if len(head) < 14:
        return _cut("Ethernet", head)
    return f"{mac(head[6:12])} > {mac(head[:6])} {_typed(head, 12)}"


def packet(head: bytes) -> str:
    """The line for bytes that begin with an Ethernet header or an IP header: whichever fits."""
    version = head[0] >> 4 if head else 0
    if _good_ip4(head):
        return ip4(head)
    if version == VERSION_6 and not _good_frame(head):
        return ip6(head)
    if len(head) >= 14 and _u16(head, 12) in KNOWN:
        return frame(head)
    return ip4(head) if version == VERSION_4 else frame(head)


def mac(text: bytes) -> str:
    """An Ethernet address as users write it."""
    return text.hex(":")


def ip4(head: bytes) -> str:
    """The line for bytes that begin with an IPv4 header."""
    if len(head) < 20:
        return _cut("IPv4", head)
    size = 4 * (head[0] & 15)
    text = f"IPv4 {IPv4Address(head[12:16])} > {IPv4Address(head[16:20])} ttl {head[8]}"
    if size < 20 or head[0] >> 4 != VERSION_4:
        return f"{text} (first byte 0x{head[0]:02x} is wrong)"
    if size <= len(head) and _sum(head[:size]) != 0xFFFF:
        text += " (bad checksum)"
    fragment = _u16(head, 6)
    first = 8 * (fragment & 0x1FFF)
    if fragment & 0x3FFF:
        text += f" fragment at {first}" + ("" if fragment & 0x2000 else ", the last")
    name, read = PROTOCOLS.get(head[9], (f"protocol {head[9]}", None))
    if first or read is None:
        return f"{text} {name}"
    return f"{text} {read(head[size:])}"


def _typed(head: bytes, at: int) -> str:
    """What follows, from the EtherType at that place on."""
    text = ""
    for _ in range(TAGS_SHOWN):
        if len(head) < at + 2:
            break
        kind = _u16(head, at)
        if kind in (VLAN, SERVICE_VLAN) and len(head) >= at + 4:
            text += "s-" if kind == SERVICE_VLAN else ""
            text += f"vlan {_u16(head, at + 2) & 0xFFF} "
            at += 4
            continue
        return text + _payload(kind, head[at + 2 :])
    return text + "..."


def _payload(kind: int, rest: bytes) -> str:
    if kind == IP4:
        return ip4(rest)
    if kind == ARP:
        return _arp(rest)
    if kind == IP6:
        return ip6(rest)
    return _cut(f"type 0x{kind:04x}" if kind >= 0x600 else f"length {kind}", rest)


def _arp(head: bytes) -> str:
    if len(head) < 28:
        return _cut("ARP", head)
    if head[:6] != b"\x00\x01\x08\x00\x06\x04":
        return _cut("ARP, not for Ethernet and IPv4", head)
    sender, target = IPv4Address(head[14:18]), IPv4Address(head[24:28])
    kind = _u16(head, 6)
    if kind == 1:
        return f"ARP who-has {target} tell {sender}"
    if kind == 2:
        return f"ARP {sender} is-at {mac(head[8:14])} to {target}"
    return f"ARP operation {kind} {sender} > {target}"


def ip6(head: bytes) -> str:
    """The line for bytes that begin with an IPv6 header."""
    if len(head) < 40:
        return _cut("IPv6", head)
    text = f"IPv6 {IPv6Address(head[8:24])} > {IPv6Address(head[24:40])} hops {head[7]}"
    if head[0] >> 4 != VERSION_6:
        return f"{text} (first byte 0x{head[0]:02x} is wrong)"
    kind, rest = head[6], head[40:]
    while kind in EXTENSIONS and len(rest) >= 8:
        text += f" {EXTENSIONS[kind]}"
        size = 8 * (rest[1] + 1)
        if kind == FRAGMENT:
            size, first = 8, _u16(rest, 2) & 0xFFF8
            text += f" at {first}" + ("" if rest[3] & 1 else ", the last")
            if first:
                return f"{text} {_protocol(rest[0])[0]}"
        elif kind == AH:
            size = 4 * (rest[1] + 2)
        kind, rest = rest[0], rest[size:]
    name, read = _protocol(kind)
    return f"{text} {read(rest) if read else name}"


def _protocol(kind: int) -> tuple[str, Callable[[bytes], str] | None]:
    if kind in EXTENSIONS:
        return EXTENSIONS[kind], None
    return PROTOCOLS6.get(kind, PROTOCOLS.get(kind, (f"protocol {kind}", None)))


def _icmp6(head: bytes) -> str:
    if len(head) < 8:
        return _cut("ICMPv6", head)
    kind, code, word = head[0], head[1], int.from_bytes(head[4:8], "big")
    text = f"ICMPv6 {ICMP6_TYPES.get(kind, f'type {kind}')}"
    if kind in (SOLICITATION, ADVERTISEMENT) and len(head) >= 24:
        return _nd(kind, head)
    if kind in ICMP6_ECHO:
        return f"{text} id {word >> 16} seq {word & 0xFFFF}"
    if kind == UNREACHABLE6:
        return f"{text}: {UNREACHABLE6_CODES.get(code, f'code {code}')}"
    if kind == TOO_BIG6:
        return f"{text} mtu {word}"
    text += f" code {code}" if code else ""
    return f"{text} at {word}" if kind == PROBLEM6 else text


def _nd(kind: int, head: bytes) -> str:
    """A neighbor's solicitation or advertisement, with the MAC in its first option."""
    target = IPv6Address(head[8:24])
    known = len(head) >= 32 and head[24] in (1, 2) and head[25] == 1
    its = mac(head[26:32]) if known else ""
    if kind == SOLICITATION:
        return f"ND who-has {target}" + (f" tell {its}" if its else "")
    flags = "".join(f" {name}" for bit, name in ND_FLAGS if head[4] & bit)
    return f"ND {target}" + (f" is-at {its}" if its else " is there") + flags


def _icmp(head: bytes) -> str:
    if len(head) < 8:
        return _cut("ICMP", head)
    kind, code = head[0], head[1]
    text = f"ICMP {ICMP_TYPES.get(kind, f'type {kind}')}"
    if kind in ICMP_ECHO:
        return f"{text} id {_u16(head, 4)} seq {_u16(head, 6)}"
    if kind == UNREACHABLE:
        return f"{text}: {UNREACHABLE_CODES.get(code, f'code {code}')}"
    return text + (f" code {code}" if code else "")


def _udp(head: bytes) -> str:
    if len(head) < 8:
        return _cut("UDP", head)
    return f"UDP {_u16(head, 0)} > {_u16(head, 2)} length {_u16(head, 4)}"


def _tcp(head: bytes) -> str:
    if len(head) < 20:
        return _cut("TCP", head)
    set_flags = [name for bit, name in enumerate(TCP_FLAGS) if head[13] >> bit & 1]
    flags = " ".join(set_flags) or "no flags"
    sequence, acknowledged = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    return f"TCP {_u16(head, 0)} > {_u16(head, 2)} {flags} seq {sequence} ack {acknowledged}"


PROTOCOLS: dict[int, tuple[str, Callable[[bytes], str] | None]] = {
    1: ("ICMP", _icmp),
    2: ("IGMP", None),
    6: ("TCP", _tcp),
    17: ("UDP", _udp),
    47: ("GRE", None),
    50: ("ESP", None),
    89: ("OSPF", None),
    132: ("SCTP", None),
}


PROTOCOLS6: dict[int, tuple[str, Callable[[bytes], str] | None]] = {
    ICMP6: ("ICMPv6", _icmp6),
    59: ("nothing", None),
}


def _good_frame(head: bytes) -> bool:
    """Whether what is taken for a frame's payload fits its type; a MAC may begin as IPv6 does."""
    at = 12
    while len(head) >= at + 4 and _u16(head, at) in (VLAN, SERVICE_VLAN):
        at += 4
    if len(head) < at + 3:
        return False
    kind, version = _u16(head, at), head[at + 2] >> 4
    if kind == ARP:
        return head[at + 2 : at + 4] == b"\x00\x01"
    return (kind, version) in ((IP4, VERSION_4), (IP6, VERSION_6))


def _good_ip4(head: bytes) -> bool:
    size = 4 * (head[0] & 15) if head else 0
    right = size >= 20 and head[0] >> 4 == VERSION_4 and len(head) >= size
    return right and _sum(head[:size]) == 0xFFFF


def _sum(text: bytes) -> int:
    """The ones-complement sum of an even number of bytes (RFC 1071)."""
    total = sum(text[::2]) * 256 + sum(text[1::2])
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _u16(text: bytes, at: int) -> int:
    return text[at] << 8 | text[at + 1]


def _cut(what: str, rest: bytes) -> str:
    shown = rest[:HEX_SHOWN].hex(" ") or "nothing"
    return f"{what}: {shown}" + (" ..." if len(rest) > HEX_SHOWN else "")
