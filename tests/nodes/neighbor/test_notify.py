"""neighbor-notify: everything goes on, and control is told which stale neighbors are used."""

import itertools
import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.io.libc import libc_address
from vforward.nodes.neighbor import events as ev
from vforward.nodes.neighbor.notify import NODE
from vforward.tables.addresses import halves, mapped_int
from vforward.tables.adjacency import ADJACENCY
from vforward.testing import run_node

HOPS = [(1, mapped_int(7)), (65535, mapped_int(7)), (1, 0xFE80 << 112 | 7), (2, 2**128 - 1)]


def make_tables(events):
    adjacencies = np.zeros(len(HOPS), ADJACENCY)
    for record, (port, hop) in zip(adjacencies, HOPS, strict=True):
        record["tx_port"], record["next_hop"] = port, halves(hop)
    return {"adjacencies": adjacencies, "events": np.zeros(ev.items_for(events), np.uint64)}


def run(numbers, tables, vector):
    def prepare(record, i):
        record["adjacency"] = numbers[i]

    frames = [bytes([i & 0xFF]) * 60 for i in range(len(numbers))]
    result = run_node(NODE, frames, tables=tables, meta=prepare, vector=vector)
    assert result.out == {"rewrite": frames}
    result.pool.check(held=result.rows)
    told = [(e.kind, e.flags, e.port, e.ip, e.mac) for e in ev.drain(tables["events"])]
    return result, told


@settings(max_examples=30, deadline=None)
@given(
    numbers=st.lists(st.integers(0, len(HOPS) - 1), min_size=1, max_size=40),
    events=st.sampled_from([2, 8, 128]),
    vector=st.sampled_from([1, 3, 256]),
)
def test_runs_of_a_neighbor_are_told_once_per_call(numbers, events, vector):
    result, told = run(numbers, make_tables(events), vector)
    runs = [
        number
        for first in range(0, len(numbers), vector)
        for number, _ in itertools.groupby(numbers[first : first + vector])
    ]
    room = events // 2  # the other half is for what is told once
    assert told == [(ev.USED, 0, *HOPS[number], 0) for number in runs[:room]]
    assert result.counters == {"events-full": max(0, len(runs) - room)}


def test_the_bell_is_rung_once_per_call():
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        tables = make_tables(64)
        ev.set_bell(tables["events"], libc_address("write"), fd)
        run([0, 1, 2, 0, 0, 0], tables, 3)
        assert os.eventfd_read(fd) == 2
    finally:
        os.close(fd)
