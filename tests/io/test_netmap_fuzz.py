# SPDX-License-Identifier: Apache-2.0
"""A netmap peer that writes anything into a port's region. VFORWARD_FUZZ_CASES=1000000 runs so many cases.

A case writes a few slots, positions and whatever, most of them nearly right, and calls a node once: at the
end of a pipe, whose other end maps all of it, and at a port of a switch, as if that were hostile. An access
outside of the region is a segmentation fault: it ends at pages without access, and so does the scratch.
"""

import contextlib
import os
import socket

import numpy as np
import pytest

from fuzzing import cases
from guests import Memory
from rings.guarded_regions import (
    any_place,
    any_word,
    bytes_at,
    guarded_regions,
    write_anywhere,
    write_slot,
)
from rings.vale_ports import attach, shut
from storms import draw, give_back, hailed, packets
from vforward.io import netmap_nodes
from vforward.io.libc import libc_address
from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import address
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, VECTOR_MAX
from vforward.rings import netmap
from vforward.rings.netmap_layout import (
    BUF_SIZE,
    HEAD,
    MAX_FRAGS,
    OURS,
    RX,
    SLOTS,
    THEIRS,
    TX,
    address_of,
    store,
)
from vforward.rings.netmap_names import parse_name
from vforward.rings.netmap_pair import Pair
from vforward.rings.netmap_pipe import WAITS
from vforward.rings.netmap_sync import PORT_WAITS, SWITCH_SLEEPS, SWITCH_TAIL, before
from vforward.rings.vale_switch import Switch
from vforward.testing.run_node import heap_pool

CASES = cases(1_000_000)  # of each test: a few seconds
N = 70  # slots: more than a frame may have
SENT, RECEIVED = range(2)


@kernel
def disturb(state, krings, which, vale, region, size):
    """What a hostile peer writes before a call of receive (RX), or of send (TX)."""
    k = krings[which]
    long = draw(state, 64) == 0
    count = N - 1 - draw(state, 12) if long else draw(state, 6)
    start = k.last if which == RX else k.first
    for i in range(count):
        write_slot(state, k.ring + SLOTS + 16 * ((start + i) % k.n), k.bufs, long)
    # So many have been sent to us; all of ours have been taken.
    likely = (k.last + count) % k.n if which == RX else k.first
    theirs = k.link + (OURS if which == RX else THEIRS)
    if vale:
        likely = likely if which == RX else before(k.n, k.first)
        theirs = k.link + SWITCH_TAIL
    store(theirs, any_place(state, k.n, likely))
    if draw(state, 16) == 0:
        store(
            k.ring + HEAD + 4 * draw(state, 4),
            any_word(state) if draw(state, 2) else draw(state, N),
        )
    store(k.link + SWITCH_SLEEPS if vale else theirs + WAITS, i64(draw(state, 16) == 0))
    ours = k.link + (PORT_WAITS if vale else WAITS + (THEIRS if which == RX else OURS))
    store(ours, draw(state, 2))
    write_anywhere(state, region, size)


@kernel
def storm(
    cases,
    state,
    data,
    meta,
    pool,
    krings,
    place,
    scratch,
    idx,
    edge,
    c0,
    c1,
    region,
    size,
    seen,
    wild,
):
    """Run cases. seen: packets sent, and received."""
    for _ in range(cases):
        sending = draw(state, 2) == 0
        if not wild:
            disturb(state, krings, TX if sending else RX, place[netmap_nodes.VALE], region, size)
        if sending:
            n = packets(state, meta, pool, idx)
            netmap_nodes.send(data, meta, idx[:n], edge, c0, pool, krings, place, scratch)
            for i in range(n):
                if edge[i] == EDGE_HELD:
                    seen[SENT] += u64(1)
                else:
                    give_back(meta, pool, i64(idx[i]))
        else:
            n = netmap_nodes.receive(data, meta, idx, edge, c1, pool, krings, place, scratch)
            for i in range(n):
                give_back(meta, pool, i64(idx[i]))
            seen[RECEIVED] += u64(n)


