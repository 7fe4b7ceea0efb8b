# SPDX-License-Identifier: Apache-2.0
"""Both ends of a pipe in one process, without a server: what tests of the kernels sync."""

import numpy as np

from vforward.rings.netmap_layout import address_of, link_at, ring_at, slots_at
from vforward.rings.netmap_names import parse_name
from vforward.rings.netmap_pair import Pair
from vforward.rings.netmap_pipe import pipe_begin
from vforward.rings.netmap_sync import KRING


class End:
    """One end: its krings, and its rings as records."""

    def __init__(self, pair, end):
        region, where = pair.region, pair.region.where
        base, mine, theirs = address_of(region.memory), where.ends[end], where.ends[1 - end]
        self.krings = np.zeros(2, KRING)
        for k, at, peer, link, n in zip(
            self.krings,
            (mine.tx, mine.rx),
            (theirs.rx, theirs.tx),
            (end, 1 - end),
            where.slots[end],
            strict=True,
        ):
            k["ring"], k["peer"], k["link"] = base + at, base + peer, base + link_at(link)
            k["n"], k["bufs"], k["buf_size"] = n, where.bufs, 2048
            k["data"] = base + where.bufs_at
        self.tx, self.rx = ring_at(region.memory, mine.tx), ring_at(region.memory, mine.rx)
        self.tx_slots = slots_at(region.memory, mine.tx, where.slots[end][0])
        self.rx_slots = slots_at(region.memory, mine.rx, where.slots[end][1])
        pipe_begin(self.krings)


def pipe(n, back=4):
    """A pipe of n slots from its first end to its second: (pair, first, second)."""
    pair = Pair(parse_name("t{1"), n, back, 0)
    for name in ("t{1", "t}1"):
        pair.take(parse_name(name), 0)
    return pair, End(pair, 0), End(pair, 1)


def numbers(ring, n):
    """The slots that are the user's."""
    head, tail = int(ring["head"]), int(ring["tail"])
    return [(head + i) % n for i in range((tail - head) % n)]
