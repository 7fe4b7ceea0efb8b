# SPDX-License-Identifier: Apache-2.0
"""A worker: the thread that lives in the scheduler, and the words by which others steer it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Container, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from vforward.errors import VforwardError
from vforward.graph import control as c
from vforward.graph import exchange, scheduler
from vforward.graph.build import Graph
from vforward.graph.succession import Exchange, Run
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel


class Profile(NamedTuple):
    """How a worker that may sleep divides a CPU with others."""

    patience: int
    """Empty rounds before it sleeps: more than ports take to ask their peers to wake it."""
    gather_ns: int
    """Nanoseconds in which packets gather after a round that had few of them."""


PROFILES = {"latency": Profile(20_000, 0), "throughput": Profile(2048, 50_000)}
"""latency: a few milliseconds of polling, and nothing waits. throughput: fuller vectors, and the CPU is
free meanwhile (adr/0033)."""
POLLIN = 1
NOBODY = 0xFFFFFFFF
"""In place of a descriptor: ppoll passes over it."""
_ABANDONED: list[Exchange] = []
"""Exchanges that came to nothing."""


@kernel
def read_clock() -> int:
    """The time stamp counter."""
    return cycles()


@cache
def begin_clock() -> tuple[int, int]:
    """Read both clocks, once: who needs clock_hz later need not wait then."""
    read_clock()
    return time.perf_counter_ns(), read_clock()


@cache
def clock_hz(seconds: float = 0.02) -> float:
    """Cycles of the time stamp counter per second, measured once against the monotonic clock."""
    begin, start = begin_clock()
    time.sleep(max(0.0, seconds - (time.perf_counter_ns() - begin) / 1e9))
    stop, end = read_clock(), time.perf_counter_ns()
    return (stop - start) * 1e9 / (end - begin)


class Worker:
    """Runs a plan, in a thread of its own or in the caller's.

    descriptors: what wakes it when it sleeps, deaf_to: but for these now (see watch). poll, read:
    addresses of the C functions ppoll-like ``int64_t f(pollfds, n, timeout_ns)`` and ``read``; poll 0: it
    never sleeps. core: the CPU that the thread is pinned to.
    """

    def __init__(
        self,
        plan: scheduler.Plan,
        *,
        descriptors: Iterable[int] = (),
        deaf_to: Container[int] = (),
        poll: int = 0,
        read: int = 0,
        core: int | None = None,
    ) -> None:
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fds = [self.event, *descriptors]
        self.plan = self._polling(plan, self._fds, deaf_to)
        self._words = self.plan.words()
        self._exchange: Exchange | None = None
        self._control = plan.control
        self._control[c.POLL], self._control[c.READ] = poll, read
        self.follow("latency")
        self._core = core
        self._thread: threading.Thread | None = None
        self._ringing = (
            threading.Lock()
        )  # lest wake writes to what close gave back, and is another's
        self.inline = threading.RLock()
        """Held while another's thread runs rounds, or gives it another plan."""

    def follow(self, profile: str) -> None:
        """Go by one of the PROFILES from now on, if it can sleep; "": it does not. It may live."""
        sleeps = profile and self._control[c.POLL]
        patience, gather_ns = PROFILES[profile] if sleeps else Profile(0, 0)
        self._control[c.SPIN_ROUNDS], self._control[c.GATHER] = patience, gather_ns

    def prepare(self) -> None:
        """Compile the function in which the thread will live, if that is not done. Moves no packet.

        Raises VforwardError while the thread lives.
        """
        self._alone("prepare")
        self._control[c.COMMAND] = c.STOP
        exchange.replace(self._control[c.COMMAND :], c.PAUSE, c.RUN)  # for tell: it does nothing
        scheduler.run(self._words, False)

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        thread = self._thread  # stop, in another thread, may take it away
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Start the thread. Raises VforwardError when it lives already."""
        with self.inline:
            self._alone("start")
            self._control[c.COMMAND] = c.RUN
            self._thread = threading.Thread(target=self._live, name="worker", daemon=True)
            self._thread.start()

    def run_until_idle(self) -> None:
        """Run rounds in the calling thread until one moves no packet.

        Raises VforwardError while the thread lives: two threads on one plan would free buffers twice.
        """
        self._run_here("run_until_idle", once=False)

    def run_round(self) -> None:
        """Run one round in the calling thread. Raises VforwardError while the thread lives."""
        self._run_here("run_round", once=True)

    def watch(self, descriptor: int, on: bool) -> None:
        """Whether one of the descriptors wakes it. A store: the thread may live, and may be asleep."""
        at = self._fds.index(descriptor)
        self.plan.polled[at] = (descriptor if on else NOBODY) | POLLIN << 32

    def wake(self) -> None:
        """Make a sleeping worker look around. Any thread. Harmless when closed."""
        with self._ringing:
            if self.event >= 0:
                os.eventfd_write(self.event, 1)

    def pause(self) -> None:
        """Make the thread wait between two rounds; returns when it does."""
        self.tell(c.PAUSE)
        self.reach(c.PAUSED)

    def resume(self) -> None:
        """Let a paused thread go on."""
        self.tell(c.RUN)
        self.reach(c.RUNNING)

    def tell(self, command: int) -> None:
        """Give the thread a command of graph.control; returns at once.

        PAUSE and RUN take each other's place only: who was told STOP, maybe just now by another thread, is
        told nothing else any more, nor who is told SWAP: one who pauses sees to it that no exchange is on.
        """
        if command == c.STOP:
            self._control[c.COMMAND] = command
        else:
            before = c.RUN if command == c.PAUSE else c.PAUSE
            exchange.replace(self._control[c.COMMAND :], before, command)
        self.wake()

    def reach(self, state: int) -> None:
        """Wait until the thread, if it lives, is in a state of graph.control."""
        while self.running and int(self._control[c.STATE]) != state:
            time.sleep(0.0001)

    def quiesce(self, timeout: float = 1.0) -> bool:
        """Wait until a round has begun and ended since: nothing read before is still in use.

        Returns whether it did in time.
        """
        before = int(self._control[c.ROUNDS])
        deadline = time.monotonic() + timeout
        while self.running and int(self._control[c.ROUNDS]) < before + 2:
            self.wake()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0001)
        # A run in the caller's thread is a round to wait for as well.
        if not self.inline.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        self.inline.release()
        return True

    def stop(self) -> None:
        """End the thread. Harmless when there is none."""
        self.tell(c.STOP)
        thread = self._thread
        if thread is not None:
            thread.join()
            self._thread = None

    def offer(
        self,
        old: Graph,
        new: Graph,
        number: int,
        descriptors: Iterable[int],
        deaf_to: Container[int] = (),
        more: Sequence[Run] = (),
    ) -> Exchange:
        """What is needed to give it the new graph's plan, as worker ``number`` of both. Changes nothing.

        descriptors: what wakes it then, deaf_to: but for these (see watch). more: see Exchange.
        """
        fds = [self.event, *descriptors]
        plan = self._polling(new.plans[number], fds, deaf_to)
        made = Exchange(old, new, number, plan, more)
        made.descriptors = fds
        return made

    def take(self, offer: Exchange) -> None:
        """Have it do an exchange: the thread, when it is its turn, else who calls this."""
        self._exchange = offer  # its arrays live as long as it may look at them
        self._control[c.EXCHANGE] = offer.words.ctypes.data
        if self.running:  # and is told nothing else just now, as to stop
            exchange.replace(self._control[c.COMMAND :], int(offer.words[exchange.BACK]), c.SWAP)
            self.wake()
        else:
            scheduler.swap(self._words.ctypes.data)

    def go_on(self) -> None:
        """The exchange was called off: do as before."""
        assert self._exchange is not None
        _ABANDONED.append(self._exchange)  # it may still look into it
        exchange.replace(
            self._control[c.COMMAND :], c.SWAP, int(self._exchange.words[exchange.BACK])
        )

    def settle(self) -> None:
        """The exchange was done: from now on its plan is the other one."""
        assert self._exchange is not None
        self.plan, self._words = self._exchange.plan, self._exchange.plan_words
        self._fds = self._exchange.descriptors
        self._exchange.settle()

    @property
    def command(self) -> int:
        """What it was told last."""
        return int(self._control[c.COMMAND])

    def close(self) -> None:
        """Stop, and give back the eventfd. Harmless when repeated."""
        self.stop()
        with self._ringing:
            if self.event >= 0:
                os.close(self.event)
                self.event = -1

    @staticmethod
    def _polling(
        plan: scheduler.Plan, fds: Iterable[int], deaf_to: Container[int] = ()
    ) -> scheduler.Plan:
        words = [(NOBODY if fd in deaf_to else fd) | POLLIN << 32 for fd in fds]
        return plan._replace(polled=np.array(words, np.uint64))

    def _alone(self, what: str) -> None:
        if self.running:
            msg = f"worker: {what} while its thread is running; stop it first"
            raise VforwardError(msg)

    def _run_here(self, what: str, *, once: bool) -> None:
        self._alone(what)
        self._control[c.COMMAND] = c.RUN
        with self.inline:
            self._control[c.ONCE] = once
            scheduler.run(self._words, True)

    def _live(self) -> None:
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})
        scheduler.run(self._words, False)
