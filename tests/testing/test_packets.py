# SPDX-License-Identifier: Apache-2.0
"""The packet builders against scapy's dissector, which recomputes what they computed."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.testing.packets import (
    BROADCAST,
    ETH_ARP,
    ETH_IP4,
    ETH_IP6,
    ETH_MIN,
    ETH_QINQ,
    ETH_VLAN,
    PROTO_ICMP,
    PROTO_ICMP6,
    PROTO_TCP,
    PROTO_UDP,
    arp_reply,
    arp_request,
    checksum,
    eth,
    icmp6,
    icmp6_echo,
    icmp_echo,
    ip4,
    ip4_bytes,
    ip6,
    ip6_bytes,
    mac_bytes,
    neighbor_advertisement,
    neighbor_solicitation,
    tcp,
    udp,
    vlan,
)

logging.getLogger("scapy").setLevel(logging.CRITICAL)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import (
        ICMPv6EchoReply,
        ICMPv6EchoRequest,
        ICMPv6ND_NA,
        ICMPv6ND_NS,
        ICMPv6NDOptDstLLAddr,
        ICMPv6NDOptSrcLLAddr,
        ICMPv6PacketTooBig,
        IPv6,
    )
    from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

A_MAC, B_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
A, B = "10.0.0.1", "198.51.100.7"
PAYLOADS = st.binary(max_size=64)


def rebuilt(raw: bytes, *layers: Any) -> bytes:
    """Return what scapy makes of the dissected frame when it must compute every checksum."""
    packet = Ether(raw)
    for layer in layers:
        assert layer in packet
        for name in ("chksum", "len", "ihl", "dataofs"):
            if name in [f.name for f in packet[layer].fields_desc]:
                packet[layer].delfieldval(name)
    return bytes(packet)


def frame(packet: bytes) -> bytes:
    return eth(A_MAC, B_MAC, ETH_IP4, packet)


@given(PAYLOADS, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_udp(payload: bytes, sport: int, dport: int) -> None:
    raw = frame(ip4(A, B, PROTO_UDP, udp(A, B, sport, dport, payload)))
    packet = Ether(raw)
    assert (packet[IP].src, packet[IP].dst, packet[IP].ttl) == (A, B, 64)
    assert (packet[UDP].sport, packet[UDP].dport) == (sport, dport)
    assert rebuilt(raw, IP, UDP) == raw


@given(
    PAYLOADS,
    st.binary(max_size=40).map(lambda o: b"\x01" * len(o)),
    st.sets(st.sampled_from("FSRPAUEC")),
)
def test_tcp(payload: bytes, options: bytes, flags: set[str]) -> None:
    segment = tcp(
        A, B, 1, 2, payload, seq=7, ack=9, flags="".join(flags), window=3, options=options
    )
    raw = frame(ip4(A, B, PROTO_TCP, segment))
    packet = Ether(raw)
    assert (packet[TCP].seq, packet[TCP].ack, packet[TCP].window) == (7, 9, 3)
    assert set(str(packet[TCP].flags)) == flags
    assert bytes(packet[TCP].payload) == payload
    checked = Ether(raw)
    checked[TCP].delfieldval("chksum")
    assert bytes(checked) == raw


@given(PAYLOADS, st.integers(0, 0xFFFF), st.booleans())
def test_icmp_echo(payload: bytes, seq: int, reply: bool) -> None:
    raw = frame(ip4(A, B, PROTO_ICMP, icmp_echo(5, seq, payload, reply=reply)))
    packet = Ether(raw)
    assert (packet[ICMP].type, packet[ICMP].id, packet[ICMP].seq) == (0 if reply else 8, 5, seq)
    assert rebuilt(raw, IP, ICMP) == raw


@given(PAYLOADS, st.integers(0, 10), st.booleans(), st.booleans(), st.integers(0, 0x1FFF))
def test_ip4_fields(payload: bytes, words: int, df: bool, mf: bool, off: int) -> None:
    packet = ip4(
        A, B, 99, payload,
        ttl=3, tos=4, ident=5, flags_df=df, flags_mf=mf, frag_off=8 * off,
        options=b"\x01\x01\x01\x01" * words,
    )  # fmt: skip
    seen = IP(packet)
    assert (seen.ttl, seen.tos, seen.id, seen.proto) == (3, 4, 5, 99)
    assert (seen.flags.DF, seen.flags.MF, seen.frag) == (df, mf, off)
    assert (seen.ihl, seen.len) == (5 + words, len(packet))
    assert bytes(seen.payload) == payload
    del seen.chksum
    assert bytes(seen) == packet


A6, B6, GROUP6 = "fe80::a", "2001:db8::b", "ff02::1:ff00:b"


def frame6(packet: bytes) -> bytes:
    return eth(A_MAC, B_MAC, ETH_IP6, packet)


def resummed(raw: bytes, layer: Any, field: str) -> bytes:
    """Return what scapy makes of the frame when it must compute that checksum and the lengths."""
    packet = Ether(raw)
    packet[layer].delfieldval(field)
    packet[IPv6].delfieldval("plen")
    return bytes(packet)


@given(PAYLOADS, st.integers(0, 255), st.integers(0, 0xFFFFF), st.integers(0, 255))
def test_ip6_fields(payload: bytes, traffic_class: int, flow: int, hops: int) -> None:
    packet = ip6(A6, B6, 99, payload, hops=hops, traffic_class=traffic_class, flow=flow)
    seen = IPv6(packet)
    assert (seen.src, seen.dst, seen.nh, seen.hlim) == (A6, B6, 99, hops)
    assert (seen.version, seen.tc, seen.fl, seen.plen) == (6, traffic_class, flow, len(payload))
    assert packet[40:] == payload


@given(PAYLOADS, st.integers(0, 0xFFFF), st.booleans())
def test_icmp6_echo(payload: bytes, seq: int, reply: bool) -> None:
    raw = frame6(ip6(A6, B6, PROTO_ICMP6, icmp6_echo(A6, B6, 5, seq, payload, reply=reply)))
    layer = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    seen = Ether(raw)[layer]
    assert (seen.id, seen.seq, seen.data) == (5, seq, payload)
    assert resummed(raw, layer, "cksum") == raw


def test_icmp6_errors() -> None:
    message = icmp6(A6, B6, 2, 0, (1280).to_bytes(4, "big") + ip6(B6, A6, 59))
    raw = frame6(ip6(A6, B6, PROTO_ICMP6, message))
    assert Ether(raw)[ICMPv6PacketTooBig].mtu == 1280
    assert resummed(raw, ICMPv6PacketTooBig, "cksum") == raw
    assert icmp6(A6, B6, 1, 4, checksum=0xBEEF) == b"\1\4\xbe\xef" + bytes(4)


def test_neighbor_discovery() -> None:
    asked = neighbor_solicitation(A6, GROUP6, "fe80::b", A_MAC)
    raw = frame6(ip6(A6, GROUP6, PROTO_ICMP6, asked, hops=255))
    seen = Ether(raw)
    assert (seen[ICMPv6ND_NS].tgt, seen[ICMPv6NDOptSrcLLAddr].lladdr) == ("fe80::b", A_MAC)
    assert resummed(raw, ICMPv6ND_NS, "cksum") == raw
    told = neighbor_advertisement("fe80::b", A6, "fe80::b", B_MAC, flags="SO")
    raw = frame6(ip6("fe80::b", A6, PROTO_ICMP6, told, hops=255))
    seen = Ether(raw)
    assert (seen[ICMPv6ND_NA].tgt, seen[ICMPv6NDOptDstLLAddr].lladdr) == ("fe80::b", B_MAC)
    assert (seen[ICMPv6ND_NA].R, seen[ICMPv6ND_NA].S, seen[ICMPv6ND_NA].O) == (0, 1, 1)
    assert resummed(raw, ICMPv6ND_NA, "cksum") == raw
    assert len(neighbor_solicitation(0, GROUP6, "fe80::b")) == 24
    assert len(neighbor_advertisement(A6, GROUP6, "fe80::b", flags="")) == 24


@given(PAYLOADS, st.sampled_from((A6, bytes(15) + b"\x07")))
def test_udp_and_tcp_over_ip6(payload: bytes, src: str | bytes) -> None:
    raw = frame6(ip6(src, B6, PROTO_UDP, udp(src, B6, 1, 2, payload)))
    assert resummed(raw, UDP, "chksum") == raw
    raw = frame6(ip6(src, B6, PROTO_TCP, tcp(src, B6, 1, 2, payload)))
    assert resummed(raw, TCP, "chksum") == raw


def test_arp() -> None:
    seen = Ether(eth(BROADCAST, A_MAC, ETH_ARP, arp_request(A_MAC, A, B), pad_to=ETH_MIN))
    assert (seen[ARP].op, seen[ARP].hwsrc, seen[ARP].psrc, seen[ARP].pdst) == (1, A_MAC, A, B)
    assert (seen.dst, len(seen)) == ("ff:ff:ff:ff:ff:ff", 60)
    seen = Ether(eth(B_MAC, A_MAC, ETH_ARP, arp_reply(A_MAC, A, B_MAC, B)))
    assert (seen[ARP].op, seen[ARP].hwdst, seen[ARP].pdst) == (2, B_MAC, B)
    assert bytes(seen[ARP])[:8] == bytes.fromhex("0001080006040002")


def test_vlan() -> None:
    inner = vlan(10, ETH_IP4, ip4(A, B, PROTO_UDP), pcp=5, dei=1)
    seen = Ether(eth(A_MAC, B_MAC, ETH_VLAN, inner))
    assert (seen[Dot1Q].vlan, seen[Dot1Q].prio, seen[IP].dst) == (10, 5, B)
    assert inner[:2] == b"\xb0\x0a"
    seen = Ether(eth(A_MAC, B_MAC, ETH_QINQ, vlan(4094, ETH_VLAN, inner)))
    assert (seen[Dot1AD].vlan, seen[Dot1Q].vlan, seen[IP].dst) == (4094, 10, B)


def test_what_is_wrong_on_purpose_stays_wrong() -> None:
    packet = ip4(A, B, PROTO_UDP, b"xy", checksum=0xFEFF, total_length=19, version=6, ihl=4)
    assert packet[0] == 0x64
    assert packet[2:4] == b"\x00\x13"
    assert packet[10:12] == b"\xfe\xff"
    assert udp(A, B, 1, 2, checksum=0)[6:8] == b"\x00\x00"
    assert icmp_echo(checksum=1)[2:4] == b"\x00\x01"


def test_udp_checksum_of_zero_is_sent_as_ones() -> None:
    plain = udp(A, B, 1, 2, b"\x00\x00")
    total = int.from_bytes(plain[6:8], "big")
    assert udp(A, B, 1, 2, total.to_bytes(2, "big"))[6:8] == b"\xff\xff"


def test_addresses_in_every_form() -> None:
    for mac in (
        A_MAC,
        "02-00-00-00-00-0A",
        "2:0:0:0:0:a",
        bytes.fromhex("02000000000a"),
        0x02000000000A,
    ):
        assert mac_bytes(mac) == bytes.fromhex("02000000000a")
    for address in (A, b"\x0a\x00\x00\x01", 0x0A000001):
        assert ip4_bytes(address) == b"\x0a\x00\x00\x01"
    for address6 in ("fe80::a", b"\xfe\x80" + bytes(13) + b"\x0a", 0xFE80 << 112 | 10):
        assert ip6_bytes(address6) == b"\xfe\x80" + bytes(13) + b"\x0a"
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D  # RFC 1071 section 3: sum ddf2


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: mac_bytes("02:00:00:00:00"), "six hex bytes"),
        (lambda: mac_bytes("02:00:00:00:00:0g"), "not hexadecimal"),
        (lambda: mac_bytes(b"12345"), "5 bytes, want 6"),
        (lambda: mac_bytes(1 << 48), "48 bits"),
        (lambda: ip4_bytes("10.0.0.256"), "10.0.0.256"),
        (lambda: ip4_bytes(b"123"), "IPv4 address"),
        (lambda: ip4_bytes(-1), "IPv4 address"),
        (lambda: eth(A_MAC, B_MAC, 0x10000), "ethertype 65536"),
        (lambda: vlan(4096, ETH_IP4), "VLAN id 4096"),
        (lambda: vlan(1, ETH_IP4, pcp=8), "PCP 8"),
        (lambda: ip4(A, B, 256), "protocol 256"),
        (lambda: ip4(A, B, 1, ttl=256), "TTL 256"),
        (lambda: ip4(A, B, 1, ttl=-1), "TTL -1"),
        (lambda: ip4(A, B, 1, bytes(65516)), "total length 65536"),
        (lambda: ip4(A, B, 1, options=bytes(41)), "at most 40"),
        (lambda: ip4(A, B, 1, frag_off=4), "multiple of 8"),
        (lambda: ip4(A, B, 1, frag_off=65536), "13 bits"),
        (lambda: udp(A, B, 65536, 1), "source port"),
        (lambda: udp(A, B, 1, 1, bytes(65528)), "UDP length"),
        (lambda: tcp(A, B, 1, 1, flags="SX"), "'X'"),
        (lambda: tcp(A, B, 1, 1, options=bytes(41)), "at most 40"),
        (lambda: icmp_echo(1 << 16), "identifier"),
        (lambda: ip6_bytes("fe80::g"), "fe80::g"),
        (lambda: ip6_bytes(bytes(15)), "IPv6 address"),
        (lambda: ip6_bytes(1 << 128), "IPv6 address"),
        (lambda: ip6(A6, B6, 256), "next header 256"),
        (lambda: ip6(A6, B6, 1, hops=256), "hop limit 256"),
        (lambda: ip6(A6, B6, 1, flow=1 << 20), "flow label"),
        (lambda: ip6(A6, B6, 1, traffic_class=256), "traffic class"),
        (lambda: ip6(A6, B6, 1, bytes(65536)), "payload length"),
        (lambda: icmp6(A6, B6, 256), "type 256"),
        (lambda: neighbor_advertisement(A6, B6, A6, flags="X"), "'X'"),
    ],
)
def test_wrong_input_is_refused_in_clear_text(build: Callable[[], bytes], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build()
