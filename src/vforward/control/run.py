# SPDX-License-Identifier: Apache-2.0
"""The daemon's life: a forwarder made from a configuration, run until a signal, taken down whole.

Signals set an event and nothing else, so none of them comes between a resource and its release.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from vforward.control import compiled
from vforward.control import config as models
from vforward.control.config_api import Api, read_token
from vforward.control.confine import confine
from vforward.control.forwarder import Forwarder
from vforward.control.reload import Reload
from vforward.control.supervisor import Supervisor
from vforward.errors import ConfigError, KernelError, VforwardError
from vforward.graph import control as c
from vforward.graph import workers
from vforward.memory import resident

if TYPE_CHECKING:
    from vforward.control.api_server import Tcp

log = logging.getLogger(__name__)

Step = Callable[[int, int, str], None]
"""Told how many steps are done, how many there are, and the next one's name."""

LOOK_S = 0.05
GIVE_BACK_S = 60.0
"""How often memory is given back that changes have left."""
GARBAGE = 700, 10, 10
"""Python's own thresholds: control.main's are for loading."""
IDLE_S = 0.2
IDLE_ROUNDS = 3
"""Rounds that must have been empty besides: on a busy machine the worker may not have run."""


def from_config(
    config: models.Config,
    loading: Step = lambda *_: None,
    *,
    fresh: bool = False,
) -> Forwarder:
    """A forwarder with all that the configuration names, ready to build. fresh: see Forwarder.

    loading: called while files of routes are loaded, with how many routes are done, how many there
    are, and the file's name. Raises ConfigError, ArenaError, PortError, ShimMissing; then nothing is
    left behind.
    """
    settings = config.forwarder
    n_workers = workers.number(settings.workers)
    _check_core(settings.core, n_workers)
    forwarder = Forwarder(
        settings.name,
        vector=settings.vector,
        buffers=settings.buffers,
        idle=settings.idle,
        profile=settings.profile,
        core=settings.core,
        workers=n_workers,
        icmp_errors=settings.icmp_errors_per_second,
        mac_table=settings.mac_table,
        mac_age_s=settings.mac_age_s,
        neighbors=settings.neighbors,
        keep=settings.keep,
        fresh=fresh,
    )
    try:
        forwarder.reload = Reload(forwarder, config)
        forwarder.reload.apply(config, progress=loading)
    except BaseException:
        forwarder.close()
        raise
    return forwarder


def run(
    config: models.Config,
    progress: Step = lambda *_: None,
    ready: Callable[[], None] = lambda: None,
    *,
    loading: Step = lambda *_: None,
    file: str | None = None,
    exit_when_idle: bool = False,
    fresh: bool = False,
    confined: bool = False,
    standing_by: Callable[[], None] | None = None,
) -> None:
    """Forward as configured until SIGTERM or SIGINT comes. Main thread only. fresh: see Forwarder.

    standing_by: called when all is loaded; packets are forwarded when no other process of this
    forwarder's name is running any more (control.standby).

    SIGHUP: file is read again, and what differs is applied; what is wrong with it is logged.

    progress: called while kernels compile, with how many are done, how many there are, and the
    next one's name. loading: see from_config. ready: called when packets are forwarded. file: where
    the configuration is from, to be shown. exit_when_idle: ends also when no packet has come for
    IDLE_S. confined: gives up privileges before the first packet, for good: for a process that is
    nothing but this (control.confine). Raises as from_config, KernelError, VforwardError.
    """
    resident.one_heap()
    supervisor = Supervisor()
    with _signals() as (stop, again):

        def until_stopped(tell: Step) -> Step:
            def step(done: int, total: int, name: str) -> None:
                if stop.is_set():
                    raise _Stopped
                supervisor.starting()
                tell(done, total, name)

            return step

        step, load_step = until_stopped(progress), until_stopped(loading)
        try:
            if not compiled.is_complete():  # all of it, so that nothing compiles on a packet's way
                from vforward.control.compile_aside import compile_aside

                compile_aside(step)
            if standing_by is not None:
                _stand_by(config, step, standing_by, stop, supervisor.starting)
                config = _as_it_is_now(config, file)
            with from_config(config, load_step, fresh=fresh) as forwarder:
                _build(forwarder, step, file)
                _begin(forwarder, config, confined=confined)
                ready()
                again_from = partial(reload, forwarder, file) if file is not None else None
                with _supervised(supervisor, forwarder):
                    _wait(forwarder, stop, again, again_from, exit_when_idle=exit_when_idle)
        except _Stopped:
            return


def _stand_by(
    config: models.Config,
    step: Step,
    ready: Callable[[], None],
    stop: threading.Event,
    waiting: Callable[[], None],
) -> None:
    """Load all, and wait until it is this process's turn. Raises _Stopped."""
    from vforward.control import compile as compiling
    from vforward.control import standby

    compiling.compile_all(step)  # it has been compiled: this loads it
    ready()
    standby.wait(config.forwarder.name, stop, waiting)
    if stop.is_set():
        raise _Stopped


def _as_it_is_now(config: models.Config, file: str | None) -> models.Config:
    """What the file says by now, or what it said where that is wrong."""
    if file is None:
        return config
    try:
        return models.load(file, config.forwarder.name)
    except VforwardError as error:
        log.error("%s: as it was before it was changed: %s", file, error)  # noqa: TRY400 see reload
        return config


