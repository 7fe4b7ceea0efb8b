# SPDX-License-Identifier: Apache-2.0
"""The moment in which a forwarder's configuration changes: no packet is on its way in it.

    inputs are not polled      what waits outside stays there, in rings and sockets
    what is inside goes out    rounds until no frame, queue or hand-off ring has a packet
    all workers stand          between two rounds: what is stored now is what the next packet meets

So no packet meets a part of the old and a part of the new, on one worker or on two. What waits in tables
(for a neighbor's MAC, for a datagram's first piece) stays there; it meets what is in force when it goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vforward.control.router_graph import rx_name
from vforward.errors import VforwardError

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

PATIENCE_S = 5.0
TRIES = 20


class Rest:
    """For how long. inputs_s: seconds in which no input was polled; workers_s: in which no worker ran."""

    def __init__(self) -> None:
        self.inputs_s = 0.0
        self.workers_s = 0.0


@contextmanager
def at_rest(forwarder: Forwarder) -> Iterator[Rest]:
    """See the module. Before the graph is built there is nothing to wait for. ``moving`` is held.

    Raises VforwardError when it does not come to rest; then it goes on as before.
    """
    rest = Rest()
    workers = forwarder.workers
    if workers is None:
        yield rest
        return
    begun = stood = time.perf_counter()
    _poll(forwarder, False)
    try:
        _empty(forwarder)
        stood = time.perf_counter()
        forwarder.resting = True
        yield rest
    finally:
        forwarder.resting = False
        workers.resume()
        rest.workers_s = time.perf_counter() - stood
        _poll(forwarder, True)  # now that all run: much may wait, and be handed to others
        workers.wake()
        rest.inputs_s = time.perf_counter() - begun


def _poll(forwarder: Forwarder, on: bool) -> None:
    """Let each worker poll its inputs, or none."""
    assert forwarder.workers is not None
    for queue in forwarder.placement.queues.values():
        forwarder.graph.poll(queue.worker, rx_name(queue.port, queue.number), on)
        for descriptor in queue.descriptors:
            forwarder.workers[queue.worker].watch(descriptor, on)


def _empty(forwarder: Forwarder) -> None:
    """Wait until nothing is on its way, and all workers stand. Raises VforwardError."""
    workers = forwarder.workers
    assert workers is not None
    for _ in range(TRIES):
        for _ in range(2):  # rounds: what a queue was given in one it has in the next
            if not workers.quiesce(PATIENCE_S):
                raise VforwardError("a worker does not answer; nothing was changed")
        if forwarder._hand_off is not None and not forwarder._hand_off.taken_up(
            lambda: workers.running, PATIENCE_S
        ):
            raise VforwardError("a worker does not take up what it was handed; nothing was changed")
        workers.pause()
        if not workers.running or not _on_the_way(forwarder):
            return
        workers.resume()
    raise VforwardError("packets are made faster than they leave; nothing was changed")


def _on_the_way(forwarder: Forwarder) -> bool:
    assert forwarder.workers is not None
    rings = forwarder._hand_off is not None and forwarder._hand_off.waiting() > 0
    return rings or any(worker.plan.pending.any() for worker in forwarder.workers)
