"""flow-take-up: packets go on along their arc, each from where it was."""

from vforward.nodes.handoff import resume
from vforward.rings.mpsc import Ring
from vforward.testing.run_node import heap_pool, run_node


def test_packets_go_on_from_where_they_were():
    pool, ring = heap_pool(300), Ring.make(64)
    rows = pool.take(40)
    pool.meta["off"][rows] = pool.meta["end"][rows] = 138
    pool.meta["features"][rows] = [1 << 62 | (1 << (k % 6)) for k in range(40)]
    ring.push(rows)
    result = run_node(resume.NODE, tables={"handed": ring.array}, pool=pool)
    assert result.edges == [f"arc-{k % 6}" for k in range(40)]
    assert result.counters["taken-up"] == 40
    assert (pool.meta["features"][rows] == 1 << 62).all()