def _begin(forwarder: Forwarder, config: models.Config, *, confined: bool) -> None:
    """Forward, and serve the API, with no more privileges and memory than that needs."""
    if confined:
        confine(config, partial(_start_others, forwarder))
    else:
        _start_others(forwarder)
    forwarder.start()
    _await_start(forwarder)
    forwarder.serve(_tcp(config.api))
    gc.freeze()  # all that is there by now stays: later collections need not look at it
    gc.set_threshold(*GARBAGE)  # what reloads leave behind is not to pile up
    resident.own_pages_for_large()
    resident.forget_code("libllvmlite")  # 30 MiB, that loading what was compiled needed


def _start_others(forwarder: Forwarder) -> None:
    """Start the processes that are needed later, while this one may."""
    with suppress(VforwardError):  # then plug-ins are refused, and why is said
        forwarder.plugins.helper.start()


def _tcp(api: Api) -> Tcp | None:
    """Where the API listens besides its Unix socket."""
    if api.listen is None or api.token_file is None:
        return None
    from vforward.control.api_server import Tcp  # which loads asyncio: not before packets flow

    try:
        return Tcp(*api.listen, read_token(api.token_file))
    except ValueError as error:  # the file has changed since
        raise ConfigError(f"api.token_file: {error}") from None


class _Stopped(Exception):
    """A signal came while kernels compiled or routes were loaded."""


@contextmanager
def _signals() -> Iterator[tuple[threading.Event, threading.Event]]:
    """An event that SIGTERM and SIGINT set, and one that SIGHUP sets."""
    stop, again = threading.Event(), threading.Event()
    events = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: again}
    before = {
        number: signal.signal(number, lambda *_, event=event: event.set())
        for number, event in events.items()
    }
    try:
        yield stop, again
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reload(forwarder: Forwarder, file: str) -> None:
    """Apply what a configuration's file says by now; log what is wrong with it, or what was changed."""
    assert forwarder.reload is not None
    try:
        report = forwarder.reload.apply(models.load(file, forwarder.name))
    except VforwardError as error:
        log.error("%s: not applied: %s", file, error)  # noqa: TRY400 it says all that is to be known
    except Exception:
        log.exception("%s: not applied", file)
    else:
        told = "\n".join(report.text()) or "nothing differs"
        log.warning("%s: applied in %.1f ms: %s", file, report.stood_ms, told)


def _check_core(core: int | None, n_workers: int) -> None:
    if core is None:
        return
    allowed = workers.available()
    listed = ", ".join(map(str, allowed))
    if core not in allowed:
        msg = f"forwarder.core: CPU {core} is not one that this process may use: {listed}"
        raise ConfigError(msg)
    if len([cpu for cpu in allowed if cpu >= core]) < n_workers:
        msg = (
            f"forwarder.core: {n_workers} workers from CPU {core} on have no CPU each; this process may "
            f"use: {listed}"
        )
        raise ConfigError(msg)


def _build(forwarder: Forwarder, progress: Step, file: str | None) -> None:
    done = 0

    def step(name: str) -> None:
        nonlocal done
        progress(done, max(done, len(forwarder.graph.members)) + 1, name)
        done += 1

    forwarder.build(step, file)


def _await_start(forwarder: Forwarder) -> None:
    """Return when the workers poll their inputs, or have failed to."""
    assert forwarder.workers is not None
    for worker in forwarder.workers:
        while worker.running and int(worker.plan.control[c.STATE]) != c.RUNNING:
            time.sleep(0.001)


@contextmanager
def _supervised(supervisor: Supervisor, forwarder: Forwarder) -> Iterator[None]:
    """The supervisor is told that the forwarder forwards, for as long as this lasts."""
    supervisor.ready(
        lambda: [int(worker.plan.control[c.ROUNDS]) for worker in forwarder.workers or ()]
    )
    try:
        yield
    finally:
        supervisor.stopping()


def _wait(
    forwarder: Forwarder,
    stop: threading.Event,
    again: threading.Event,
    reload: Callable[[], None] | None,
    *,
    exit_when_idle: bool,
) -> None:
    """Return when a signal has come or, if so wished, packets have ceased. Raises KernelError.

    Calls reload when the event again is set.
    """
    assert forwarder.workers is not None
    busy, rounds, since = -1, [0] * len(forwarder.workers), time.monotonic()
    given_back = since
    while not stop.wait(LOOK_S):
        if not forwarder.workers.running:
            ended = [n for n, one in enumerate(forwarder.workers) if not one.running]
            msg = (
                f"worker {', '.join(map(str, ended))} has ended by itself; its error is in the log"
            )
            raise KernelError(msg)
        if again.is_set() and reload is not None:
            again.clear()
            reload()
        done = [int(worker.plan.control[c.ROUNDS]) for worker in forwarder.workers]
        if forwarder.workers.busy_rounds() != busy:
            busy, rounds, since = forwarder.workers.busy_rounds(), done, time.monotonic()
        quiet = time.monotonic() - since >= IDLE_S
        enough = all(n >= m + IDLE_ROUNDS for n, m in zip(done, rounds, strict=True))
        if exit_when_idle and quiet and enough:
            return
        if time.monotonic() - given_back >= GIVE_BACK_S:
            resident.give_back()
            given_back = time.monotonic()
