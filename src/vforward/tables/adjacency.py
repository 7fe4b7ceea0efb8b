# SPDX-License-Identifier: Apache-2.0
"""Adjacencies: what a route leads to. ``ADJACENCY[n]``, one cache line each, written by control.

A record is published by its ``edge``, written last: until then packets go where the old edge says.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.layout import ArrayOf

REWRITE_MAX = 24
"""Room for an Ethernet header with two tags, right-aligned: it ends where the IP header begins."""

ADJACENCY = np.dtype(
    [
        ("rewrite", np.uint64, 3),  # the link-layer header's bytes, right-aligned
        ("next_hop", np.uint32),  # host order; 0: the packet's destination itself
        ("tx_port", np.uint16),
        ("mtu", np.uint16),  # longest IP packet
        ("edge", np.uint8),  # ip4-lookup's edge
        ("rewrite_len", np.uint8),  # bytes of rewrite that count
        ("icmp", np.uint16),  # type << 8 | code of the error that an ERROR adjacency gives
        ("spare", np.uint8, 28),
    ]
)
assert ADJACENCY.itemsize == 64

Adjacencies = Annotated[NDArray[Any], ArrayOf(ADJACENCY)]

NO_ROUTE = 0
"""The adjacency of a destination that no route covers."""
