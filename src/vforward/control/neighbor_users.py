# SPDX-License-Identifier: Apache-2.0
"""Whom the machine of neighbors tells what it knows, and by whom it asks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Routing(Protocol):
    """Who uses neighbors.

    neighbor_up may come again for what is up, with the same or another MAC, and raise
    VforwardError where there is no room: the neighbor then counts as failed.
    """

    def neighbor_up(self, port_number: int, ip: int, mac: bytes, /) -> None:
        """Packets for this next hop may be sent to this MAC from now on, and nobody is told."""

    def neighbor_stale(self, port_number: int, ip: int, /) -> None:
        """The next hop, which is up, stays so, but it is to be told when packets go there."""

    def neighbor_failed(self, port_number: int, ip: int, /) -> bool:
        """It does not answer: as neighbor_down, and other paths are better until it is up or down.

        Returns whether there are such paths, so that no packet would ask for it. May come again.
        """

    def neighbor_down(self, port_number: int, ip: int, /) -> None:
        """Packets for this next hop must be held from now on."""

    def together(self) -> AbstractContextManager[None]:
        """For many of these calls: inside, none waits for workers to let go of what was before."""


class Output(Protocol):
    """What the machine does besides."""

    def request(self, port: int, ip: int, mac: bytes | None) -> bool:
        """Ask who has ip: everybody, or the station mac. False: there is no address to ask from."""

    def release(self, port: int, ip: int, forward: bool) -> None:
        """Let the packets go that wait for a next hop: forward, or as undeliverable."""
