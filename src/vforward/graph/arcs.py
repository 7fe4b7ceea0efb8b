# SPDX-License-Identifier: Apache-2.0
"""Feature arcs: optional nodes between two fixed ones, chosen per port by a bit mask.

An arc has an ordered list of features and an end. ``masks u64[n_ports + 1]`` says for each port which
features are on: each feature has a bit, in the list's order, and bit 62 is always set and means the end;
the last word is the union of all ports'. A feature keeps its bit for as long as the arc is there, whatever
graph takes another's place: packets that wait somewhere carry it. A packet carries what is left of its
port's mask in meta.features; its next node is the lowest bit, as edge EDGE_ARC + bit. An arc with nothing
enabled costs one test per vector; enabling a feature is a store, and the union's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import WiringError
from vforward.jit.intrinsics import ctz
from vforward.jit.kernel import inline
from vforward.layout import ARC_BITS, EDGE_ARC

END = 1 << (ARC_BITS - 1)


EDGE_END = EDGE_ARC + ARC_BITS - 1


@inline
def quiet(masks: Any) -> Any:
    """Whether no port has any feature of the arc: asked once per vector."""
    return masks[masks.size - 1] == np.uint64(END)


@inline
def begin(meta: Any, row: Any, mask: Any) -> Any:
    """Put a packet on an arc whose port's mask is given; returns its edge."""
    meta[row].features = mask & (mask - np.uint64(1))
    return EDGE_ARC + ctz(mask)


@inline
def proceed(meta: Any, row: Any) -> Any:
    """Send a packet to the next node of its arc; returns its edge."""
    mask = meta[row].features
    meta[row].features = mask & (mask - np.uint64(1))
    return EDGE_ARC + ctz(mask)


@inline
def proceed_past(meta: Any, row: Any, mask: Any) -> Any:
    """As proceed, but past the features whose bits are set in mask, u64; returns the packet's edge."""
    left = meta[row].features & ~mask
    meta[row].features = left & (left - np.uint64(1))
    return EDGE_ARC + ctz(left)


def spread(features: Sequence[str]) -> dict[str, int]:
    """Bits for features, with room between them, before the first and behind the last for others."""
    step = (ARC_BITS - 1) / (len(features) + 1)
    return {name: int(step * (i + 1)) for i, name in enumerate(features)}


@dataclass(frozen=True)
class Arc:
    """An arc of a graph. masks is the table ``features`` of the nodes that start it. bits: by feature."""

    name: str
    starts: tuple[str, ...]
    bits: dict[str, int]
    end: str
    masks: NDArray[np.uint64]

    @property
    def features(self) -> tuple[str, ...]:
        """The features in the order in which packets visit them."""
        return tuple(sorted(self.bits, key=lambda name: self.bits[name]))

    def enable(self, feature: str, port: int) -> None:
        """Send the port's packets through the feature. The worker may be running; one caller at a time."""
        self.masks[port] |= self._bit(feature)
        self.masks[-1] = np.bitwise_or.reduce(self.masks[:-1])

    def disable(self, feature: str, port: int) -> None:
        """Take the feature off the port's way. The worker may be running; one caller at a time."""
        self.masks[port] &= ~self._bit(feature)
        self.masks[-1] = np.bitwise_or.reduce(self.masks[:-1])

    def _bit(self, feature: str) -> np.uint64:
        if feature not in self.bits:
            raise WiringError(
                f"arc {self.name}: no feature {feature!r}; it has: {', '.join(self.features)}"
            )
        return np.uint64(1 << self.bits[feature])
