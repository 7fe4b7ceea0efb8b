"""control-inject and the Injector at its ring's other end."""

import pytest

from vforward.layout import BUF_ROOM, SELF_MADE
from vforward.nodes.control.inject import NODE, Injector
from vforward.rings.spsc import Ring
from vforward.testing import run_node
from vforward.testing.run_node import heap_pool


def bench(buffers=300, slots=8):
    pool, ring = heap_pool(buffers), Ring.make(slots).array
    return pool, ring, Injector(pool, ring)


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_frames_come_out_in_order_with_their_port(vector):
    pool, ring, injector = bench()
    frames = [bytes([i]) * n for i, n in enumerate((1, 42, 60, 1514, BUF_ROOM))]
    assert all(injector.send(10 + i, frame) for i, frame in enumerate(frames))
    assert pool.free == pool.size - len(frames)
    seen = []
    while (got := run_node(NODE, tables={"inject": ring}, vector=vector, pool=pool)).rows.size:
        assert set(got.edges) == {"output"}
        assert len(got.rows) <= vector
        assert (got.meta["flags"] == SELF_MADE).all()
        seen += zip(got.frames, got.meta["tx_port"].tolist(), strict=True)
        pool.put(got.rows)
    assert seen == [(frame, 10 + i) for i, frame in enumerate(frames)]
    pool.check()
    assert pool.free == pool.size


def test_a_full_ring_takes_no_buffer():
    pool, _, injector = bench(slots=2)
    assert [injector.send(1, b"x") for _ in range(4)] == [True, True, False, False]
    assert pool.free == pool.size - 2
    injector.close()
    assert pool.free == pool.size
    pool.check()
    assert injector.send(1, b"x")


def test_an_empty_pool_takes_no_slot():
    pool, ring, injector = bench(buffers=4)
    taken = pool.take(4)
    assert not injector.send(1, b"x")
    assert Ring(ring).used_slots() == 0
    pool.put(taken)
    pool.check()


def test_it_keeps_no_buffers_from_others():
    pool, _, injector = bench(buffers=300)
    injector.send(1, b"x")
    assert len(pool.take(299)) == 299


@pytest.mark.parametrize("frame", [b"", bytes(BUF_ROOM + 1)])
def test_frames_that_fit_no_buffer_are_refused(frame):
    _, _, injector = bench()
    with pytest.raises(ValueError, match="can be injected"):
        injector.send(1, frame)
