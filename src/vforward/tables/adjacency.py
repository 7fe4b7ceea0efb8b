# SPDX-License-Identifier: Apache-2.0
"""Adjacencies: what a route leads to, IPv4 or IPv6. ``ADJACENCY[n]``, one cache line each.

Written by control. A record is published by its ``edge``, written last: until then packets go where
the old edge says. A MULTIPATH record names a range of ``buckets u32[]``, adjacencies again (never
MULTIPATH ones): ``buckets[first + (flow hash & mask)]``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, inline
from vforward.layout import ArrayOf
from vforward.memory.buffer import byte_address

REWRITE_MAX = 24
"""Room for an Ethernet header with two tags, right-aligned: it ends where the IP header begins."""


class Way(IntEnum):
    """What ``edge`` says: the edges of ip4-lookup and ip6-lookup, and MULTIPATH."""

    REWRITE = 0
    RESOLVE = 1
    LOCAL = 2
    NOTIFY = 3
    """As REWRITE, but the neighbor is stale: the control plane wants to know that it is used."""
    DROP = 4
    ERROR = 5
    MULTIPATH = 6


ADJACENCY = np.dtype(
    [
        ("rewrite", np.uint64, 3),  # the link-layer header's bytes, right-aligned
        ("next_hop", np.uint64, 2),  # high and low half, see tables.addresses; 0: the destination
        ("tx_port", np.uint16),
        ("mtu", np.uint16),  # longest IP packet
        ("edge", np.uint8),
        ("rewrite_len", np.uint8),  # bytes of rewrite that count
        ("icmp", np.uint16),  # type << 8 | code of the error that an ERROR adjacency gives
        ("first", np.uint32),
        ("mask", np.uint32),
        ("spare", np.uint64),
    ]
)
assert ADJACENCY.itemsize == 64

Adjacencies = Annotated[NDArray[Any], ArrayOf(ADJACENCY)]

NO_ROUTE = 0
"""The adjacency of a destination that no route covers."""


@inline
def put_header(data: Any, meta: Any, row: Any, l3: Any, to: Any) -> None:
    """Put an adjacency's link-layer header in front of the network header, and name its port."""
    record = meta[row]
    copy(byte_address(address(data), row, l3 - REWRITE_MAX), address(to.rewrite), REWRITE_MAX)
    record.off = l3 - i64(to.rewrite_len)
    record.tx_port = to.tx_port
