"""The ring of many producers against a deque, its holes, and four processes at its ends."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rings import stress
from vforward.rings.mpsc import HEAD, HEADER, TAIL, Ring, words_for

steps = st.lists(
    st.tuples(st.sampled_from(["push", "pop"]), st.sampled_from([0, 1, 2, 3, 4, 5, 9]))
)


@pytest.mark.parametrize(("asked", "slots"), [(1, 1), (2, 2), (3, 4), (1000, 1024)])
def test_full_and_empty_are_exact(asked, slots):
    ring = Ring.make(asked)
    assert ring.slots == ring.free_slots() == slots
    for _ in range(3):
        assert ring.push(np.arange(slots + 1)) == slots
        assert (ring.free_slots(), ring.push([1])) == (0, 0)
        assert ring.pop(slots + 1).tolist() == list(range(slots))
        assert (ring.free_slots(), ring.pop(1).size) == (slots, 0)


@settings(max_examples=50, deadline=None)
@given(start=st.sampled_from([0, 1, 3, 4 * (2**32 - 1) - 2, 2**63 - 3]), steps=steps)
def test_it_is_a_bounded_deque(start, steps):
    ring, model, pushed = Ring.make(4), deque(), 0
    ring.array[[TAIL, HEAD]] = start  # also far from the beginning, and where the lap is 0 again
    ring.array[HEADER:] = 2**63 | 5
    for what, n in steps:
        if what == "push":
            items = np.arange(pushed, pushed + n) + 2**32 - 7 & 0xFFFFFFFF
            fit = min(n, 4 - len(model))
            assert ring.push(items) == fit
            model.extend(items[:fit].tolist())
            pushed += fit
        else:
            got = ring.pop(n).tolist()
            assert got == [model.popleft() for _ in range(min(n, len(model)))]
        assert ring.free_slots() == 4 - len(model)
        ring.check()


def test_a_producer_that_died_leaves_a_hole_and_others_go_on():
    ring = Ring.make(4)
    ring.push([7])
    ring.array[TAIL] += np.uint64(1)  # reserved, and then it died
    assert ring.push([8, 9, 10]) == 2
    assert not ring.hole()
    assert ring.pop(4).tolist() == [7]
    assert ring.hole()
    assert (ring.pop(4).size, ring.free_slots()) == (0, 1)
    with pytest.raises(AssertionError, match="not written"):
        ring.check()


@pytest.mark.parametrize("tail", [5, 2**64 - 1, 2**63])
def test_a_peer_that_lies_stops_the_ring_only(tail):
    ring = Ring.make(4)
    ring.array[TAIL] = tail
    assert (ring.free_slots(), ring.push([1]), ring.pop(9).size) == (0, 0, 0)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(HEADER, np.uint64),
        np.zeros(HEADER + 3, np.uint64),
        np.zeros(HEADER + 4, np.int64),
        np.zeros((1, HEADER + 4), np.uint64),
        np.zeros(2 * HEADER + 8, np.uint64)[::2],
    ],
)
def test_what_is_no_ring_is_refused(array):
    with pytest.raises(ValueError, match="ring"):
        Ring(array)


def test_no_slots_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        words_for(0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("producers", [1, 3])
def test_processes(tmp_path, monkeypatch, producers):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    items = stress.ITEMS // producers * producers
    assert stress.run("mpsc", producers, items) == (items, items)
