"""reassembly-timer: what waits too long is dropped and counted, and never too much at once."""

import numpy as np
import pytest

from nodes.network import Heap
from vforward.nodes.reassembly import timer
from vforward.tables import reassembly as table
from vforward.tables.reassembly import Reassembly, word_of
from vforward.tables.reassembly_check import check
from vforward.testing import heap_pool, run_node

LONG, SHORT = 10**15, 0


class World:
    """Datagrams with pieces that wait, begun so long ago that a table of SHORT time is over."""

    def __init__(self, hz4, hz6, datagrams=0, each=0):
        self.tables = Reassembly(Heap(), 1, 128, 1024)
        self.tables.ip4[0]["started"], self.tables.ip6[0]["started"] = hz4, hz6
        self.pool = heap_pool(1200)
        self.rows = self.pool.take(2 * datagrams * each).tolist()
        self.pool.meta["flags"] = 0
        rows = iter(self.rows)
        for its in (self.tables.ip4, self.tables.ip6):
            for n in range(datagrams):
                key = tuple(map(np.uint64, (0, 1, 0, 2, word_of(0, 17, n))))
                at = table.begin(its, key, np.uint64(1))
                for _ in range(each):
                    assert table.hold(its, self.pool.meta, at, next(rows))

    def poll(self, vector=256):
        """The rows that the timer dropped."""
        result = run_node(timer.NODE, tables=self.tables.tables, pool=self.pool, vector=vector)
        assert set(result.edges) <= {"drop"}
        assert result.counters["expired"] == len(result.edges)
        for its in (self.tables.ip4, self.tables.ip6):
            check(its, self.pool.meta)
        return result.rows.tolist()

    def known(self):
        return [int((its["word"][1:] != 0).sum()) for its in (self.tables.ip4, self.tables.ip6)]


def test_nothing_waits():
    assert World(SHORT, SHORT).poll() == []


@pytest.mark.parametrize(
    ("hz4", "hz6", "left"), [(LONG, LONG, [3, 3]), (SHORT, LONG, [0, 3]), (LONG, SHORT, [3, 0])]
)
def test_each_family_has_its_time(hz4, hz6, left):
    world = World(hz4, hz6, 3, 2)
    dropped = world.poll()
    assert world.known() == left
    assert sorted(dropped + world.tables.held_rows()) == sorted(world.rows)


def test_datagrams_for_which_nothing_waits_are_forgotten():
    world = World(SHORT, SHORT, 20)
    assert world.poll() == []
    assert world.known() == [0, 0]


@pytest.mark.parametrize("vector", [1, 7, 256])
def test_never_more_than_a_vector(vector):
    world = World(SHORT, SHORT, 70, 3)
    dropped = []
    while any(world.known()):
        found = world.poll(vector)
        assert len(found) <= vector
        assert found or world.tables.held_rows() == []
        dropped += found
    assert sorted(dropped) == sorted(world.rows)
