# SPDX-License-Identifier: Apache-2.0
"""The daemon gives up what it does not need any more: when its ports are open, before the first packet.

Capabilities, in all threads (io.capabilities), but for those by which ports are opened later; the right to
get any by running another program; and, by a filter of system calls (io.seccomp), running one at all.
It does not come back: a configuration that asks for more takes a new process.
"""

from __future__ import annotations

import contextlib
import logging
import resource
from collections.abc import Callable

from vforward.control import config as models
from vforward.errors import VforwardError
from vforward.io import capabilities, seccomp, shim

log = logging.getLogger(__name__)

PORTS_ROOT = 1024
"""Ports below take CAP_NET_BIND_SERVICE to listen at."""


def kept(config: models.Config, *, may_lock: bool = True) -> frozenset[str]:
    """The capabilities that a configuration asks to be kept, or that its ports may need again.

    may_lock: memory, without CAP_IPC_LOCK.
    """
    if config.privilege.keep is not None:
        return frozenset(config.privilege.keep)
    names = {"net_admin", "net_raw"}
    ports = config.ports.values()
    if any(isinstance(port, models.AfPacketPort) and port.mode == "xdp" for port in ports):
        names.add("bpf")
    if config.api.listen is not None and config.api.listen.port < PORTS_ROOT:
        names.add("net_bind_service")
    if not may_lock:
        names.add("ipc_lock")
    return frozenset(names)


def confine(config: models.Config, others: Callable[[], None] = lambda: None) -> None:
    """Give up all but what is kept, in this process and for good.

    others: starts the processes that are needed later: they have no more than is kept, and no filter.
    Raises VforwardError when that cannot be done, or ShimMissing when it is required and there is no shim.
    """
    wanted = config.privilege.seccomp
    if not shim.built() and wanted != "require":
        log.warning("no privileges are given up: the system-call shim is not there")
        others()
        return
    names = kept(config, may_lock=_may_lock())
    capabilities.drop(names)
    others()
    filtered = wanted != "off" and _filter(names, required=wanted == "require")
    calls = "a filter of system calls is in force" if filtered else "all system calls are allowed"
    log.info("of capabilities no more is kept than: %s; %s", ", ".join(sorted(names)) or "-", calls)


def _filter(names: frozenset[str], *, required: bool) -> bool:
    allowed = {"setns"} if "sys_admin" in names else set()
    if names & {"bpf", "sys_admin"}:
        allowed.add("bpf")
    try:
        seccomp.install(frozenset(allowed))
    except VforwardError as error:
        if required:
            raise
        log.warning("%s", error)
        return False
    return True


def _may_lock() -> bool:
    """Whether memory may be locked without CAP_IPC_LOCK, as AF_XDP does; raises the limit if it can be."""
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    for limit in (resource.RLIM_INFINITY, most):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
            return limit == resource.RLIM_INFINITY
    return False
