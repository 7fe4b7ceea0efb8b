"""arp-resolve against a dict of bounded queues, for few and for too many next hops."""

import itertools
import os
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import Ip4Spec, ip
from vforward.io.libc import libc_address
from vforward.layout import BUF_ROOM
from vforward.nodes.arp.resolve import NODE
from vforward.nodes.neighbor import events as ev
from vforward.tables import held as table
from vforward.tables.addresses import MAPPED
from vforward.tables.adjacency import ADJACENCY
from vforward.testing import run_node

HOP = ip("10.0.0.77")
VIA, GLEAN, OTHER = 5, 6, 7  # adjacencies
PORT = {VIA: 3, GLEAN: 3, OTHER: 65535}
ADJACENCIES = np.zeros(8, ADJACENCY)
for number in (VIA, GLEAN, OTHER):
    ADJACENCIES[number]["tx_port"] = PORT[number]
ADJACENCIES[VIA]["next_hop"] = 0, MAPPED | HOP


def packet(dst, n=0):
    return Ip4Spec(bytes([n]) * 4, src=1, dst=dst).build()


def make_tables(limit=1000, slots=64, events=1024):
    held = table.prepare(np.zeros(table.items_for(slots), table.HELD), limit)
    ring = np.zeros(ev.items_for(events), np.uint64)
    return {"adjacencies": ADJACENCIES, "held": held, "events": ring}


def run(packets, tables, **given):
    """packets: (adjacency, destination). Checks that what is held is held, and nothing else."""

    def prepare(record, i):
        record["adjacency"] = packets[i][0]

    frames = [packet(dst, i & 0xFF) for i, (_, dst) in enumerate(packets)]
    result = run_node(NODE, frames, tables=tables, meta=prepare, **given)
    table.check(tables["held"])
    assert sorted(table.held_rows(tables["held"])) == result.held
    dropped = [int(row) for row, e in zip(result.rows, result.edges, strict=True) if e == "drop"]
    result.pool.check(held=[*result.held, *dropped])
    gone = result.counters["queue-full"]
    assert len(packets) == len(dropped) + len(result.held) + gone  # in = out + drops + held
    events = [(e.kind, e.flags, e.port, e.ip, e.mac) for e in ev.drain(tables["events"])]
    return result, events


destinations = st.sampled_from([HOP, HOP + 1, 0, 1, 2**32 - 1])
packets = st.tuples(st.sampled_from([VIA, GLEAN, OTHER]), destinations)
bursts = st.builds(lambda one, n: [one] * n, packets, st.sampled_from([1, 1, 2, table.QUEUE]))


@settings(max_examples=40, deadline=None)
@given(
    given_packets=st.lists(bursts, min_size=1, max_size=20)
    .map(itertools.chain.from_iterable)
    .map(list),
    limit=st.sampled_from([1, 2, 7, 30, 1000]),
    events=st.sampled_from([1, 2, 4, 64]),
    vector=st.sampled_from([1, 3, 256]),
)
def test_it_is_a_dict_of_queues(given_packets, limit, events, vector):
    tables = make_tables(limit, events=events)
    result, told = run(given_packets, tables, vector=vector)
    model, counters, expected = {}, {}, []
    for i, (adjacency, dst) in enumerate(given_packets):
        key = (PORT[adjacency], HOP if adjacency == VIA else dst)
        total = sum(map(len, model.values()))
        reason, edge = "", "held"
        if key in model:
            if len(model[key]) == table.QUEUE or total >= limit:
                model[key].popleft()
                reason = "queue-full"
            model[key].append(result.rows[i])
        elif total >= limit:
            reason, edge = "table-full", "drop"
        elif len(expected) == events:
            reason, edge = "events-full", "drop"
        else:
            expected.append((ev.RESOLVE, 0, key[0], MAPPED | key[1], 0))
            model[key] = deque([result.rows[i]])
        assert result.edges[i] == edge
        if reason:
            counters[reason] = counters.get(reason, 0) + 1
            assert edge == "held" or result.reason(i) == reason
    assert (result.counted, told) == (counters, expected)
    assert result.held == sorted(int(row) for queue in model.values() for row in queue)


@pytest.mark.parametrize("vector", [1, 256])
def test_a_scan_of_a_prefix_fills_the_table_and_no_more(vector):
    tables = make_tables(slots=16)
    result, told = run([(GLEAN, dst) for dst in range(100)], tables, vector=vector)
    assert len(told) == len(result.held) <= 16
    assert result.counted == {"table-full": 100 - len(told)}


def test_chains_are_held_and_freed_whole():
    tables = make_tables()
    long = packet(HOP) + bytes(2 * BUF_ROOM)

    def prepare(record, _):
        record["adjacency"] = VIA

    result = run_node(NODE, [long] * (table.QUEUE + 3), tables=tables, meta=prepare)
    assert (set(result.edges), result.counted) == ({"held"}, {"queue-full": 3})
    assert result.held == sorted(result.rows[3:].tolist())
    result.pool.check(held=result.held)


def test_the_bell_is_rung_once_per_call():
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        tables = make_tables()
        ev.set_bell(tables["events"], libc_address("write"), fd)
        run([(GLEAN, dst % 6) for dst in range(12)], tables, vector=3)
        assert os.eventfd_read(fd) == 2  # calls three and four have nothing new
    finally:
        os.close(fd)
