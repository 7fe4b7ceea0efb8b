# SPDX-License-Identifier: Apache-2.0
"""The same calls do the same to queues of either layout. What is behind them: their own tests."""

import numpy as np
import pytest

from guests import FEATURES, PACKED, Guest
from vforward.jit.kernel import i64, kernel
from vforward.rings import virtqueue as vq
from vforward.rings import vring


@kernel
def use_all(queue, memory, pieces, packed, found):
    """Use all buffers there are; found gets the bytes of each. Returns how many, and if a call is due."""
    since, n = i64(queue[vq.NEXT]), vring.waiting(queue, packed)
    cursor = vring.begin(queue, packed)
    for k in range(n):
        token, _, _, _ = vring.look(queue, cursor, packed)
        if token == vring.NONE:
            n = k
            break
        for p in range(vring.read_chain(queue, memory, pieces, 0, token, True, packed)):
            found[k] += pieces[p, 1]
        vring.put_used(queue, k, token, found[k], packed)
        cursor = vring.following(queue, cursor, token, packed)
        if cursor != vring.after_put(queue, k + 1, packed):
            return i64(-1), False
    vring.publish(queue, n, packed)
    return i64(n), vring.wants_call(queue, since)


@pytest.fixture(params=[FEATURES, PACKED], ids=["split", "packed"])
def guest(request):
    made = Guest(8, features=request.param, start=6)
    yield made
    made.close()


def used(guest):
    """What use_all finds, and says of calls."""
    queue, found = guest.queues[0], np.zeros(8, np.int64)
    pieces = np.zeros((vq.PIECES_MAX, 2), np.int64)
    packed = bool(int(queue[vq.FEATURES]) & vq.RING_PACKED)
    n, call = use_all(queue, guest.memory.table, pieces, packed, found)
    return found[:n].tolist(), call


def test_buffers_are_found_and_given_back(guest):
    driver = guest.drivers[0]
    for lengths in ([7], [5, 6, 7], [1, 2], [3], []):
        given = []
        for n in range(1, len(lengths) + 1):
            pieces = [(guest.room(9), length) for length in lengths[:n]]
            given.append((driver.add(pieces, write=True), sum(lengths[:n])))
        assert used(guest)[0] == [total for _, total in given]
        assert driver.take_used() == given
    assert used(guest)[0] == []


@kernel
def taken_back(queue):
    return vring.taken_back(queue)


def test_what_the_driver_has_back(guest):
    driver, queue = guest.drivers[0], guest.queues[0]
    first = int(vring.number(queue))
    assert vring.available(queue) == 0
    for n in (3, 8, 1, 5):
        for _ in range(n):
            driver.add([(guest.room(9), 9)], write=True)
        assert vring.available(queue) == n
        before = int(vring.number(queue))
        assert taken_back(queue) == (before + n - 8) % 65536
        used(guest)
        assert int(vring.number(queue)) - before == n
        assert taken_back(queue) == (before + n - 8) % 65536  # it has none of them back yet
        driver.take_used()
    assert int(vring.number(queue)) == first + 17


def test_calls_and_kicks_are_as_the_other_side_wishes(guest):
    driver, queue = guest.drivers[0], guest.queues[0]
    wanted = []
    for ask in (vring.ask_for_kicks, vring.refuse_kicks):
        ask(queue)
        old = driver.added
        driver.add([(guest.room(9), 9)], write=True)
        wanted.append(driver.must_kick(old))
        driver.no_interrupts(int(len(wanted) > 1))
        wanted.append(used(guest)[1])
        driver.take_used()
    assert wanted == [True, True, False, False]


def test_a_token_that_is_a_fault_has_no_memory(guest):
    pieces = np.zeros((4, 2), np.int64)
    for packed in (False, True):
        chain = vring.read_chain(
            guest.queues[0], guest.memory.table, pieces, 0, -vq.Fault.LENGTH, True, packed
        )
        assert chain == -vq.Fault.LENGTH
