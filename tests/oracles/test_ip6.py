"""The oracles of IPv6 and ICMPv6 against scapy, and against cases out of the RFCs, by hand."""

import logging
import warnings
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import icmp6, ip6

logging.getLogger("scapy").setLevel(logging.CRITICAL)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import UDP
    from scapy.layers.inet6 import (
        HBHOptUnknown,
        ICMPv6DestUnreach,
        ICMPv6EchoReply,
        ICMPv6EchoRequest,
        ICMPv6PacketTooBig,
        ICMPv6ParamProblem,
        ICMPv6TimeExceeded,
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrFragment,
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrRouting,
        PadN,
    )

A, B = "2001:db8::a", "2001:db8::b"
US = IPv6Address("2001:db8::1")


def resummed(raw, layer):
    """What scapy makes of the packet when it must compute checksum and length."""
    packet = IPv6(raw)
    packet[layer].delfieldval("cksum")
    packet.delfieldval("plen")
    return bytes(packet)


@given(st.binary(max_size=80), st.integers(0, 0xFFFF))
def test_echo_replies_are_scapys(data, ident):
    asked = bytes(IPv6(src=A, dst=B) / ICMPv6EchoRequest(id=ident, seq=3, data=data))
    want = bytes(IPv6(src=B, dst=A) / ICMPv6EchoReply(id=ident, seq=3, data=data))
    assert icmp6.echo_reply(asked, None) == want
    assert icmp6.local(asked) == ("echo", None)


@pytest.mark.parametrize(
    ("kind", "code", "word", "layer"),
    [
        (1, 4, 0, ICMPv6DestUnreach),
        (2, 0, 1280, ICMPv6PacketTooBig),
        (3, 0, 0, ICMPv6TimeExceeded),
        (4, 1, 6, ICMPv6ParamProblem),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 1183, 1184, 1185, 1452])
def test_errors_are_scapys(kind, code, word, layer, size):
    packet = bytes(IPv6(src=A, dst=B) / UDP(sport=1, dport=2) / bytes(size))
    raw = icmp6.error(packet, US, kind, code, word)
    seen = IPv6(raw)
    assert (seen.src, seen.dst, seen.hlim, seen[layer].code) == (str(US), A, 64, code)
    assert getattr(seen[layer], {2: "mtu", 4: "ptr"}.get(kind, "type")) == (word or kind)
    assert raw[48:] == packet[:1232]
    assert len(raw) == min(48 + len(packet), 1280)
    assert resummed(raw, layer) == raw


def packet(*headers, upper=None):
    made = IPv6(src=A, dst=B)
    for header in headers:
        made /= header
    return bytes(made / (upper or UDP(sport=1, dport=2)))


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        ([], (17, 40)),
        ([IPv6ExtHdrHopByHop()], (17, 48)),
        ([IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(options=PadN(optdata=bytes(12)))], (17, 64)),
        ([IPv6ExtHdrRouting(addresses=["::1"], segleft=0), IPv6ExtHdrFragment()], (17, 72)),
    ],
)
def test_walks_end_at_the_upper_layer(headers, want):
    made = packet(*headers)
    found = ip6.walk(made)
    assert (found.protocol, found.offset) == ip6.upper(made) == want
    assert found.fragmented == any(isinstance(h, IPv6ExtHdrFragment) for h in headers)


def test_what_walks_find_wrong():
    """RFC 8200 sections 4, 4.2 and 4.4; RFC 5095."""
    option = {n: IPv6ExtHdrDestOpt(options=HBHOptUnknown(otype=n << 6 | 30)) for n in range(4)}
    assert ip6.walk(packet(option[0])).protocol == 17
    assert ip6.walk(packet(option[1])).drop == "unknown-option"
    assert ip6.walk(packet(option[2])).problem == (4, 2, 42)
    assert ip6.walk(packet(option[3])).problem == (4, 2, 42)
    assert ip6.walk(packet(IPv6ExtHdrRouting(addresses=["::1"]))).problem == (4, 0, 42)
    assert ip6.walk(packet(IPv6ExtHdrFragment(offset=1))).drop == "fragment"
    assert ip6.walk(packet(IPv6ExtHdrFragment(m=1))).drop == "fragment"
    late = ip6.walk(packet(IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop()))
    assert (late.protocol, late.field) == (0, 40)
    to_group = bytearray(packet(option[3]))
    to_group[24:40] = IPv6Address("ff02::1").packed
    assert ip6.walk(bytes(to_group)).drop == "unknown-option"


@pytest.mark.parametrize(
    ("src", "dst", "martian"),
    [
        (A, B, False),
        ("::", "ff02::1:ff00:1", False),  # duplicate address detection
        ("::", B, True),
        ("::", "ff05::2", True),
        (A, "::", True),
        (A, "::1", True),
        ("::1", B, True),
        ("ff02::1", B, True),
        (A, "ff01::1", True),
        (A, "ff00::1", True),
        (A, "ff02::1", False),
        ("::ffff:10.0.0.1", B, True),
        (A, "::ffff:10.0.0.1", True),
        ("fe80::1", "fe80::2", False),
        ("::2", "64:ff9b::1", False),
    ],
)
def test_martians(src, dst, martian):
    assert ip6.is_martian(IPv6Address(src), IPv6Address(dst)) == martian
