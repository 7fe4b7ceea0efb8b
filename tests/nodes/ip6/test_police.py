"""ip6-police: marks, and what is policed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes import network6 as net
from nodes.ip4.test_police import L3, prepare_as, world
from nodes.network import drops
from vforward.layout import BUF_ROOM
from vforward.nodes.ip6.police import NODE
from vforward.tables.policer import DROP, PASS
from vforward.tables.treatment import KEEP
from vforward.testing.run_node import run_node

marks = st.sampled_from((KEEP, 0, 1, 46, 63))


def marked(packet, dscp):
    """RFC 8200 section 7, RFC 2474 section 3: the upper six bits of the traffic class."""
    word = int.from_bytes(packet[:4], "big")
    return (word & 0xF03FFFFF | dscp << 22).to_bytes(4, "big") + packet[4:]


def with_class(packet, kind):
    word = int.from_bytes(packet[:4], "big")
    return (word & 0xF00FFFFF | kind << 20).to_bytes(4, "big") + packet[4:]


@settings(deadline=None)
@given(
    st.lists(st.tuples(net.valid_packets(), st.integers(0, 255), marks), min_size=1, max_size=20)
)
def test_marks(cases):
    treatments, _, tables = world()
    numbers = [treatments.number(dscp) for _, _, dscp in cases]
    packets = [with_class(packet, kind) for packet, kind, _ in cases]
    result = net.run_both(
        NODE, [b"\x5a" * L3 + p for p in packets], l3=L3, meta=prepare_as(numbers), tables=tables
    )
    assert result.edges == ["arc-1"] * len(cases)
    assert not result.counted
    for i, (_, _, dscp) in enumerate(cases):
        wanted = packets[i] if dscp == KEEP else marked(packets[i], dscp)
        assert result.frames[i] == b"\x5a" * L3 + wanted


@pytest.mark.parametrize("size", [40, 100, 1500, BUF_ROOM + 1, 9000])
def test_policing(size):
    treatments, policers, tables = world()
    policers.define(1, 8000, 2 * size, excess_burst=size, actions=(PASS, 10, DROP))
    packet = with_class(net.Ip6Spec(bytes(size - 40)).build(), 3)
    number = treatments.number(46, 1)
    result = run_node(
        NODE, [b"\x5a" * L3 + packet] * 6, l3=L3, meta=prepare_as([number] * 5 + [0]), tables=tables
    )
    wanted = [marked(packet, 46)] * 2 + [marked(packet, 10)] + [packet] * 3
    assert result.frames == [b"\x5a" * L3 + p for p in wanted]
    assert result.edges == ["arc-1"] * 3 + ["drop"] * 2 + ["arc-1"]
    assert result.counted == drops(result) == {"policed": 2}
    assert policers.statistics(1) == ((2, 1, 2), (2 * size, size, 2 * size))
