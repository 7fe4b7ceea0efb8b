# SPDX-License-Identifier: Apache-2.0
"""capabilities: what Linux lets a process do beyond its user's rights, and giving that up for good.

Capabilities belong to threads. `drop` does it in all of them, and looks whether it came to that: what is
told by /proc is the kernel's own account. Sources: capabilities(7), proc(5).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vforward.errors import VforwardError
from vforward.io import shim

NUMBERS = {
    "dac_override": 1,
    "net_bind_service": 10,
    "net_admin": 12,
    "net_raw": 13,
    "ipc_lock": 14,
    "sys_admin": 21,
    "bpf": 39,
}
"""Those that anything here may need after the start (linux/capability.h)."""
TASKS = Path("/proc/self/task")
ROUNDS = 100
"""Looks at all threads, of which each may find one that an undropped thread has started meanwhile."""


@dataclass(frozen=True)
class Thread:
    """What a thread may do: sets of capabilities, bit by bit; no_new_privs; seccomp's mode (2: filter)."""

    tid: int
    permitted: int
    effective: int
    inheritable: int
    ambient: int
    bounding: int
    no_new_privs: bool
    seccomp: int


def mask(names: Iterable[str]) -> int:
    """The set of these capabilities."""
    return sum(1 << NUMBERS[name] for name in set(names))


def threads(tasks: Path = TASKS) -> list[Thread]:
    """All threads of a process, this one if none is given. Raises OSError where /proc is missing."""
    found = []
    for task in tasks.iterdir():
        try:
            lines = (task / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        told = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        found.append(
            Thread(
                int(task.name),
                permitted=int(told["CapPrm"], 16),
                effective=int(told["CapEff"], 16),
                inheritable=int(told["CapInh"], 16),
                ambient=int(told["CapAmb"], 16),
                bounding=int(told["CapBnd"], 16),
                no_new_privs=told.get("NoNewPrivs") == "1",
                seccomp=int(told.get("Seccomp", "0")),
            )
        )
    return found


def drop(keep: Iterable[str]) -> None:
    """Keep no capabilities but these, in any thread of this process, nor get any by exec.

    Of those to be kept only what is there already. Nothing is inheritable or ambient any more; the bounding
    set is empty where CAP_SETPCAP allows that, and no_new_privs is set, so it makes no difference. Raises
    VforwardError, ShimMissing.
    """
    kept = mask(keep)
    try:
        shim.check(shim.lib.vf_privilege_drop(kept), "capset")
        for _ in range(ROUNDS):
            left = [thread.tid for thread in threads() if not _is_dropped(thread, kept)]
            if not left:
                return
            for tid in left:
                result = shim.lib.vf_privilege_drop_in(tid, kept)
                if result != -errno.ESRCH:
                    shim.check(result, f"thread {tid}")
    except OSError as error:
        raise VforwardError(f"capabilities cannot be given up: {error.strerror}") from error
    raise VforwardError("capabilities cannot be given up: there are new threads again and again")


def _is_dropped(thread: Thread, kept: int) -> bool:
    beyond = (thread.permitted | thread.effective) & ~kept
    return thread.no_new_privs and not (beyond | thread.inheritable | thread.ambient)
