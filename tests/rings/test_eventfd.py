# SPDX-License-Identifier: Apache-2.0
"""What is an eventfd, and what only looks like one."""

import os

from vforward.rings.eventfd import is_eventfd, what_is


def test_eventfds_and_others():
    event, memory = os.eventfd(0), os.memfd_create("x")
    path = os.open(f"/proc/self/fd/{event}", os.O_PATH)
    assert [is_eventfd(fd) for fd in (event, memory, path)] == [True, False, False]
    assert "memfd" in what_is(memory)
    for fd in (event, memory, path):
        os.close(fd)
