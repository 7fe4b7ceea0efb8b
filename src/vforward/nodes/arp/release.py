# SPDX-License-Identifier: Apache-2.0
"""arp-release: lets packets go that arp-resolve holds, when the control plane says what came of it.

RFC 1812 section 5.2.7.1 (host unreachable, where the next hop did not answer).

Reads   the ring releases
Writes  the table held; meta.scratch (what icmp4-error needs), for packets that leave by UNREACHABLE
Drops   nothing
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import kernel
from vforward.layout import NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.arp import events as ev
from vforward.rings.spsc import pop
from vforward.tables import held as table
from vforward.tables.held import Held


class Edge(Labels):
    """Ways out; releases hold these numbers."""

    FORWARD = ev.FORWARD, "its neighbor is known now: wire to ip4-lookup"
    UNREACHABLE = ev.UNREACHABLE, "its neighbor did not answer: wire to icmp4-error"


class Count(Labels):
    """No reasons to drop."""

    UNREACHABLE = 0, "its neighbor did not answer; ICMP tells the sender", INFO


HOST_UNREACHABLE = 3 << 8 | 1


@kernel
def arp_release(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, held: Held, releases: U64
) -> int:
    word = view(address(held), 1, np.uint64)  # held[0].key: the release in hand
    n = 0
    while n < idx.size:
        row = table.pop_oldest(held, 0)
        if row == NIL:
            if pop(releases, word, 1) == 0:
                break
            low = np.int64(word[0])
            table.begin_release(held, table.key_of((low >> 32) & 0xFFFF, low & 0xFFFFFFFF))
            continue
        idx[n] = row
        outcome = np.int64(word[0] >> np.uint64(48)) & 1
        edge[n] = outcome
        if outcome == Edge.UNREACHABLE:
            meta[row].scratch = HOST_UNREACHABLE
            count[Count.UNREACHABLE] += np.uint64(1)
        n += 1
    return n


NODE = Node("arp-release", arp_release, Edge, Count, Kind.INPUT)
