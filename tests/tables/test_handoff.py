"""handoff: what is given lies in the other's ring, and who sleeps is woken, once."""

import os

import numpy as np
import pytest

from vforward.io.libc import libc_address
from vforward.jit.kernel import kernel
from vforward.rings.mpsc import Ring
from vforward.tables import handoff as table


@kernel
def _give(handoff, worker, rows, n):
    return table.give(handoff, worker, rows, n)


@pytest.fixture
def two():
    """A table of two workers, their rings of 8, words ASLEEP and eventfds."""
    made = table.make(2)
    rings = [Ring.make(8) for _ in range(2)]
    asleep = np.zeros(2, np.uint64)
    events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    for worker, (ring, event) in enumerate(zip(rings, events, strict=True)):
        table.set_ring(made, worker, ring.array)
        where = asleep.ctypes.data + 8 * worker
        table.set_bell(made, worker, where, event, libc_address("write"))
    yield made, rings, asleep, events
    for event in events:
        os.close(event)


def test_rows_come_in_order_and_what_does_not_fit_stays(two):
    made, rings, _, _ = two
    rows = np.arange(10, dtype=np.uint32)
    assert _give(made, 1, rows, 5) == 5
    assert _give(made, 1, rows[5:], 5) == 3
    assert _give(made, 1, rows, 1) == 0
    assert rings[1].pop(20).tolist() == list(range(8))
    assert rings[0].pop(20).tolist() == []


def test_who_sleeps_is_woken_once(two):
    made, _, asleep, events = two
    rows = np.arange(3, dtype=np.uint32)
    _give(made, 0, rows, 1)
    with pytest.raises(BlockingIOError):  # it is awake
        os.eventfd_read(events[0])
    asleep[:] = 1
    for _ in range(2):
        _give(made, 0, rows, 1)
    assert asleep.tolist() == [0, 1]
    assert os.eventfd_read(events[0]) == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(events[1])
