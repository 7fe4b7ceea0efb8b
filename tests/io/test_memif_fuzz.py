# SPDX-License-Identifier: Apache-2.0
"""A memif peer that writes anything into its memory. VFORWARD_FUZZ_CASES=1000000 runs so many cases.

A case writes a few descriptors and the index of a ring, most of them nearly right, and calls a node
once. An access outside of the regions is a segmentation fault: they end at pages without access.
(By the socket, with peers that come again: test_memif_hostile.py)
"""

import contextlib
import os
import select

import numpy as np
import pytest

from fuzzing import cases
from guests import Memory
from storms import draw, give_back, hailed, packets
from vforward.io import memif_nodes
from vforward.io.libc import libc_address
from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import view
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, VECTOR_MAX
from vforward.memory.chain import LONGEST
from vforward.rings import guest_memory
from vforward.rings import memif_ring as ring
from vforward.testing.run_node import heap_pool

CASES = cases(1_000_000)  # a second or two
SLOTS = 8
REGION, OTHER = 1 << 17, 4096
RING = 128 + 16 * SLOTS
BUFFER = 2048


@kernel
def anything(state, size):
    """A number that is often right, near an edge, or whatever."""
    kind = draw(state, 16)
    if kind < 10:
        return draw(state, 3000)
    if kind < 13:
        return size - 70 + draw(state, 80)
    if kind < 15:
        return draw(state, size)
    return i64(0xFFFFFFFF) - draw(state, 70_000)


@kernel
def disturb(state, peer, which, slots, head):
    """Write into a ring of the table state's: a few descriptors near its next slot, and its index."""
    where = i64(peer[which])
    at = i64(peer[slots + 1])
    long_chain = draw(state, 8) == 0
    for k in range(SLOTS if long_chain else draw(state, 5)):
        words = view(where + 128 + 16 * ((at + k) % SLOTS), 3, np.uint32)
        region = i64(0)
        if draw(state, 8) == 0:
            region = draw(state, 3) if draw(state, 4) else draw(state, 65536)
        flags = 2 * draw(state, 32768) if draw(state, 8) == 0 else 0
        more = draw(state, 8) > 0 if long_chain else draw(state, 4) == 0
        words[0] = flags | i64(more) | region << 16
        words[1] = anything(state, i64(4096) if draw(state, 8) else i64(LONGEST))
        if long_chain:
            words[1] = draw(state, BUFFER)
        words[2] = anything(state, i64(OTHER if region == 1 else REGION))
    if draw(state, 4):
        ahead = draw(state, SLOTS + 1) if draw(state, 64) else draw(state, 65536)
        base = at if head == ring.HEAD else at - SLOTS * draw(state, 2)
        view(where + head, 1, np.uint16)[0] = (base + ahead) & 0xFFFF
    view(where + ring.FLAGS, 1, np.uint16)[0] = draw(state, 3)


@kernel
def storm(cases, state, data, meta, pool, peer, pieces, place, idx, edge, c0, c1, seen, wild):
    """Run cases. seen u64[16]: by reason how often a peer was let go, [0]: not, [8, 9]: packets."""
    head = ring.HEAD if peer[ring.SERVER] else ring.TAIL
    for _ in range(cases):
        sending = draw(state, 2) == 0
        peer[ring.REASON] = u64(0)
        ring.hand_over(peer, ring.LIVE)
        if not wild and sending:
            disturb(state, peer, ring.TX, ring.TX_SLOTS, head)
        elif not wild:
            disturb(state, peer, ring.RX, ring.RX_SLOTS, head)
        if sending:
            n = packets(state, meta, pool, idx)
            memif_nodes.send(data, meta, idx[:n], edge, c0, pool, peer, place)
            for i in range(n):
                if edge[i] == EDGE_HELD:
                    seen[8] += u64(1)
                else:
                    give_back(meta, pool, i64(idx[i]))
        else:
            n = memif_nodes.receive(data, meta, idx, edge, c1, pool, peer, pieces)
            for i in range(n):
                give_back(meta, pool, i64(idx[i]))
            seen[9] += u64(n)
        seen[i64(peer[ring.REASON])] += u64(1)


