"""Which descriptors can be read, and until when that is waited for."""

import os
import socket
import threading

import pytest

from descriptors import SELECT_MAX, beyond
from vforward.rings.wait import readable


@pytest.fixture
def events():
    made = [os.eventfd(0) for _ in range(3)]
    yield made
    for fd in made:
        os.close(fd)


@pytest.mark.parametrize("limit", [0, 0.001, -1])
def test_which_of_them_by_then(events, limit):
    assert readable(events, limit) == set()
    for fd in events[1:]:
        os.eventfd_write(fd, 1)
    assert readable(events, limit) == set(events[1:])
    assert readable([], limit) == set()


def test_without_a_limit_it_waits(events):
    writer = threading.Timer(0.02, os.eventfd_write, (events[2], 1))
    writer.start()
    assert readable(iter(events)) == {events[2]}
    writer.join()


def test_one_that_has_gone_can_be_read():
    ours, theirs = socket.socketpair()
    theirs.close()
    assert readable([ours.fileno()]) == {ours.fileno()}
    ours.close()


def test_those_that_select_does_not_take():
    with beyond():
        fd = os.eventfd(1)
        assert fd >= SELECT_MAX
        assert readable([fd]) == {fd}
        os.close(fd)
