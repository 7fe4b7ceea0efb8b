# SPDX-License-Identifier: Apache-2.0
"""netns: Linux's network namespaces, by name or path: what is opened in one stays there for good.

Sources: network_namespaces(7), setns(2), ip-netns(8).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
NAMED = Path("/run/netns")  # where `ip netns` keeps them


def path_of(netns: str) -> Path:
    """Where a namespace is: what has a slash is its path already, as /proc/1234/ns/net."""
    return Path(netns) if "/" in netns else NAMED / netns


def ip_command(netns: str) -> str:
    """How a user looks at the interfaces there: the beginning of a command line."""
    if not netns:
        return "ip"
    return f"nsenter --net={netns} ip" if "/" in netns else f"ip -n {netns}"


def call(netns: str, what: Callable[[], T]) -> T:
    """Call something in a namespace; "": in the thread's own. Returns what it returns.

    That happens in a thread of its own, which ends there: entering may be allowed where coming back is
    not. Raises OSError, whose text says what to do, if the namespace cannot be entered.
    """
    if not netns:
        return what()
    done: Future[T] = Future()

    def run() -> None:
        try:
            with _told(netns):
                enter(path_of(netns))
            done.set_result(what())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name=f"netns {netns}")
    thread.start()
    thread.join()
    return done.result()


def enter(path: Path) -> None:
    """The calling thread is in that namespace from now on. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_descriptor(descriptor)
    finally:
        os.close(descriptor)


def enter_descriptor(descriptor: int) -> None:
    """As enter, by an open file. Python has setns(2) from 3.12 on only."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


@contextlib.contextmanager
def _told(netns: str) -> Iterator[None]:
    path = path_of(netns)
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOENT: f"there is no {path}; ip netns list shows those with names",
            errno.EACCES: f"{path} is not for this process; run as its owner, or root",
            errno.EPERM: "entering one needs CAP_SYS_ADMIN, here and in it: run as root",
            errno.EINVAL: f"{path} is not one",
        }
        what = advice.get(error.errno or 0, str(error))
        raise OSError(f"network namespace {netns!r}: {what}") from error
