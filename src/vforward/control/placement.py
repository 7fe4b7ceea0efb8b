# SPDX-License-Identifier: Apache-2.0
"""Which worker polls which receive queue, and which one sends by which port (adr/0028).

A port's queues go to workers in turn: queue k of a port that has one for each worker to worker k. By a port
that can send from all workers each sends itself; else its owner does, who polls its first queue, and the
others hand it what leaves there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vforward.control.hand_off import HandOff
from vforward.control.router_graph import HAND_OFF, OUTPUT, before_tx, rx_name
from vforward.errors import ConfigError, VforwardError
from vforward.graph.build import Graph
from vforward.graph.workers import Workers
from vforward.io.port import Port
from vforward.layout import EDGE_MAX

PATIENCE_S = 5.0


@dataclass
class Queue:
    """A receive queue, and the worker that polls it."""

    port: str
    number: int
    worker: int
    descriptors: list[int]


class Placement:
    """See the module. senders u64[]: by interface-output's edge, the worker (nodes.handoff.output)."""

    def __init__(self, ports: Iterable[tuple[str, Port]], n_workers: int) -> None:
        self._n = n_workers
        self.queues: dict[tuple[str, int], Queue] = {}
        self.owners: dict[str, int | None] = {}
        """By port: who sends, None: each worker does."""
        self.senders = np.zeros(EDGE_MAX, np.uint64)
        turn = 0
        for name, port in ports:
            queues = port.receivers()
            for number, queue in enumerate(queues):
                worker = number if len(queues) >= n_workers else turn + number
                self.queues[name, number] = Queue(
                    name, number, worker % n_workers, queue.descriptors
                )
            first = self.queues[name, 0].worker if queues else turn % n_workers
            self.owners[name] = first if len(port.senders()[1]) < n_workers else None
            turn += max(1, len(queues) % n_workers)

    def follow(self, before: Placement) -> None:
        """Leave ports that were there already with the workers that they are with."""
        for key, queue in before.queues.items():
            if key in self.queues:
                self.queues[key].worker = queue.worker
        for name, owner in self.owners.items():
            if owner is None:
                continue  # each worker sends by it, whatever had its name before
            if (name, 0) in self.queues:
                self.owners[name] = self.queues[name, 0].worker
            elif (was := before.owners.get(name)) is not None:
                self.owners[name] = was

    def lay(self, graph: Graph) -> None:
        """Have each of several workers do its part in a graph that is built, and on which none runs."""
        self._graph = graph
        for queue in self.queues.values():
            for worker in range(self._n):
                on = worker == queue.worker
                graph.poll(worker, rx_name(queue.port, queue.number), on)
        for port, owner in self.owners.items():
            if owner is not None:
                self._send_by(port, owner)

    def begin(self, workers: Workers, hand_off: HandOff) -> None:
        """Queues and ports may be moved from now on: the workers are on the graph that was laid."""
        self._workers, self._hand_off = workers, hand_off

    @property
    def descriptors(self) -> list[int]:
        """What wakes workers."""
        return [fd for queue in self.queues.values() for fd in queue.descriptors]

    def deaf_to(self, worker: int) -> set[int]:
        """Of these, what does not wake a worker: descriptors of queues that others poll."""
        mine = (queue.descriptors for queue in self.queues.values() if queue.worker == worker)
        return set(self.descriptors).difference(*mine)

    def move(self, port: str, number: int, worker: int) -> None:
        """Let another worker poll a queue, and send where its port's owner does. Any thread, one at a time.

        No packet is lost by it, and none overtakes another of its flow. Raises ConfigError where there is
        no such queue or worker, VforwardError when a worker does not answer: then it is as before.
        """
        if (port, number) not in self.queues:
            known = ", ".join(f"{name} queue {k}" for name, k in self.queues)
            raise ConfigError(f"no queue {number} of port {port!r}; there are: {known or 'none'}")
        if not 0 <= worker < self._n:
            raise ConfigError(f"no worker {worker}; there are 0 to {self._n - 1}")
        queue = self.queues[port, number]
        if queue.worker == worker:
            return
        self._poll(queue, queue.worker, False)
        if not self._settle():
            self._poll(queue, queue.worker, True)
            raise VforwardError(
                f"port {port}: a worker did not answer; its queue stays where it was"
            )
        self._workers.pause()
        try:
            if number == 0 and not self._move_sender(port, worker):
                raise VforwardError(f"port {port}: too much waits to be sent by it now; try again")
            queue.worker = worker
        finally:
            self._poll(queue, queue.worker, True)
            self._workers.resume()

    def _settle(self) -> bool:
        """Wait until what the workers had in hand, and had handed off by then, is through."""
        return (
            self._workers.quiesce(PATIENCE_S)
            and self._hand_off.taken_up(lambda: self._workers.running, PATIENCE_S)
            and self._workers.quiesce(PATIENCE_S)
        )

    def _poll(self, queue: Queue, worker: int, on: bool) -> None:
        self._graph.poll(worker, rx_name(queue.port, queue.number), on)
        for descriptor in queue.descriptors:
            self._workers[worker].watch(descriptor, on)

    def _send_by(self, port: str, owner: int) -> None:
        self.senders[self._graph.members[OUTPUT].edges.index(port)] = owner
        for worker in range(self._n):
            to = before_tx(self._graph, port) if worker == owner else HAND_OFF
            self._graph.lead(worker, OUTPUT, port, to)

    def _move_sender(self, port: str, worker: int) -> bool:
        """While the workers are paused. What waits in the old owner's ring is the new one's.

        False: there is no room for it there.
        """
        before = self.owners[port]
        if before is None or before == worker:
            return True
        edge = self._graph.members[OUTPUT].edges.index(port)
        if not self._hand_off.pass_on(before, worker, edge):
            return False
        self.owners[port] = worker
        self._send_by(port, worker)
        return True
