"""strays: a map from hashes to workers that threads change at once."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.network import Heap
from vforward.jit.kernel import kernel, u64
from vforward.tables import strays as table

SESSIONS = 16
MASK = 0xFFFFFFFFFFFFFF00


@kernel
def _enter(strays, mixed, worker):
    return table.enter(strays, u64(mixed), worker)


@kernel
def _leave(strays, mixed, worker):
    table.leave(strays, u64(mixed), worker)


@kernel
def _find(strays, mixed):
    return table.find(strays, u64(mixed))


@kernel
def _empty(strays):
    return table.is_empty(strays)


@kernel
def _churn(strays, hashes, worker, turns):
    """Enter and leave all of them, many times. Returns how often there was none after that."""
    wrong = 0
    for _ in range(turns):
        for mixed in hashes:
            if table.enter(strays, mixed, worker):
                wrong += table.find(strays, mixed) < 0
                table.leave(strays, mixed, worker)
    return wrong


def new(sessions=SESSIONS):
    return table.make(Heap(), sessions)


HASHES = st.sampled_from([k * 0x0123456789ABCDEF % 2**64 for k in range(1, 12)] + [256, MASK, 511])
STEPS = st.lists(st.tuples(st.sampled_from(["enter", "leave", "find"]), HASHES, st.integers(0, 31)))


@given(STEPS)
def test_it_is_a_map(steps):
    strays, model = new(), {}
    for what, mixed, worker in steps:
        key, given_hash = mixed & MASK, np.uint64(mixed)
        if what == "enter":
            assert _enter(strays, given_hash, worker) == (key not in model)
            model.setdefault(key, worker)
        elif what == "leave":
            _leave(strays, given_hash, worker)
            if model.get(key) == worker:
                del model[key]
        assert _find(strays, given_hash) == model.get(key, -1)
        assert _empty(strays) == (not model)
        table.check(strays)


def test_no_room_is_said_and_nothing_is_lost():
    strays = new(1)
    lines = (strays.size - table.LINE) // table.LINE
    draw = np.random.default_rng(1)
    given_hashes = draw.integers(0, 2**63, 200, np.uint64)
    entered = [mixed for mixed in given_hashes if _enter(strays, mixed, 1)]
    assert len(entered) == lines * table.LINE
    assert all(_find(strays, mixed) == 1 for mixed in entered)
    table.check(strays)


@pytest.mark.parametrize("n_hashes", [1, 40])
def test_threads_enter_the_same_at_once(n_hashes):
    """Who has entered his own finds one (another's may be there until that one sees his), none is left."""
    strays = new(64)
    hashes = np.random.default_rng(2).integers(0, 2**63, n_hashes, np.uint64)
    _churn(strays, hashes, 0, 1)
    wrong = []
    threads = [
        threading.Thread(target=lambda w=w: wrong.append(_churn(strays, hashes, w, 3000)))
        for w in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0, 0, 0]
    assert _empty(strays)
    table.check(strays)
