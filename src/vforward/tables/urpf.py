# SPDX-License-Identifier: Apache-2.0
"""urpf: whether a packet may come from where it came from, by the route to its source.

RFC 3704 sections 2.2 (strict) and 2.4 (loose; a default route is a route). Of several next hops any
will do: of section 2.3's feasible paths those that are in use (RFC 8704 section 2.3 on what they miss).
A source that is the router's own comes from nobody.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, kernel
from vforward.tables.adjacency import Way
from vforward.tables.ports import URPF_STRICT


@kernel
def passes(adjacencies: Any, buckets: Any, found: Any, mode: Any, port: Any) -> bool:
    """Whether the adjacency of a packet's source lets it in by a port whose mode is not 0."""
    to = adjacencies[found]
    way = i64(to.edge)
    if way == Way.LOCAL or way == Way.DROP or way == Way.ERROR:
        return False
    if mode != URPF_STRICT:
        return True
    if way != Way.MULTIPATH:
        return to.tx_port == port
    for k in range(i64(to.first), i64(to.first) + i64(to.mask) + 1):
        if adjacencies[buckets[k]].tx_port == port:
            return True
    return False
