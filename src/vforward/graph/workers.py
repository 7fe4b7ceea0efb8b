# SPDX-License-Identifier: Apache-2.0
"""All workers of a graph, as one: started, stopped and waited for together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from vforward.errors import VforwardError
from vforward.graph import control as c
from vforward.graph import exchange as x
from vforward.graph.scheduler import Plan
from vforward.graph.succession import Exchange
from vforward.graph.worker import Worker

PATIENCE_S = 5.0
"""How long workers may take to come to the end of their rounds."""
NAP_S = 0.00005


def available() -> list[int]:
    """The CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


def number(wanted: int | str) -> int:
    """How many workers there are to be. "auto": one for each CPU, but for one that is left to others."""
    return min(c.WORKERS_MAX, max(1, len(available()) - 1)) if wanted == "auto" else int(wanted)


def cores(n: int, first: int | None = None) -> list[int | None]:
    """The CPU that each of n workers is pinned to, None: to none.

    first: of the first worker, the others are on those that follow. If it is not given, one worker is
    pinned to none and several are to the last CPUs, where there are enough of them.
    """
    cpus = available()
    if n == 1:
        return [first]
    if first is not None:
        cpus = [cpu for cpu in cpus if cpu >= first][:n]
    return [*cpus[-n:]] if len(cpus) >= n else [None] * n


class Workers:
    """A worker for each plan. descriptors, poll, read: as Worker takes them; all may wake each.

    deaf_to: by worker, what of it does not.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        descriptors: Sequence[int] = (),
        poll: int = 0,
        read: int = 0,
        cores: Sequence[int | None] = (),
        deaf_to: Sequence[Container[int]] = (),
    ) -> None:
        pinned = cores or [None] * len(plans)
        deaf = deaf_to or [()] * len(plans)
        self._all = [
            Worker(plan, descriptors=descriptors, deaf_to=no, poll=poll, read=read, core=core)
            for plan, no, core in zip(plans, deaf, pinned, strict=True)
        ]

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: int) -> Worker:
        return self._all[number]

    @property
    def running(self) -> bool:
        """Whether all threads live."""
        return all(worker.running for worker in self._all)

    def follow(self, profile: str) -> None:
        """Let each go by one of graph.worker.PROFILES from now on; "": none sleeps."""
        for worker in self._all:
            worker.follow(profile)

    def prepare(self) -> None:
        """Compile what they live in. Moves no packet. Raises VforwardError while one lives."""
        for worker in self._all:
            worker.prepare()

    def start(self) -> None:
        """Start the threads. Raises VforwardError when they live already."""
        with ExitStack() as undo:
            for worker in self._all:
                worker.start()
                undo.callback(worker.stop)
            undo.pop_all()

    def run_until_idle(self) -> None:
        """Run rounds of all in the calling thread, in turns, until none moves a packet.

        Raises VforwardError while a thread lives.
        """
        busy = -1
        while busy != (busy := self.busy_rounds()):
            while len(self._all) > 1 and self._one_turn():
                pass  # each takes up what another has handed it before there is more
            for worker in self._all:
                worker.run_until_idle()

    def _one_turn(self) -> bool:
        """A round of each. Returns whether packets were moved."""
        before = self.busy_rounds()
        for worker in self._all:
            worker.run_round()
        return self.busy_rounds() != before

    def busy_rounds(self) -> int:
        """Rounds in which a worker moved packets, of all of them."""
        return sum(int(worker.plan.control[c.BUSY_ROUNDS]) for worker in self._all)

    def wake(self) -> None:
        """Make those that sleep look around. Any thread. Harmless when closed."""
        for worker in self._all:
            worker.wake()

    def pause(self) -> None:
        """Make all threads wait between two rounds, at once: none hands much to one that waits already."""
        self._command(c.PAUSE, c.PAUSED)

    def resume(self) -> None:
        """Let paused threads go on."""
        self._command(c.RUN, c.RUNNING)

    def _command(self, command: int, state: int) -> None:
        for worker in self._all:
            worker.tell(command)
        for worker in self._all:
            worker.reach(state)

    def quiesce(self, timeout: float = 1.0) -> bool:
        """Wait for a quiet point of each: nobody uses anymore what was read before.

        Returns whether it came to that in time.
        """
        deadline = time.monotonic() + timeout
        return all(worker.quiesce(max(0.0, deadline - time.monotonic())) for worker in self._all)

    def exchange(
        self, offers: Sequence[Exchange], standing: Callable[[], None] | None = None
    ) -> list[int]:
        """Give each worker another plan, all at once: every one stands before one goes on.

        standing: called while all of them stand; what it raises calls it off. It must not be long.
        Returns for how many clocks each stood. Raises VforwardError when they do not come to stand in
        PATIENCE_S, or one is told something else meanwhile: then all are on their old plans.
        """
        turn = np.zeros(1, np.uint64)
        with ExitStack() as held:
            for worker in self._all:
                held.enter_context(worker.inline)
            alive = sum(worker.running for worker in self._all)
            if alive not in (0, len(self._all)):
                msg = "some workers run and others do not: the graph stays as it is"
                raise VforwardError(msg)
            for worker, offer in zip(self._all, offers, strict=True):
                back = c.PAUSE if worker.command == c.PAUSE else c.RUN
                offer.begin(turn, x.ALL if standing else alive, back)
            if standing and not alive:
                standing()
            for worker, offer in zip(self._all, offers, strict=True):
                worker.take(offer)
            if alive:
                self._stand(offers, turn, standing)
            for worker in self._all:
                worker.settle()
        return [offer.stood for offer in offers]

    def _stand(
        self,
        offers: Sequence[Exchange],
        turn: NDArray[np.uint64],
        standing: Callable[[], None] | None,
    ) -> None:
        """Return when all have changed over. Raises VforwardError, and what standing raises."""
        deadline = time.monotonic() + PATIENCE_S
        while standing is not None and not x.replace(turn, len(self._all), x.HELD):
            self._wait(offers, turn, deadline)
        if standing is not None:
            try:
                standing()
            except BaseException:
                x.replace(turn, x.HELD, x.CALLED_OFF)
                self._go_on()
                raise
            x.replace(turn, x.HELD, x.ALL)
        while not all(offer.done for offer in offers):
            self._wait(offers, turn, deadline)

    def _wait(self, offers: Sequence[Exchange], turn: NDArray[np.uint64], deadline: float) -> None:
        """A moment, unless it is called off: when it takes too long, or one has another command."""
        pairs = zip(self._all, offers, strict=True)
        left = any(worker.command != c.SWAP and not offer.done for worker, offer in pairs)
        if left or time.monotonic() > deadline:
            said = int(turn[0])
            if said not in (len(self._all), x.ALL):
                x.replace(turn, said, x.CALLED_OFF)
        if int(turn[0]) >= x.CALLED_OFF:
            self._go_on()
            msg = "a worker was stopped, or did not answer, meanwhile: the graph stays as it is"
            raise VforwardError(msg)
        time.sleep(NAP_S)

    def _go_on(self) -> None:
        for worker in self._all:
            worker.go_on()

    def stop(self) -> None:
        """End the threads. Harmless when there are none."""
        with ExitStack() as rest:
            for worker in self._all:
                rest.callback(worker.stop)

    def close(self) -> None:
        """Stop, and give back the eventfds. Harmless when repeated."""
        with ExitStack() as rest:
            for worker in self._all:
                rest.callback(worker.close)
