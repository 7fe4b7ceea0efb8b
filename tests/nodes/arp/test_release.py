"""arp-release: what is held goes out in order, in vectors of any size, by its outcome's edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.layout import CHAINED
from vforward.nodes.arp import events as ev
from vforward.nodes.arp.release import NODE
from vforward.rings.spsc import Ring
from vforward.tables import held as table
from vforward.testing import run_node
from vforward.testing.run_node import heap_pool

EDGES = ("forward", "unreachable")


class Bench:
    def __init__(self):
        self.pool = heap_pool(1024)
        self.held = table.prepare(np.zeros(table.items_for(64), table.HELD), 512)
        self.ring = Ring.make(16, np.uint64)

    def hold(self, port, ip, n):
        rows = self.pool.take(n)
        self.pool.meta["off"][rows], self.pool.meta["end"][rows] = 138, 138 + 20
        self.pool.meta["flags"][rows], self.pool.meta["rest"][rows] = 0, 0
        key = table.key_of(port, ip)
        for row in rows:
            table.append(self.held, int(table.probe(self.held, key)), key, row)
        return rows.tolist()

    def release(self, port, ip, outcome):
        assert self.ring.push([ev.release_word(port, ip, outcome)])

    def poll(self, vector):
        """[(row, edge)]; a packet that is unreachable says so to icmp4-error."""
        tables = {"held": self.held, "releases": self.ring.array}
        result = run_node(NODE, tables=tables, vector=vector, pool=self.pool)
        table.check(self.held)
        for record, edge in zip(result.meta, result.edges, strict=True):
            assert edge == "forward" or record["scratch"] == 3 << 8 | 1
        assert result.counters["unreachable"] == result.edges.count("unreachable")
        self.pool.check(held=[*table.held_rows(self.held), *result.rows])
        self.pool.put(result.rows)
        return list(zip(result.rows.tolist(), result.edges, strict=True))

    def poll_all(self, vector):
        out = []
        while got := self.poll(vector):
            out += got
        return out


queues = st.dictionaries(
    st.tuples(st.sampled_from([1, 65535]), st.sampled_from([0, 7, 2**32 - 1])), st.integers(1, 8)
)


@settings(max_examples=25, deadline=None)
@given(
    queues=queues,
    order=st.permutations(range(6)),
    outcomes=st.lists(st.integers(0, 1), min_size=6, max_size=6),
    vector=st.sampled_from([1, 2, 8, 256]),
)
def test_each_release_emits_its_queue_in_order(queues, order, outcomes, vector):
    bench, expected = Bench(), []
    rows = {key: bench.hold(*key, n) for key, n in queues.items()}
    keys = [(port, ip) for port in (1, 65535) for ip in (0, 7, 2**32 - 1)]
    for i in order:
        bench.release(*keys[i], outcomes[i])
        expected += [(row, EDGES[outcomes[i]]) for row in rows.get(keys[i], ())]
    assert bench.poll_all(vector) == expected
    assert table.held_packets(bench.held) == 0
    assert bench.pool.free == bench.pool.size


@pytest.mark.parametrize("outcome", [0, 1])
def test_what_comes_during_a_release_waits_for_the_next(outcome):
    bench = Bench()
    first = bench.hold(1, 7, 3)
    bench.release(1, 7, outcome)
    assert bench.poll(1) == [(first[0], EDGES[outcome])]
    later = bench.hold(1, 7, 2)
    assert bench.poll_all(1) == [(row, EDGES[outcome]) for row in first[1:]]
    assert sorted(table.held_rows(bench.held)) == sorted(later)
    bench.release(1, 7, ev.FORWARD)
    assert bench.poll_all(1) == [(row, "forward") for row in later]


def test_a_release_of_nothing_is_nothing():
    bench = Bench()
    bench.release(1, 7, ev.FORWARD)
    assert bench.poll(1) == []
    assert bench.ring.used_slots() == 0


def test_chains_stay_whole():
    bench = Bench()
    row, following = bench.hold(1, 7, 1)[0], int(bench.pool.take(1)[0])
    meta = bench.pool.meta
    meta[row]["flags"] |= CHAINED
    meta[row]["next"], meta[row]["rest"] = following, 5
    meta[following]["flags"], meta[following]["off"], meta[following]["end"] = 0, 138, 143
    bench.release(1, 7, ev.FORWARD)
    assert bench.poll(256) == [(row, "forward")]
    assert bench.pool.free == bench.pool.size
