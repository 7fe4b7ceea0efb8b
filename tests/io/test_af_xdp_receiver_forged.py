# SPDX-License-Identifier: Apache-2.0
"""Receiving by AF_XDP from rings in which anything may stand."""

import contextlib
import ctypes

import numpy as np
import pytest

from vforward.graph.scheduler import run
from vforward.io import af_xdp_receiver as receiver
from vforward.io import af_xdp_rx as rx
from vforward.io import linux
from xdp_receiver_worlds import Kept, numbered

pytestmark = pytest.mark.root


class Forged:
    """The memory and the rings of a socket, in plain memory; the test is the kernel."""

    def __init__(self, slots=8, slot=2048):
        self.memory = np.zeros(slots * slot, np.uint8)
        self.received = np.zeros(slots, rx.XDP_DESC)
        self.free = np.zeros(slots, np.uint64)
        self.indices = np.zeros(4, np.uint32)  # received, taken, free, flags
        self.calls = []
        kind = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 5)
        self.function = kind(self.call)
        self.table = np.zeros(rx.QUEUES_MAX * rx.QUEUE_WORDS, np.uint64)
        words, at = self.table, self.indices.ctypes.data
        words[rx.PORT], words[rx.FD], words[rx.OPEN] = 3, 77, 1
        words[rx.MEMORY], words[rx.SIZE] = self.memory.ctypes.data, self.memory.size
        words[rx.SLOT], words[rx.SLOTS] = slot, slots
        words[rx.RING], words[rx.PRODUCER] = self.received.ctypes.data, at
        words[rx.CONSUMER], words[rx.FILL] = at + 4, self.free.ctypes.data
        words[rx.FILL_PRODUCER] = at + 8
        words[rx.RECEIVE] = np.frombuffer(self.function, np.uint64)[0]
        words[rx.MESSAGE] = 5

    def call(self, *arguments):
        self.calls.append(arguments)
        return 0

    def start(self, index, filled):
        """Where the indices are."""
        self.table[rx.AT], self.table[rx.FILLED] = index, filled
        self.indices[:3] = index, index, filled

    def give(self, *descriptors):
        """As the kernel: (address, length)."""
        for where, length in descriptors:
            at = int(self.indices[0])
            entry = self.received[at % self.received.size]
            entry["addr"], entry["len"] = where & 0xFFFFFFFFFFFFFFFF, length
            self.indices[0] = (at + 1) & 0xFFFFFFFF

    def put(self, where, frame):
        self.memory[where : where + len(frame)] = np.frombuffer(frame, np.uint8)
        return where, len(frame)


@contextlib.contextmanager
def forged(buffers=64, **options):
    kernel = Forged(**options)
    made = Kept(rx.NODE, {"queues": kernel.table}, None, buffers)
    try:
        made.build()
        yield made, kernel
    finally:
        made.close()


def test_what_cannot_lie_in_the_memory_is_dropped():
    size = 8 * 2048
    with forged() as (k, kernel):
        good = kernel.put(2048 + 256, numbered(100))
        for wrong in (
            (size, 60),
            (size - 59, 60),
            (-60, 60),
            (-1, 14),
            (1 << 62, 60),
            (0x7FFFFFFFFFFFFFFF, 60),
            (256, 13),
            (256, 0),
            (256, size),
            (256, 0xFFFFFFFF),
        ):
            kernel.give(wrong, good)
            k.rounds()
            assert k.take(1) == [numbered(100)]
        assert k.counts() == {"bytes": 1000, "truncated": 10}
        assert kernel.indices[1] == kernel.indices[0]
        kernel.give((size - 60, 60), (0, 14))
        k.rounds()
        assert len(k.take(2)) == 2


@pytest.mark.parametrize("start", [0, 5, 0xFFFFFFFA, 0x7FFFFFFD])
def test_indices_go_round(start):
    with forged() as (k, kernel):
        kernel.start(start, 0xFFFFFFFD)
        for n in range(40):
            slot = 2048 * (n * 5 % 8)
            kernel.give(kernel.put(slot + 256, numbered(60, n)))
            k.rounds()
            assert k.take(1) == [numbered(60, n)]
            assert kernel.indices[1] == (start + n + 1) & 0xFFFFFFFF
            filled = int(kernel.indices[2])
            assert filled == (0xFFFFFFFD + n + 1) & 0xFFFFFFFF
            assert kernel.free[(filled - 1) % 8] == slot


def test_an_index_that_cannot_be_is_bounded():
    """More frames than there are slots: no more than these are looked at."""
    with forged() as (k, kernel):
        kernel.received["addr"], kernel.received["len"] = 256, 60
        kernel.indices[0] = 1000
        run(k.words, True)
        assert kernel.indices[1] <= 1000
        assert k.counts()["bytes"] == 60 * len(k.rows())


def test_a_long_frame_that_finds_too_few_buffers():
    with forged(buffers=2, slots=8, slot=4096) as (k, kernel):
        long, short = kernel.put(256, numbered(3800)), kernel.put(4352, numbered(60))
        kernel.give(short, long, short)
        k.rounds()
        assert k.take(2) == [numbered(60)] * 2
        kernel.give(long)
        k.rounds()
        assert k.take(1) == [numbered(3800)]
        assert k.counts() == {"bytes": 3920, "no-chain": 1}


def test_meta_says_by_which_port_it_came():
    with forged() as (k, kernel):
        kernel.give(kernel.put(256, numbered(60)))
        k.rounds()
        assert [int(k.pool.meta[row]["rx_port"]) for row in k.rows()] == [3]


@pytest.mark.parametrize("flags", [0, 1])
def test_a_driver_that_sleeps_is_called(flags):
    """Only one without copies, and only if it asks for that: its flag is looked at in each round."""
    with forged() as (k, kernel):
        kernel.indices[3] = flags
        k.rounds()
        assert kernel.calls == []
        kernel.table[rx.WAKE] = kernel.indices.ctypes.data + 12
        run(k.words, True)
        calls = len(kernel.calls)
        assert calls >= 1 if flags else calls == 0
        kernel.give(kernel.put(256, numbered(60)))
        run(k.words, True)
        assert (len(kernel.calls) > calls) == bool(flags)
        assert all(call == (77, 5, 1, linux.MSG_DONTWAIT) for call in kernel.calls)


def test_a_closed_table_is_not_looked_at():
    with forged() as (k, kernel):
        kernel.give(kernel.put(256, numbered(60)))
        kernel.table[rx.OPEN] = 0
        kernel.table[rx.FIRST] = 7
        k.rounds()
        assert k.rows() == []
        kernel.table[rx.OPEN] = 1
        k.rounds()
        assert k.take(1) == [numbered(60)]


def test_the_most_slots_that_fit():
    assert [receiver._power_of_two(n) for n in (0, 1, 2, 3, 1023, 1024)] == [0, 1, 2, 2, 512, 1024]
