"""ip6-input against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.network import bytes_from_l3, drops, no_features
from nodes.network6 import ADDRESSES, LAN, N_PORTS, PORTS, Ip6Spec, a
from oracles import ip6, partial
from vforward.graph.arcs import END
from vforward.layout import BUF_ROOM, CSUM_PARTIAL, HEADROOM, LINK_BROADCAST
from vforward.nodes.ip6.input import NODE

LINK = 14


def wanted(payload, link_multicast, port):
    """(edge, reason or None)."""
    reason = ip6.check(payload, link_multicast)
    if reason is None:
        link = [address for address in PORTS[port - 1].own if address.is_link_local]
        way = ip6.way(ip6.trim(payload), link, net.known(port))
        if way in ("local", "error", "arc-end"):
            return way, None
        reason = way
    return "drop", reason


def compare(packets, l3=LINK):
    """Give link payloads, as (packet, link_multicast, port), to the node and to the oracle."""

    def prepare(record, i):
        record["flags"] |= LINK_BROADCAST * packets[i][1]
        record["rx_port"] = packets[i][2]

    frames = [bytes(range(0xE0, 0xE0 + l3)) + packet for packet, *_ in packets]
    result = net.run_both(
        NODE, frames, l3=l3, meta=prepare, compare=("off", "end", "l3", "flags", "rest", "scratch")
    )
    for i, (packet, link_multicast, port) in enumerate(packets):
        edge, reason = wanted(packet, link_multicast, port)
        assert result.edges[i] == edge, packet.hex()
        if reason:
            assert result.reason(i) == reason, packet.hex()
        else:
            assert bytes_from_l3(result, i) == ip6.trim(packet)
        if edge == "error":
            assert result.meta[i]["scratch"] == 1 << 8 | 2
    told = result.edges.count("error")
    assert result.counted == drops(result) | ({"beyond-scope": told} if told else {})
    return result


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            net.payloads(),
            st.sampled_from((False, False, True)),
            st.integers(1, N_PORTS - 1),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from((LINK, 18, 22)),
)
def test_against_the_oracle(packets, l3):
    compare(packets, l3)


@pytest.mark.parametrize("padding", [b"", bytes(6)])
@pytest.mark.parametrize("dst", ["2001:db8:9::1", "ff02::1", "fe80::1"])
def test_every_truncation(padding, dst):
    packet = Ip6Spec(bytes(9), dst=a(dst), padding=padding).build()
    compare([(packet[:n], False, LAN) for n in range(len(packet) + 1)])


@pytest.mark.parametrize("port", range(1, N_PORTS))
@pytest.mark.parametrize("link_multicast", [False, True])
def test_every_pair_of_addresses_of_interest(port, link_multicast):
    pairs = [(src, dst) for src in ADDRESSES for dst in ADDRESSES]
    compare([(Ip6Spec(src=src, dst=dst).build(), link_multicast, port) for src, dst in pairs])


def test_every_first_two_bytes_of_both_addresses():
    tail = bytes.fromhex("0db80000000000000000000000aa")
    firsts = [bytes([x, y]) for x in range(256) for y in (0, 0x02, 0x7F, 0x80, 0xBF, 0xC0, 0xFF)]
    made = [net.IPv6Address(first + tail) for first in firsts]
    compare([(Ip6Spec(src=address).build(), False, LAN) for address in made])
    compare([(Ip6Spec(dst=address).build(), False, LAN) for address in made])


def test_each_bit_of_the_header_counts():
    packet = Ip6Spec(bytes(4), padding=bytes(4)).build()
    value = int.from_bytes(packet, "big")
    bits = range(8 * len(packet))
    compare([((value ^ 1 << bit).to_bytes(len(packet), "big"), False, LAN) for bit in bits])


def test_every_payload_length():
    lengths = (*range(80), 0x00FF, 0x0100, 0x7FFF, 0x8000, 0xFFFF)
    compare(
        [(Ip6Spec(bytes(20), length=n, padding=bytes(10)).build(), False, LAN) for n in lengths]
    )


@pytest.mark.parametrize("padding", [0, 1, BUF_ROOM, 3 * BUF_ROOM])
@pytest.mark.parametrize("total", [40, BUF_ROOM - LINK, BUF_ROOM - LINK + 1, 5000, 60000])
def test_padding_is_cut_off_chains(total, padding):
    packet = Ip6Spec(bytes(total - 40)).build()
    result = compare([(packet + bytes(padding), False, LAN), (packet[:-1], False, LAN)])
    assert result.edges[0] == "arc-end"
    assert result.reason(1) == ("truncated" if total == 40 else "bad-length")


def test_another_vrf_has_addresses_of_its_own():
    """What is the router's in another VRF is elsewhere here: beyond a link-local source's scope."""
    packet = Ip6Spec(src=a("fe80::9"), dst=a("fd00::1")).build()
    result = compare([(packet, False, LAN), (packet, False, net.IN_VRF)])
    assert result.edges == ["error", "arc-end"]


def test_features_of_the_port_it_came_from():
    masks = no_features(N_PORTS)
    masks[2] |= np.uint64(0b1001_0000)
    masks[3] |= np.uint64(1 << 61)
    masks[-1] = np.bitwise_or.reduce(masks[:-1])
    packet = Ip6Spec(b"").build()
    padded, bad = packet + bytes(26), packet[:-1]
    local = Ip6Spec(dst=a("ff02::1")).build()

    def prepare(record, i):
        record["rx_port"] = i % 4

    frames = [packet] * 4 + [padded] * 4 + [bad] * 4 + [local] * 4
    result = net.run_both(
        NODE, frames, meta=prepare, tables={"features": masks}, compare=("off", "features")
    )
    want = ["arc-end", "arc-end", "arc-4", "arc-61"]
    assert result.edges == want * 2 + ["drop"] * 4 + ["local"] * 4
    assert result.meta["features"][:4].tolist() == [0, 0, END | 1 << 7, END]


FIRST, LATER = b"\0\0\1" + bytes(4), b"\0\x05\x68" + bytes(4)


@pytest.mark.parametrize("protocol", [1, 4, 6, 17, 33, 47, 58, 132, 136])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(ip6.HOP_BY_HOP, net.options(size=2)), (ip6.DESTINATION, net.options())],
        [(ip6.FRAGMENT, FIRST)],
        [(ip6.FRAGMENT, LATER)],
        [(ip6.HOP_BY_HOP, net.options(size=200))],
    ],
    ids=["plain", "extensions", "first", "later", "cut-off"],
)
def test_a_checksum_to_be_completed_changes_nothing_that_was_judged(protocol, headers):
    """A virtual machine says where: whatever is let through still is what rules have seen."""
    body = bytes.fromhex("8000 0035 0010 1234 a5a5a5a5 5011") + bytes(range(46))
    packet = Ip6Spec(body, protocol, headers=headers).build()[:140]
    packet = packet[:4] + (len(packet) - 40).to_bytes(2, "big") + packet[6:]
    transport = 40 + sum(1 + len(rest) for _, rest in headers)
    whole = not headers or (headers[0][1] != LATER and transport < len(packet))
    own = partial.own(transport, protocol, 58) if whole else None
    places = [(start, off) for start in range(90) for off in (0, 2, 6, 8, 16)]
    places += [(transport, 0xFFFF), (0xFF00, 16), (0xFF00, 0xFF00)]

    def prepare(record, i):
        record["flags"] |= CSUM_PARTIAL
        record["csum_start"], record["csum_off"] = HEADROOM + LINK + places[i][0], places[i][1]

    frames = [bytes(LINK) + packet] * len(places)
    result = net.run_both(NODE, frames, l3=LINK, meta=prepare, rx_port=LAN)
    for i, place in enumerate(places):
        edge, at = result.edges[i], sum(place)
        if place == own or (whole and protocol != 6 and at >= transport + 8):
            assert edge == "arc-end", place
        if edge == "arc-end":
            assert place == own or partial.harmless(packet, 6, at), place
            assert bytes_from_l3(result, i) == packet
            assert result.meta[i]["flags"] & CSUM_PARTIAL
        else:
            assert (edge, result.reason(i)) == ("drop", "bad-offload"), place
    assert result.counted == drops(result)
