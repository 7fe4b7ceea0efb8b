"""icmp6-echo against the oracle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.network6 import BARE, LAN, N_PORTS, NO_LINK_LOCAL, Ip6Spec, a
from oracles import icmp6
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, GSO, HEADROOM, LINK_BROADCAST, SELF_MADE, TRACED
from vforward.nodes.icmp6.echo import NODE
from vforward.packet.ip6 import HEADER

PEER_MAC = net.mac(0x99)
SUBNETS = tuple(dict.fromkeys(to for port in range(1, N_PORTS) for to in net.anycast(port)))


def compare(requests, flags=0):
    """Give requests, as (packet, port), to the node, as ip6-local would, and to the oracle."""

    def prepare(record, i):
        packet, port = requests[i]
        link = len(net.link_header(port, PEER_MAC))
        record["rx_port"], record["l3"] = port, HEADROOM + link
        record["l4"] = HEADROOM + link + icmp6.ip6.walk(packet).offset
        record["flags"] |= flags

    frames = [net.link_header(port, net.mac(port), PEER_MAC) + packet for packet, port in requests]
    result = net.run_both(NODE, frames, meta=prepare, compare=("off", "end", "l3", "flags", "rest"))
    for i, (packet, port) in enumerate(requests):
        to = icmp6.ip6.source(packet)
        speak = net.speaker(port, to)
        asked = icmp6.ip6.destination(packet)
        if speak is None and (asked.is_multicast or asked in net.anycast(port)):
            assert (result.edges[i], result.reason(i)) == ("drop", "no-address")
            assert result.frames[i] == frames[i]
            continue
        reply = icmp6.echo_reply(packet, speak, anycast=asked in net.anycast(port))
        record = result.meta[i]
        assert record["flags"] & SELF_MADE
        if to.is_link_local or asked.is_link_local:
            link = net.link_header(port, PEER_MAC)
            assert (result.edges[i], result.frames[i]) == ("link", link + reply)
            assert record["tx_port"] == port
            assert record["l3"] == record["off"] + len(link)
        else:
            assert (result.edges[i], result.frames[i]) == ("reply", reply)
            assert record["l3"] == record["off"]
    assert result.counters["no-address"] == result.edges.count("drop")
    return result


def echo(body=b"\x12\x34\0\1", **fields):
    return Ip6Spec(**{"dst": a("2001:db8:1::1"), **fields}).icmp(b"\x80\0\0\0" + body).build()


@st.composite
def requests(draw):
    packet = echo(
        draw(st.sampled_from((bytes(4), b"\xff" * 4, b"\0\1\0\2abc", bytes(range(60))))),
        src=draw(st.sampled_from(net.GLOBAL + net.LINK)),
        dst=draw(st.sampled_from((*net.OWN, *SUBNETS, a("ff02::1"), a("ff02::1:ff00:1")))),
        hops=draw(st.integers(0, 255)),
        flow=draw(st.sampled_from((0, 0xFFFFFFF))),
        headers=draw(st.sampled_from(([], [], *([e] for e in net.EXTENSIONS[:5])))),
    )
    return packet, draw(st.integers(1, N_PORTS - 1))


@settings(max_examples=150, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=12))
def test_against_the_oracle(requests):
    compare(requests)


def test_every_checksum():
    """By the identifier every one of a message's checksums is reached, in steps of 37."""
    idents = (*range(0, 65536, 37), *range(0xFD00, 0xFF00))
    for src, dst in (("2001:db8::9", "ff02::1"), ("2001:db8::9", "2001:db8:1::1")):
        made = [echo(ident.to_bytes(4, "big"), src=a(src), dst=a(dst)) for ident in idents]
        assert len({packet[42:44] for packet in made}) > 1500
        compare([(packet, LAN) for packet in made])


@pytest.mark.parametrize("size", [1452, BUF_ROOM, 9000, 65000])
@pytest.mark.parametrize("headers", [[], [(60, net.options(1, 100, size=13))]])
def test_long_requests(size, headers):
    packet = echo(bytes(i & 255 for i in range(size)), headers=headers)
    compare([(packet, LAN), (packet[:8] + a("fe80::9").packed + packet[24:], LAN)][:1])
    compare([(echo(bytes(size), headers=headers, src=a("fe80::9")), net.STACKED)])


def test_groups_are_answered_by_an_address_of_the_ports():
    asked = {"dst": a("ff02::1")}
    packets = [echo(src=a(src), **asked) for src in ("2001:db8::9", "fe80::9")]
    result = compare([(p, port) for p in packets for port in (LAN, NO_LINK_LOCAL, BARE)])
    assert result.edges == ["reply", "reply", "reply", "link", "drop", "drop"]
    spoke = [frame[8:24] for frame in result.frames[:3]]
    assert spoke == [a(t).packed for t in ("2001:db8:1::1", "2001:db8:4::1", "2001:db8:1::1")]
    assert result.frames[3][14 + 8 : 14 + 24] == a("fe80::1").packed


def test_a_subnets_anycast_address_does_not_answer_itself():
    """RFC 4443 section 2.2(b)."""
    subnet = echo(src=a("2001:db8::9"), dst=a("2001:db8:1::"))
    result = compare([(subnet, port) for port in (LAN, net.SUB, net.IN_VRF)])
    spoke = [frame[8:24] for frame in result.frames]
    assert spoke == [a(t).packed for t in ("2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::")]


def test_what_a_link_local_address_says_stays_on_the_link():
    """RFC 4291 section 2.5.6: no route leads there, whoever asked."""
    result = compare([(echo(src=a("2001:db8:1::9"), dst=a("fe80::1")), LAN)])
    assert result.edges == ["link"]


def test_flags():
    packet = echo(bytes(4000))
    result = compare([(packet, LAN)], TRACED | CSUM_PARTIAL | GSO | LINK_BROADCAST)
    flags = int(result.meta[0]["flags"])
    assert flags & (TRACED | SELF_MADE) == TRACED | SELF_MADE
    assert not flags & (CSUM_PARTIAL | GSO | LINK_BROADCAST)
    assert HEADER == 40
