# SPDX-License-Identifier: Apache-2.0
"""What comes with a message, and that children do not inherit it."""

import os
import socket
from pathlib import Path

import pytest

from fuzzing import open_fds
from vforward.rings.descriptors import receive


@pytest.fixture
def pair():
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, two:
        yield one, two


def test_descriptors_are_closed_when_a_program_is_started(pair):
    one, two = pair
    with Path("/dev/null").open() as file:
        socket.send_fds(one, [b"two"], [file.fileno()] * 2)
    data, fds, flags = receive(two, 8, 2)
    assert (data, len(fds), flags & socket.MSG_CTRUNC) == (b"two", 2, 0)
    assert [os.get_inheritable(fd) for fd in fds] == [False, False]
    assert [Path(f"/proc/self/fd/{fd}").readlink() for fd in fds] == [Path("/dev/null")] * 2
    for fd in fds:
        os.close(fd)


def test_those_too_many_are_closed_and_that_is_said(pair):
    one, two = pair
    before = open_fds()
    with Path("/dev/null").open() as file:
        socket.send_fds(one, [b"many"], [file.fileno()] * 9)
    data, fds, flags = receive(two, 8, 2)
    assert (data, flags & socket.MSG_CTRUNC) == (b"many", socket.MSG_CTRUNC)
    for fd in fds:
        os.close(fd)
    assert open_fds() <= before


def test_bytes_alone_and_the_end(pair):
    one, two = pair
    one.send(b"bytes")
    assert receive(two, 8, 2)[:2] == (b"bytes", [])
    one.close()
    assert receive(two, 8, 2)[:2] == (b"", [])
