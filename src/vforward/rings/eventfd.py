# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a peer calls eventfds: whether they are."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

EVENTFD = "anon_inode:[eventfd]"


def what_is(fd: int) -> str:
    """What a descriptor leads to, for users."""
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def is_eventfd(fd: int) -> bool:
    """Whether it is an eventfd that can be written and waited for: one of O_PATH cannot."""
    return what_is(fd) == EVENTFD and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH
