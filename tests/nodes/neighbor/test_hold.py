"""Holding, as both families' nodes do it: one table, one queue for each next hop. See test_resolve too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.layout import BUF_ROOM
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.nd import resolve as nd_resolve
from vforward.nodes.neighbor import events as ev
from vforward.nodes.neighbor.hold import Count
from vforward.tables import held as table
from vforward.tables.addresses import halves, mapped_int
from vforward.tables.adjacency import ADJACENCY
from vforward.testing import run_node
from vforward.testing.run_node import heap_pool

HOPS = [mapped_int(7), mapped_int(8), 0xFE80 << 112 | 7]
NODES = [arp_resolve.NODE, nd_resolve.NODE]


def make_tables(limit):
    adjacencies = np.zeros(len(HOPS), ADJACENCY)
    adjacencies["tx_port"] = 2
    adjacencies["next_hop"] = [halves(hop) for hop in HOPS]
    held = table.prepare(np.zeros(table.items_for(16), table.HELD), limit)
    return {
        "adjacencies": adjacencies,
        "held": held,
        "events": np.zeros(ev.items_for(16), np.uint64),
    }


calls = st.tuples(st.sampled_from(NODES), st.sampled_from(range(len(HOPS))), st.integers(1, 30))


@settings(max_examples=30, deadline=None)
@given(given_calls=st.lists(calls, min_size=1, max_size=6), limit=st.sampled_from([3, 10, 100]))
def test_both_families_share_a_next_hops_queue(given_calls, limit):
    tables, pool = make_tables(limit), heap_pool(256)
    model, told, refused = {}, [], 0
    for node, hop, n in given_calls:

        def prepare(record, _, hop=hop):
            record["adjacency"] = hop

        result = run_node(node, [bytes(60)] * n, tables=tables, meta=prepare, pool=pool)
        for row, edge in zip(result.rows.tolist(), result.edges, strict=True):
            total = sum(map(len, model.values()))
            if edge == "drop":
                assert total >= limit
                assert hop not in model
                refused += 1
                pool.put(np.array([row], np.uint32))
                continue
            if hop not in model:
                told.append((ev.RESOLVE, HOPS[hop]))
            queue = model.setdefault(hop, [])
            if len(queue) == table.QUEUE or total >= limit:
                queue.pop(0)
            queue.append(row)
        assert result.counters["table-full"] == result.edges.count("drop")
        assert all(
            result.reason(i) == "table-full" for i, e in enumerate(result.edges) if e == "drop"
        )
    assert [(e.kind, e.ip) for e in ev.drain(tables["events"])] == told
    table.check(tables["held"])
    rows = table.held_rows(tables["held"])
    assert sorted(rows) == sorted(row for queue in model.values() for row in queue)
    pool.check(held=rows)
    assert pool.free == pool.size - len(rows)


@pytest.mark.parametrize("node", NODES)
def test_what_may_wait_is_counted_in_buffers(node):
    """Else those who send super-frames to nobody could have the whole pool held."""
    tables, pool = make_tables(40), heap_pool(256)
    size = 16 * BUF_ROOM

    def hold(hop, *lengths):
        def prepare(record, _):
            record["adjacency"] = hop

        result = run_node(node, [bytes(n) for n in lengths], tables=tables, meta=prepare, pool=pool)
        dropped = [row for row, edge in zip(result.rows, result.edges) if edge == "drop"]
        pool.put(np.array(dropped, np.uint32))
        table.check(tables["held"])
        held = table.held_rows(tables["held"])
        pool.check(held=held)
        assert pool.size - pool.free == int(tables["held"][0]["total"]) <= 40
        return result.edges, result.counted

    assert hold(0, size, size, size) == (["held", "held", "drop"], {"table-full": 1})
    assert hold(1, size) == (["drop"], {"table-full": 1})
    assert hold(0, *[60] * 8) == (["held"] * 8, {})
    assert hold(0, 60) == (["held"], {"queue-full": 1})  # which was one of the long ones
    assert pool.size - pool.free == 25
    assert hold(1, 13 * BUF_ROOM, 60, 60) == (["held"] * 3, {})
    assert hold(1, 60) == (["held"], {"queue-full": 1})  # there is no room, so its oldest goes
    assert pool.size - pool.free == 28


def test_its_reasons_are_drops():
    assert [label.label for label in Count if label.drop] == [
        "queue-full", "table-full", "events-full",
    ]  # fmt: skip
