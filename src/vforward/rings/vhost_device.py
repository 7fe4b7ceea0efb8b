# SPDX-License-Identifier: Apache-2.0
"""What a vhost-user session (rings.vhost_user) works on: queues, and a guest's memory mapped here."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vforward.rings.vhost_message import Region


class Mapped(NamedTuple):
    """A region, and where it lies here."""

    region: Region
    here: int


class Device(Protocol):
    """What a session works on."""

    queues: NDArray[np.uint64]
    """u64[2 * pairs, QUEUE_WORDS], by the numbers that messages give them."""
    features: int

    def map(self, wanted: list[Region], fds: list[int]) -> list[Mapped]:
        """Map a guest's memory, in place of what was. Descriptors stay the caller's. Raises BadPeer."""

    def agreed(self, features: int) -> None:
        """The peer has chosen its features."""

    def unmap(self) -> None:
        """Forget the guest's memory and what is kept. No queue runs."""

    def map_kept(self, size: int, offset: int, fd: int) -> int:
        """Map what the peer keeps for us, in place of what was. Returns where. Raises BadPeer."""

    def gone(self) -> bool:
        """Whether memory was taken away while it was used."""

    def watch(self, fd: int) -> None:
        """Wake the worker when this eventfd is written."""

    def unwatch(self, fd: int) -> None:
        """No longer: it is about to be closed. Harmless when it is not watched."""

    def signal(self, fd: int) -> None:
        """Write this eventfd of the peer's. That it is full, whatever the peer does to it, stops nobody."""

    def quiesce(self) -> None:
        """Return when the worker has come to a quiet point."""
