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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from vforward.control.afterwards import afterwards
from vforward.control.placement import Placement
from vforward.graph.build import Graph
from vforward.graph.succession import Exchange

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
        with self.prepared(change, progress) as (new, placement), forwarder.moving:
            exchange = self.offer(new, placement, publisher)
            try:
                stood = exchange.take_place(standing)
            finally:
                exchange.finish()
        return [clocks / self._hz for clocks in stood]

    @contextmanager
    def prepared(
        self, change: Callable[[Graph], None], progress: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[Graph, Placement]]:
        """A graph that is built aside, for the ports that there are now, and who polls what in it."""
        forwarder = self._forwarder
        new = forwarder.graph.successor()
        placement = Placement(forwarder.interfaces.real(), forwarder.n_workers)
        forwarder.lay_out(new, placement)
        change(new)
        new.build(progress)
        try:
            yield new, placement
        finally:
            if forwarder.graph is not new:
                new.release()

    def offer(self, new: Graph, placement: Placement, publisher: Publisher) -> Taking:
        """All that is to be done when it takes place, worked out. Forwarder.moving is held, to the end."""
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
        except BaseException:
            publisher.abandon(new)
            raise
        return Taking(forwarder, publisher, new, placement, offers, follow)


class Taking:
    """One graph about to take the place of the forwarder's."""

    def __init__(
        self,
        forwarder: Forwarder,
        publisher: Publisher,
        new: Graph,
        placement: Placement,
        offers: list[Exchange],
        follow: Callable[[Graph], None],
    ) -> None:
        self._forwarder, self._publisher = forwarder, publisher
        self._old, self._new, self._placement = forwarder.graph, new, placement
        self._offers, self._follow = offers, follow

    def take_place(self, standing: Callable[[], None] | None = None) -> list[int]:
        """The exchange. Returns for how many clocks each worker stood; then finish is to be called."""
        workers = self._forwarder.workers
        assert workers is not None
        stood = workers.exchange(self._offers, standing)
        self._forwarder.graph, self._forwarder.placement = self._new, self._placement
        return stood

    def finish(self) -> None:
        """Publish it, and give back what the old one had; or, where it has not taken place, what it has.

        Once it has, nothing is raised: what fails is logged, and published when there is room again.
        """
        if self._forwarder.graph is not self._new:
            self._publisher.abandon(self._new)
            return
        steps: dict[str, Callable[[], None]] = {
            "publishing the new graph": partial(self._follow, self._old),
            "giving up the old graph": self._new.settle,
            "giving back what the old graph had": self._old.release,
            "publishing": self._publisher.catch_up,  # last: there is more room by now
        }
        for what, step in steps.items():
            with afterwards(what):
                step()
