"""The index ring against a deque; then two threads, and two processes, at its ends."""

import threading
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rings import stress
from vforward.jit.intrinsics import relax
from vforward.jit.kernel import kernel
from vforward.rings.spsc import HEAD, TAIL, Ring, items_for, pop, pop_all, push, push_all

KINDS = (np.uint32, np.uint64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asked", "slots"), [(1, 1), (2, 2), (3, 4), (1000, 1024)])
def test_slots_are_a_power_of_two(asked, slots, kind):
    ring = Ring.make(asked, kind)
    assert ring.slots == ring.free_slots() == slots
    assert ring.push(np.arange(slots + 1)) == slots
    assert (ring.used_slots(), ring.free_slots()) == (slots, 0)
    assert ring.pop(slots + 1).tolist() == list(range(slots))
    assert ring.used_slots() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_a_cache_line(kind):
    rings = [Ring.make(1 << log2, kind) for log2 in range(12) for _ in range(3)]
    assert {ring.array.ctypes.data % 64 for ring in rings} == {0}


steps = st.lists(
    st.tuples(st.sampled_from(["push", "pop"]), st.sampled_from([0, 1, 2, 3, 4, 5, 9]))
)


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from(KINDS), start=st.sampled_from([0, 1, 3, 2**32 - 2, 2**63 - 3]), steps=steps
)
def test_it_is_a_bounded_deque(kind, start, steps):
    ring, model, pushed = Ring.make(4, kind), deque(), 0
    words(ring)[[TAIL // 8, HEAD // 8]] = start  # also far from the beginning
    for what, n in steps:
        if what == "push":
            items = np.arange(pushed, pushed + n) & 0xFFFFFFFF
            fit = min(n, 4 - len(model))
            assert ring.push(items) == fit
            model.extend(items[:fit].tolist())
            pushed += fit
        else:
            got = ring.pop(n).tolist()
            assert got == [model.popleft() for _ in range(min(n, len(model)))]
        assert (ring.used_slots(), ring.free_slots()) == (len(model), 4 - len(model))
        ring.check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0, 3, 2**64 - 8])
def test_all_or_none(kind, start):
    ring, items = Ring.make(4, kind), np.arange(1, 9, dtype=kind)
    words(ring)[[TAIL // 8, TAIL // 8 + 1, HEAD // 8, HEAD // 8 + 1]] = start
    to = np.zeros(8, kind)
    assert not push_all(ring.array, items, 5)
    assert push_all(ring.array, items, 3)
    assert not push_all(ring.array, items, 2)
    assert not pop_all(ring.array, to, 4)
    assert not to.any()
    assert pop_all(ring.array, to, 2)
    assert push_all(ring.array, items[3:], 3)
    assert pop_all(ring.array, to[2:], 4)
    assert to.tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
    assert not pop_all(ring.array, to, 1)
    ring.check()


def test_values_keep_their_width():
    wide, narrow = Ring.make(2, np.uint64), Ring.make(2, np.uint32)
    wide.push(np.array([2**64 - 1], np.uint64))
    narrow.push(np.array([2**32 - 1], np.uint32))
    assert wide.pop(1).tolist() == [2**64 - 1]
    assert narrow.pop(1).tolist() == [2**32 - 1]


@pytest.mark.parametrize("tail", [5, 2**64 - 1, 2**63])
def test_a_peer_that_lies_stops_the_ring_only(tail):
    ring = Ring.make(4)
    words(ring)[TAIL // 8] = tail
    assert (ring.used_slots(), ring.free_slots(), ring.push([1]), ring.pop(9).size) == (0, 0, 0, 0)
    with pytest.raises(AssertionError):
        ring.check()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(32, np.uint32),
        np.zeros(35, np.uint32),
        np.zeros(36, np.int32),
        np.zeros((1, 36), np.uint32),
        np.zeros(72, np.uint32)[::2],
        np.zeros(37, np.uint32)[1:],
    ],
)
def test_what_is_no_ring_is_refused(array):
    with pytest.raises(ValueError, match="ring"):
        Ring(array)


def test_no_slots_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        items_for(0)


N = 300_000


@kernel
def produce(ring, scratch, n):
    sent = 0
    while sent < n:
        batch = min(1 + sent % 61, n - sent)
        for i in range(batch):
            scratch[i] = (sent + i) * 2654435761 & 0xFFFFFFFF
        pushed = push(ring, scratch, batch)
        sent += pushed
        if pushed == 0:
            relax()


@kernel
def consume(ring, scratch, n):
    """How many of n items came as they were sent, in order."""
    got, right = 0, 0
    while got < n:
        batch = pop(ring, scratch, 1 + got % 53)
        for i in range(batch):
            right += scratch[i] == ((got + i) * 2654435761 & 0xFFFFFFFF)
        got += batch
        if batch == 0:
            relax()
    return right


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [1, 64, 1024])
def test_two_threads(slots, kind):
    n = N if slots > 1 else 2000  # a full ring of one slot changes hands by the time slice
    ring = Ring.make(slots, kind)
    producer = threading.Thread(target=produce, args=(ring.array, np.zeros(64, kind), n))
    producer.start()
    right = consume(ring.array, np.zeros(64, kind), n)
    producer.join()
    assert right == n
    ring.check()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    assert stress.run("spsc", 1, stress.ITEMS) == (stress.ITEMS, stress.ITEMS)


def words(ring):
    return ring.array[: 128 // ring.array.itemsize].view(np.uint64)
