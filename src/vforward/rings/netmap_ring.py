# SPDX-License-Identifier: Apache-2.0
"""A netmap_ring for Python programs: its words, its slots, what of it is the user's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vforward.rings import netmap_layout as layout


class Ring:
    """A netmap_ring: the user's side of it. slots: a record array of buf_idx, len, flags, ptr."""

    def __init__(self, memory: NDArray[np.uint8], at: int, n: int) -> None:
        self.words = layout.ring_at(memory, at)
        self.slots = layout.slots_at(memory, at, n)
        self.n = n

    def __getattr__(self, name: str) -> int:
        """The fields of netmap_ring: head, cur, tail, flags, ..."""
        try:
            return int(self.words[name])
        except (ValueError, KeyError) as error:
            raise AttributeError(name) from error

    def advance(self, n: int = 1) -> None:
        """Move head and cur on by n slots: filled for sending, or done with."""
        slot = (self.head + n) % self.n
        self.words["head"] = self.words["cur"] = slot

    def move(self, *, head: int | None = None, cur: int | None = None) -> None:
        """Set head or cur or both."""
        if head is not None:
            self.words["head"] = head
        if cur is not None:
            self.words["cur"] = cur

    def space(self) -> int:
        """Slots that are the user's: [head, tail)."""
        return (self.tail - self.head) % self.n

    def owned(self) -> list[int]:
        """Their numbers, in order."""
        return [(self.head + i) % self.n for i in range(self.space())]
