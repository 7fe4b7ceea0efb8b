# SPDX-License-Identifier: Apache-2.0
"""This project's own generator and receiver, in two other namespaces than who forwards, as one tester.

Two af_packet ports, each opened in the namespace of its host. Where there are three CPUs or more the
generator has the first and the receiver the second; with two they share the first, in one thread that
sends what is due and then looks what has come. The last is always left to who forwards.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks import rate_nodes as r
from benchmarks.harness import clock, tsc_hz
from benchmarks.nodes import DROP
from benchmarks.rate_search import Trial
from benchmarks.session import arena
from vforward.graph import control as c
from vforward.graph import scheduler
from vforward.graph.build import Graph
from vforward.io.af_packet import AfPacketPort
from vforward.io.port import Port, Tables
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.testing.namespaces import Namespace

BUFFERS = 8192
MOST = 1 << 21
"""Packets of a trial."""
PATTERN = 12
GRACE_S = 0.2
"""At most, after the last packet, for those that are still on their way."""


class Tester:
    """Make it with `between`. cpus: of the generator, and of the receiver."""

    def __init__(
        self, memory: Sequence[Arena], hosts: tuple[Namespace, Namespace], frames: Tables,
        cpus: tuple[int, int],
    ) -> None:  # fmt: skip
        self.cpus = cpus
        self.apart = len(memory) > 1
        self.trials = 0
        self.pattern = np.zeros(PATTERN, np.uint32)
        self.frames = {**frames, "pattern": self.pattern}
        self.words = np.zeros(r.SOURCE_WORDS, np.uint64)
        self.seen = np.zeros(MOST // 64, np.uint64)
        self.waits = np.zeros(MOST, np.uint32)
        self.check_words = np.zeros(r.CHECK_WORDS, np.uint64)
        self.sender, self.receiver = (
            AfPacketPort("eth0", netns=host.path, ring_mib=64) for host in hosts
        )
        self._graphs = [Graph(each, Pool(each, BUFFERS)) for each in memory]
        self._plans: list[scheduler.Plan] = []

    def open(self, stack: contextlib.ExitStack) -> None:
        """Open the ports and build the graphs; the stack closes them."""
        first, last = self._graphs[0], self._graphs[-1]
        for number, (graph, port) in enumerate(((first, self.sender), (last, self.receiver)), 1):
            port.open(number, graph.pool)
            stack.callback(port.close)
        self._add_sender(first)
        self._add_receiver(last)
        self._plans = [graph.build() for graph in self._graphs]

    def _add_sender(self, graph: Graph) -> None:
        words = {"source_words": self.words, "check_words": self.check_words}
        graph.add(r.SOURCE, **words, **self.frames)
        node, tables = self.sender.tx()
        graph.add(node, "tx", **tables)
        graph.add(DROP, "unsent")
        graph.wire(r.SOURCE.name, "next", "tx")
        graph.wire("tx", "drop", "unsent")

    def _add_receiver(self, graph: Graph) -> None:
        received = self.receiver.rx()
        graph.add(received[0], "rx", **received[1])
        checks = {"seen": self.seen, "waits": self.waits, "check_words": self.check_words}
        graph.add(r.CHECK, **checks)
        graph.add(DROP, "sink")
        graph.wire("rx", "next", r.CHECK.name)
        graph.wire(r.CHECK.name, "next", "sink")

    def trial(self, pattern: Sequence[int], rate: float, seconds: float) -> Trial:
        """Send frames of the templates in the pattern at a rate, for so long at most; see what comes."""
        n = max(2, min(MOST, round(rate * seconds)))
        hz = tsc_hz()
        self.pattern[:] = np.resize(pattern, PATTERN)
        self.words[:] = 0
        self.words[[r.LEFT, r.GAP]] = n, max(1, round((hz << r.FRACTION) / rate))
        self.words[r.GRACE] = round(GRACE_S * hz)
        self.seen[:], self.check_words[:] = 0, 0
        self.trials += 1  # what is late of an earlier trial has other numbers
        self.words[r.BASE] = self.check_words[r.FIRST] = self.trials * MOST
        before, unsent = self._overrun(), self._unsent()
        self._run()
        waits = np.sort(self.waits[: int(self.check_words[r.RECEIVED])]) * (1e6 / hz)
        passed = int(self.words[r.LAST] - self.words[r.START])
        return Trial(
            offered=(n - 1) * hz / max(1, passed),
            sent=n - (self._unsent() - unsent),
            received=int(self.check_words[r.RECEIVED]),
            duplicated=int(self.check_words[r.DUPLICATED]),
            reordered=int(self.check_words[r.REORDERED]),
            corrupted=int(self.check_words[r.CORRUPTED]),
            overrun=self._overrun() - before,
            waits=waits.tolist(),
        )

    def _run(self) -> None:
        """Run the graphs until all is sent and GRACE is over, each on its CPU."""
        if not self.apart:
            self._run_one(0)
            return
        receiver = threading.Thread(target=self._run_one, args=(1,))
        sender = threading.Thread(target=self._run_one, args=(0,))
        self._plans[1].control[c.COMMAND] = c.RUN
        receiver.start()
        sender.start()
        sender.join()
        self._plans[1].control[c.COMMAND] = c.STOP
        receiver.join()

    def _run_one(self, which: int) -> None:
        """The first until all is sent and come, or not waited for any more; the second until told."""
        usual = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.cpus[which]})
        try:
            if which == 0:
                self.words[[r.START, r.LAST]] = clock()
            scheduler.run(self._plans[which].words(), which == 0)
        finally:
            os.sched_setaffinity(0, usual)

    def _overrun(self) -> int:
        """Frames that the receiver's ring had no room for, of all trials."""
        return sum(self.receiver.statistics().values())

    def _unsent(self) -> int:
        """Frames that the kernel did not take of the sender, of all trials."""
        at = self._graphs[0].members["unsent"].number
        return int(self._plans[0].stats.reshape(-1, c.STATS)[at, c.PACKETS])

    def says(self) -> str:
        """Where both are, and how they send and receive."""
        one, other = self.cpus
        where = f"CPUs {one} and {other}" if self.apart else f"CPU {one}, one thread"
        return f"generator and receiver on {where}; {_peer(self.sender)}"


def _peer(port: Port) -> str:
    return port.peer().partition("; ")[2] or port.peer()


@contextlib.contextmanager
def between(
    one: Namespace, other: Namespace, frames: Tables, *, apart: bool | None = None
) -> Iterator[Tester]:
    """A tester between the interfaces eth0 of two namespaces. frames: of rate_nodes.templates.

    apart: whether both have a CPU of their own; None: if there are three.
    """
    cpus = sorted(os.sched_getaffinity(0))
    apart = len(cpus) > 2 if apart is None else apart
    with contextlib.ExitStack() as stack:
        parts = ("-sender", "-receiver") if apart else ("-tester",)
        memory = [stack.enter_context(arena(part)) for part in parts]
        made = Tester(
            memory, (one, other), frames, (cpus[0], cpus[1 % len(cpus)] if apart else cpus[0])
        )
        made.open(stack)
        yield made