@kernel
def hail(cases, state, peer, stop):
    """As storm, only writing: beside nodes at work."""
    head = ring.HEAD if peer[ring.SERVER] else ring.TAIL
    done = 0
    while done < cases and not load_acquire64(stop.ctypes.data):
        disturb(state, peer, ring.RX, ring.RX_SLOTS, head)
        disturb(state, peer, ring.TX, ring.TX_SLOTS, head)
        done += 1
    return done


class Ends:
    """A peer's memory, and what our end knows of it. Both rings lie at the very end of a region."""

    def __init__(self, server):
        self.memory, self.other = Memory(REGION), Memory(OTHER)
        self.pool = heap_pool(1024)
        self.cache = self.pool.cache()
        self.epoll, self.bell = select.epoll(), os.eventfd(0, os.EFD_NONBLOCK)
        self.state = np.zeros(ring.STATE_WORDS, np.uint64)
        self.counts = [np.zeros(8, np.uint64), np.zeros(8, np.uint64)]
        end = self.memory.here + REGION
        for words, value in (
            ((ring.SERVER,), server), ((ring.PORT,), 3), ((ring.ONE,), 1), ((ring.BUFFER,), BUFFER),
            ((ring.RX, ring.TX), (end - RING, end - 2 * RING)), ((ring.RX_SLOTS, ring.TX_SLOTS), SLOTS),
            ((ring.TX_OFFSET, ring.RX_OFFSET), (0, SLOTS * BUFFER)),
            ((ring.TX_BUFFERS, ring.RX_BUFFERS), (self.memory.here, self.memory.here + SLOTS * BUFFER)),
            ((ring.EPOLL, ring.BELL), (self.epoll.fileno(), self.bell)),
            ((ring.EPOLL_WAIT, ring.WRITE), (libc_address("epoll_wait"), libc_address("write"))),
            ((ring.REGIONS,), 2), ((ring.FIRST, ring.FIRST + 1), (self.memory.here, REGION)),
            ((ring.FIRST + 2, ring.FIRST + 3), (self.other.here, OTHER)),
        ):  # fmt: skip
            self.state[list(words)] = value
        ring.begin(self.state)

    def storm(self, cases, state, *, wild):
        seen, before = np.zeros(16, np.uint64), self.pool.free
        storm(
            cases, state, self.pool.data, self.pool.meta, self.cache, self.state,
            np.zeros(2 * ring.PIECES, np.uint64), np.zeros(4, np.uint64),
            np.zeros(VECTOR_MAX, np.uint32), np.zeros(VECTOR_MAX, np.uint8), *self.counts, seen, wild,
        )  # fmt: skip
        assert self.pool.free == before
        self.pool.check()
        for memory in (self.memory, self.other):
            assert not guest_memory.gone(memory.table)
        assert sum(seen[:8]) == cases
        return seen.tolist()

    def close(self):
        self.epoll.close()
        os.close(self.bell)
        self.memory.close()
        self.other.close()


@pytest.fixture(params=[True, False], ids=["server", "client"])
def ends(request):
    with contextlib.closing(Ends(request.param)) as made:
        yield made


def test_nothing_that_a_peer_writes_does_harm(ends):
    seen = ends.storm(CASES // 2, np.array([88172645463325252], np.uint64), wild=False)
    assert all(seen[reason] for reason in (ring.BAD_INDEX, ring.BAD_DESCRIPTOR, ring.BAD_CHAIN)), (
        seen
    )
    # And often nothing was wrong.
    assert seen[0] > CASES // 20, seen
    assert seen[8] > CASES // 100, seen
    assert seen[9] > CASES // 100, seen


def test_nor_what_it_writes_meanwhile(ends):
    with hailed(hail, ends.state) as state:
        seen = ends.storm(CASES, state, wild=True)
    assert seen[0] < CASES
