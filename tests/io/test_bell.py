# SPDX-License-Identifier: Apache-2.0
"""A bell signals eventfds, whatever others do with them, and is never made to wait."""

import os

import numpy as np
import pytest

from fuzzing import open_fds
from vforward.io.bell import Bell

FULL = 2**64 - 2  # who writes one more to a counter of so many waits until somebody reads it


@pytest.fixture
def bell():
    before = open_fds()
    made = Bell(np.zeros(3, np.uint64))
    assert made.open()
    yield made
    made.close()
    made.close()
    assert open_fds() <= before


@pytest.fixture
def event():
    made = os.eventfd(0, os.EFD_CLOEXEC)  # a blocking one
    yield made
    os.close(made)


@pytest.mark.parametrize("n", [1, 64, 65, 1000])
def test_each_ring_counts(bell, event, n):
    for _ in range(n):
        bell.ring(event)
    assert os.eventfd_read(event) == n


def test_a_full_one_is_not_waited_for(bell, event):
    os.eventfd_write(event, FULL)
    for _ in range(100):
        bell.ring(event)
    assert os.eventfd_read(event) == FULL + 1  # it overflows, and no further
    bell.ring(event)
    assert os.eventfd_read(event) == 1


def test_what_is_no_eventfd_is_left_alone(bell, event):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    bell.ring(writer)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    os.close(writer)
    bell.ring(writer)  # it is no descriptor any more
    os.close(reader)
    bell.ring(event)
    assert os.eventfd_read(event) == 1


def test_without_asynchronous_io_it_writes(event):
    bell = Bell(np.zeros(3, np.uint64))  # as one is that could not be opened
    bell.ring(event)
    assert os.eventfd_read(event) == 1
    bell.close()
