"""The rings between workers: who waits, who is given what waits, and nothing left behind."""

import numpy as np
import pytest

from nodes.network import Heap
from vforward.control.hand_off import IP4, OUTPUT, HandOff
from vforward.rings.mpsc import Ring
from vforward.tables.ports import PORT
from vforward.testing.run_node import heap_pool


@pytest.fixture
def made():
    pool, ports = heap_pool(2048), np.zeros(8, PORT)
    ports["output"] = [0, 1, 2, 3, 1, 0, 0, 0]
    pool.check()
    yield pool, HandOff(Heap(), pool, ports, 2)
    pool.check()


def ring(hand_off, kind, worker):
    return Ring(hand_off.taking(kind)[worker]["handed"])


def test_what_waits_is_counted_and_given_back(made):
    pool, hand_off = made
    for kind, worker, n in ((OUTPUT, 0, 5), (IP4, 1, 7)):
        ring(hand_off, kind, worker).push(pool.take(n))
    assert hand_off.waiting() == 12
    hand_off.close()
    assert hand_off.waiting() == 0
    assert pool.free == 2048


def test_it_waits_until_what_is_there_now_was_taken_up(made):
    pool, hand_off = made
    assert hand_off.taken_up(lambda: True, 1)
    its = ring(hand_off, OUTPUT, 1)
    rows = pool.take(3)
    its.push(rows)
    assert not hand_off.taken_up(lambda: True, 0.01)
    assert not hand_off.taken_up(lambda: False, 60)
    pool.put(its.pop(8))
    assert hand_off.taken_up(lambda: True, 1)


def test_what_waits_for_a_port_goes_to_its_new_owner_in_order(made):
    pool, hand_off = made
    rows = pool.take(60)
    pool.meta["tx_port"][rows] = np.arange(60) % 5
    ring(hand_off, OUTPUT, 0).push(rows)
    assert hand_off.pass_on(0, 1, 1)  # ports 1 and 4 leave by edge 1
    kept = [row for k, row in enumerate(rows.tolist()) if k % 5 not in (1, 4)]
    given = [row for k, row in enumerate(rows.tolist()) if k % 5 in (1, 4)]
    assert ring(hand_off, OUTPUT, 0).pop(99).tolist() == kept
    assert ring(hand_off, OUTPUT, 1).pop(99).tolist() == given
    pool.put(rows)


def test_nothing_moves_where_there_is_no_room(made):
    pool, hand_off = made
    there = ring(hand_off, OUTPUT, 1)
    full, rows = pool.take(there.slots - 1), pool.take(2)
    there.push(full)
    ring(hand_off, OUTPUT, 0).push(rows)
    assert not hand_off.pass_on(0, 1, 0)
    assert ring(hand_off, OUTPUT, 0).pop(9).tolist() == rows.tolist()
    there.pop(there.slots)
    pool.put(full)
    pool.put(rows)
