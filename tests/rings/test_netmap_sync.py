"""The sync's checks against the oracle, for every ring of up to 5 slots and every head and cur."""

import itertools

import numpy as np
import pytest

from oracles.netmap import accepts, owned
from vforward.jit.kernel import i64, kernel
from vforward.rings.netmap_layout import address_of, ring_at, slots_at
from vforward.rings.netmap_sync import KRING, VIOLATION, checked_head, finish, reinit


@kernel
def check(krings):
    return checked_head(krings[0])


@kernel
def again(krings):
    return reinit(krings[0])


@kernel
def end(krings, last):
    return finish(krings[0], i64(last))


def ring_of(n, first, last, bufs=20):
    memory = np.zeros(256 + 16 * n, np.uint8)
    krings = np.zeros(1, KRING)
    k = krings[0]
    k["ring"], k["n"], k["bufs"], k["buf_size"] = address_of(memory), n, bufs, 2048
    k["first"], k["last"] = first, last
    return memory, krings, ring_at(memory, 0), slots_at(memory, 0, n)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_heads_and_curs_are_accepted_as_the_oracle_says(n):
    for first, last in itertools.product(range(n), repeat=2):
        _memory, krings, ring, _ = ring_of(n, first, last)
        for head, cur in itertools.product([*range(n + 1), 2**31, 2**32 - 1], repeat=2):
            ring["head"], ring["cur"] = head, cur
            good = accepts(n, first, last, head, cur)
            assert check(krings) == (head if good else VIOLATION), (first, last, head, cur)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_tail_only_moves_on_and_never_onto_the_head(n):
    for first, last in itertools.product(range(n), repeat=2):
        ahead = [last]
        while (ahead[-1] + 1) % n != first:
            ahead.append((ahead[-1] + 1) % n)
        for new in [*range(n), n, 2**32 - 1]:
            _memory, krings, ring, _ = ring_of(n, first, last)
            ring["tail"] = 77  # overwritten by the user: repaired
            end(krings, new)
            assert ring["tail"] == (new if new in ahead else last), (first, last, new)


def test_a_stamp_is_asked_for_by_the_ring():
    _memory, krings, ring, _ = ring_of(4, 0, 0)
    assert end(krings, 1) == 0
    ring["flags"] = 2
    assert end(krings, 2) == 2


def test_reinit_repairs_what_is_the_users_and_nothing_else():
    _memory, krings, ring, slots = ring_of(6, 4, 1)
    slots["buf_idx"] = [19, 20, 1, 0, 1, 2]
    slots["len"], slots["flags"], slots["ptr"] = 2049, 0x21, 5
    ring["head"] = ring["cur"] = ring["tail"] = 99
    assert again(krings) == VIOLATION
    assert (ring["head"], ring["cur"], ring["tail"]) == (4, 4, 1)
    assert krings["reinits"][0] == 1
    mine = owned(6, 4, 1)
    assert mine == [4, 5, 0]
    assert slots["buf_idx"].tolist() == [19, 20, 1, 0, 0, 2]
    assert slots["len"].tolist() == [0, 2049, 2049, 2049, 0, 0]
    assert set(slots["flags"].tolist()) == {0x21}
    assert set(slots["ptr"].tolist()) == {5}
