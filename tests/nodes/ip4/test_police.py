"""ip4-police: marks, and what is policed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from nodes.network import Heap, drops, run_both
from oracles import ip4
from strategies import Ip4Spec, ip
from vforward.layout import BUF_ROOM
from vforward.nodes.ip4.police import NODE
from vforward.tables.policer import DROP, PASS, Policers
from vforward.tables.treatment import KEEP, Treatments
from vforward.testing.run_node import run_node

L3 = 14


def world():
    """Buckets that do not fill again while a test runs: a clock that takes years for a second."""
    treatments, policers = Treatments(Heap(), 100), Policers(Heap(), 1 << 42, 8)
    return treatments, policers, {**treatments.tables, **policers.tables}


def marked(packet, dscp):
    """RFC 2474 section 3: the upper six bits; the checksum afresh, where anything changes."""
    if packet[1] >> 2 == dscp:
        return packet
    return ip4.with_checksum(packet[:1] + bytes([dscp << 2 | packet[1] & 3]) + packet[2:])


def prepare_as(numbers):
    def prepare(record, i):
        record["treatment"], record["features"] = numbers[i], 0b1010

    return prepare


marks = st.sampled_from((KEEP, 0, 1, 46, 63))


@settings(deadline=None)
@given(st.lists(st.tuples(strategies.valid_ip4_packets(), marks), min_size=1, max_size=20))
def test_marks(cases):
    treatments, _, tables = world()
    numbers = [treatments.number(dscp) for _, dscp in cases]
    frames = [b"\x5a" * L3 + packet for packet, _ in cases]
    result = run_both(NODE, frames, l3=L3, meta=prepare_as(numbers), tables=tables)
    assert result.edges == ["arc-1"] * len(cases)
    assert (result.meta["features"] == 0b1000).all()
    assert not result.counted
    for i, (packet, dscp) in enumerate(cases):
        wanted = packet if dscp == KEEP else marked(packet, dscp)
        assert result.frames[i] == b"\x5a" * L3 + wanted


def test_every_byte_of_tos():
    packets = [Ip4Spec(b"", tos=tos, dst=ip("10.0.0.9")).build() for tos in range(256)]
    treatments, _, tables = world()
    for dscp in (0, 21, 63):
        numbers = [treatments.number(dscp)] * 256
        result = run_both(NODE, packets, meta=prepare_as(numbers), tables=tables)
        assert result.frames == [marked(packet, dscp) for packet in packets]


@pytest.mark.parametrize("size", [20, 100, 1500, BUF_ROOM + 1, 9000, 65535])
@pytest.mark.parametrize("vector", [1, 256])
def test_policing(size, vector):
    """Bytes from the IP header on, in all buffers; the colours' actions."""
    treatments, policers, tables = world()
    policers.define(1, 8000, 2 * size, excess_burst=size, actions=(PASS, 10, DROP))
    packet = Ip4Spec(bytes(size - 20), tos=1, dst=ip("10.0.0.9")).build()
    number = treatments.number(46, 1)
    result = run_node(
        NODE, [b"\x5a" * L3 + packet] * 6, l3=L3, meta=prepare_as([number] * 5 + [0]),
        tables=tables, vector=vector,
    )  # fmt: skip
    wanted = [marked(packet, 46)] * 2 + [marked(packet, 10)] + [packet] * 3
    assert result.frames == [b"\x5a" * L3 + p for p in wanted]
    assert result.edges == ["arc-1"] * 3 + ["drop"] * 2 + ["arc-1"]
    assert result.counted == drops(result) == {"policed": 2}
    assert policers.statistics(1) == ((2, 1, 2), (2 * size, size, 2 * size))


def test_time_fills_buckets():
    treatments, policers, tables = world()
    policers.hz = 1
    policers.define(1, 1000, 1000, bits=False)
    policers.table[1]["committed"]["tokens"] = 0
    packets = [Ip4Spec(bytes(980)).build()] * 3
    result = run_node(
        NODE, packets, meta=prepare_as([treatments.number(policer=1)] * 3), tables=tables
    )
    assert result.edges == ["arc-1", "drop", "drop"]
    assert np.array_equal(policers.table[1]["packets"], [1, 0, 2])
