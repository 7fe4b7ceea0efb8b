# SPDX-License-Identifier: Apache-2.0
"""A forwarder's graph, laid out anew while it forwards, takes the old one's place between two rounds.

    aside        the graph is laid out, checked and compiled; where that cannot be nothing has happened
    moving       what depends on who polls what, and on who looks on: counters, captures, placement
    exchange     all workers stand, then all go on with the new one (graph.exchange): microseconds
    afterwards   the document "forwarder" is published anew; what the old graph had is given back

Who reads counters has the old graph's, which stand still, until it is published, and then the new one's: a
document names one generation, and so do the segments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vforward.control.placement import Placement
from vforward.graph.build import Graph

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder
    from vforward.control.hand_off import HandOff
    from vforward.control.publish import Publisher


class Succession:
    """One change at a time: Forwarder.changing is held."""

    def __init__(self, forwarder: Forwarder, hand_off: HandOff | None, hz: float) -> None:
        self._forwarder, self._hand_off = forwarder, hand_off
        self._hz = hz

    def run(
        self,
        publisher: Publisher,
        change: Callable[[Graph], None],
        standing: Callable[[], None] | None,
        progress: Callable[[str], None],
    ) -> list[float]:
        """See Forwarder.replace_graph.

        change: what is laid besides the forwarder's own nodes. standing: called while no worker runs one.
        """
        forwarder = self._forwarder
        new = forwarder.graph.successor()
        placement = Placement(forwarder.interfaces.real(), forwarder.n_workers)
        forwarder.lay_out(new, placement)
        change(new)
        new.build(progress)
        try:
            with forwarder.moving:
                return self._take_place(new, placement, publisher, standing)
        except BaseException:
            if forwarder.graph is not new:
                new.release()
            raise

    def _take_place(
        self,
        new: Graph,
        placement: Placement,
        publisher: Publisher,
        standing: Callable[[], None] | None,
    ) -> list[float]:
        forwarder, old = self._forwarder, self._forwarder.graph
        workers, hand_off = forwarder.workers, self._hand_off
        assert workers is not None, "what is published is built"
        placement.follow(forwarder.placement)
        if hand_off is not None:
            placement.lay(new)
            placement.begin(workers, hand_off)
        follow = publisher.prepare(new, placement)
        try:
            seen = forwarder.captures.follow(new, placement)
            offers = [
                worker.offer(old, new, n, placement.descriptors, placement.deaf_to(n), seen[n])
                for n, worker in enumerate(workers)
            ]
            stood = workers.exchange(offers, standing)
        except BaseException:
            publisher.abandon(new)
            raise
        forwarder.graph, forwarder.placement = new, placement
        follow(old)
        new.settle()
        old.release()
        return [clocks / self._hz for clocks in stood]
