"""output-take-up: what lies in the ring goes on, a vector at a time."""

from vforward.nodes.handoff import take_up
from vforward.rings.mpsc import Ring
from vforward.testing.run_node import heap_pool, run_node


def test_what_was_handed_over_goes_on_in_order():
    pool, ring = heap_pool(600), Ring.make(512)
    rows = pool.take(300)
    pool.meta["off"][rows] = pool.meta["end"][rows] = 138
    assert ring.push(rows) == 300
    got = []
    for wanted in (256, 44, 0):
        result = run_node(take_up.NODE, tables={"handed": ring.array}, pool=pool)
        assert result.edges == ["next"] * wanted
        assert result.counters["taken-up"] == wanted
        got += result.rows.tolist()
    assert got == rows.tolist()
