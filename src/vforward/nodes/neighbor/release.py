# SPDX-License-Identifier: Apache-2.0
"""neighbor-release: lets held packets go, when the control plane says what came of their next hop.

RFC 1812 section 5.2.7.1 (host unreachable, where the next hop did not answer); RFC 4861 section 7.2.2
(address unreachable, RFC 4443 section 3.1).

Reads   the ring releases; meta.l3, the version of the packets that were held
Writes  the table held; meta.scratch (what icmp4-error and icmp6-error need), for packets that leave
        by UNREACHABLE4 and UNREACHABLE6
Drops   nothing
"""

from __future__ import annotations

import numpy as np

from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import NIL, U64, Counts, Data, Edges, Meta, Rows
from vforward.nodes.neighbor import events as ev
from vforward.packet import icmp6
from vforward.rings.spsc import pop
from vforward.tables import held as table
from vforward.tables.held import Held


class Edge(Labels):
    """Ways out: outcome << 1 | whether it is IPv6."""

    IP4 = ev.FORWARD << 1, "IPv4, its neighbor is known now: wire to ip4-lookup"
    IP6 = ev.FORWARD << 1 | 1, "IPv6, its neighbor is known now: wire to ip6-lookup"
    UNREACHABLE4 = ev.UNREACHABLE << 1, "IPv4, its neighbor did not answer: wire to icmp4-error"
    UNREACHABLE6 = ev.UNREACHABLE << 1 | 1, "IPv6, its neighbor did not answer: wire to icmp6-error"


class Count(Labels):
    """No reasons to drop."""

    UNREACHABLE = 0, "its neighbor did not answer; ICMP tells the sender", INFO


HOST_UNREACHABLE = 3 << 8 | 1


@kernel
def neighbor_release(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, held: Held, releases: U64
) -> int:
    words = view(address(held), ev.RELEASE_WORDS, np.uint64)  # of record 0: the release in hand
    n = 0
    while n < idx.size:
        row = table.pop_oldest(held, meta, 0)
        if row == NIL:
            if pop(releases, words, ev.RELEASE_WORDS) < ev.RELEASE_WORDS:
                break
            table.begin_release(held, words[0] & u64(0xFFFF), words[1], words[2])
            continue
        six = i64(data[row, i64(meta[row].l3)] >> 4 == 6)
        outcome = i64(words[0] >> u64(32)) & 1
        idx[n] = row
        edge[n] = outcome << 1 | six
        if outcome == ev.UNREACHABLE:
            meta[row].scratch = icmp6.ADDRESS_UNREACHABLE if six else HOST_UNREACHABLE
            count[Count.UNREACHABLE] += u64(1)
        n += 1
    return n


NODE = Node("neighbor-release", neighbor_release, Edge, Count, Kind.INPUT)