@kernel
def hail(cases, state, krings, place, region, size, stop):
    """As storm, only writing: beside nodes at work."""
    done = 0
    while done < cases and not load_acquire64(address(stop)):
        for which in range(2):
            disturb(state, krings, which, place[netmap_nodes.VALE], region, size)
        done += 1
    return done


class End:
    """A netmap port's end, as io.netmap.NetmapPort hands it to its nodes."""

    def __init__(self, port):
        self.port = port
        self.pool = heap_pool(1024)
        self.cache = self.pool.cache()
        self.room = Memory(MAX_FRAGS * BUF_SIZE)
        self.scratch = bytes_at(self.room.here, MAX_FRAGS * BUF_SIZE)
        self.counts = np.zeros(8, np.uint64), np.zeros(8, np.uint64)
        self.region = address_of(port.memory), port.memory.size
        self.place = np.zeros(netmap_nodes.PLACE_WORDS, np.int64)
        for word, value in (
            (netmap_nodes.VALE, port.kind is netmap.Kind.VALE), (netmap_nodes.BUFS, port.bufs),
            (netmap_nodes.BELL, port.bell), (netmap_nodes.NUMBER, 3),
            (netmap_nodes.SEND, libc_address("send")), (netmap_nodes.RECV, libc_address("recv")),
        ):  # fmt: skip
            self.place[word] = value
        netmap_nodes.hand_over(self.place, 1)

    def storm(self, state, *, wild):
        """Run the cases, after which no buffer is lost. Returns the nodes' counters, by label."""
        seen, free = np.zeros(2, np.uint64), self.pool.free
        storm(
            CASES, state, self.pool.data, self.pool.meta, self.cache, self.port.krings, self.place,
            self.scratch, np.zeros(VECTOR_MAX, np.uint32), np.zeros(VECTOR_MAX, np.uint8),
            *self.counts, *self.region, seen, wild,
        )  # fmt: skip
        assert self.pool.free == free
        self.pool.check()
        found = {"sent": int(seen[SENT]), "received": int(seen[RECEIVED])}
        nodes = netmap_nodes.NETMAP_TX, netmap_nodes.NETMAP_RX
        for node, count, kring in zip(nodes, self.counts, self.port.krings, strict=True):
            found[f"{node.name} reinits"] = int(kring["reinits"])
            for label, n in zip(node.counter_labels, count, strict=False):
                found[f"{node.name} {label}"] = int(n)
        return found

    def close(self):
        self.room.close()


@contextlib.contextmanager
def pipe():
    name = parse_name("x{1")
    pair = Pair(name, N, N, 0)
    reply, descriptors = pair.take(name, 0)
    connection, other = socket.socketpair()
    with other, netmap.Port("x{1", reply, connection, [os.dup(d) for d in descriptors]) as port:
        yield port
    pair.close()


@contextlib.contextmanager
def station():
    """A port of a switch that does not run."""
    with contextlib.closing(Switch("t")) as switch:
        _, port = attach(switch, "a", N, N)
        yield port
        shut(port)


@pytest.fixture(params=[pipe, station])
def end(request):
    with guarded_regions(), request.param() as port, contextlib.closing(End(port)) as made:
        yield made


def test_nothing_that_a_peer_writes_does_harm(end):
    found = end.storm(np.array([88172645463325252], np.uint64), wild=False)
    assert found["netmap-rx bad"] > CASES // 100, found
    assert found["netmap-tx ring-full"] > CASES // 1000, found
    assert found["netmap-tx reinits"] > CASES // 1000, found
    assert found["netmap-rx reinits"] > CASES // 1000, found
    # And often nothing was wrong.
    assert found["sent"] > CASES // 10, found
    assert found["received"] > CASES // 10, found


def test_nor_what_it_writes_meanwhile(end):
    with hailed(hail, end.port.krings, end.place, *end.region) as state:
        found = end.storm(state, wild=True)
    assert found["netmap-tx reinits"] + found["netmap-rx reinits"] > 0, found
