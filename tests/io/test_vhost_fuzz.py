# SPDX-License-Identifier: Apache-2.0
"""A peer that writes anything into its queues. VFORWARD_FUZZ_CASES=30000 runs so many cases.

A case writes a few descriptors, indices and tables, most of them nearly right, and calls a node once.
An access outside of the shared regions is a segmentation fault: they end at pages without access.
"""

import numpy as np
import pytest

from fuzzing import cases
from guests import BASE, Guest, Memory
from storms import draw, give_back, hailed, packets
from vforward.io import vhost_rx, vhost_tx
from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, VECTOR_MAX
from vforward.rings import guest_memory, inflight, position, vring
from vforward.rings import packed as pk
from vforward.rings import virtqueue as vq

CASES = cases(1_000_000)  # of each test: a second or two
SIZE = 8
FEATURES = 1 << 32 | sum(1 << bit for bit in (0, 1, 7, 8, 9, 11, 12, 13))


@kernel
def any_address(state, base, size):
    """A guest address: mostly in the region, also at its ends, and nowhere."""
    kind = draw(state, 16)
    if kind == 0:
        return base - 8 + draw(state, 16)
    if kind == 1:
        return base + size - 70 + draw(state, 80)
    if kind == 2:
        return i64(-1) - draw(state, 4096)
    if kind == 3:
        return draw(state, 1 << 30) << 20
    return base + draw(state, size)


@kernel
def any_length(state):
    kind = draw(state, 16)
    if kind == 0:
        return i64(0xFFFFFFFF) - draw(state, 32)
    if kind == 1:
        return draw(state, 70000)
    if kind == 2:
        return i64(0)
    if kind < 6:
        return 16 * draw(state, 20)
    return draw(state, 2500)


@kernel
def write_descriptor(state, at, base, size, entries, write, laps):
    """laps: F_AVAIL and F_USED of a packed queue's; -1 in a split one, whose fields lie otherwise."""
    words = view(at, 2, np.uint64)
    words[0] = u64(any_address(state, base, size))
    flags = write
    kind = draw(state, 16)
    if kind < 5:
        flags |= vq.F_NEXT
    elif kind < 7:
        flags = vq.F_INDIRECT
    elif kind == 7:
        flags = draw(state, 16)
    following = draw(state, entries + 1)
    if laps >= 0:
        flags, following = following, flags | laps
    words[1] = u64(any_length(state)) | u64(flags) << u64(32) | u64(following) << u64(48)


@kernel
def disturb(state, queue, here, base, size, write):
    """Write into a queue's memory, and into tables that lie anywhere in the rest."""
    entries = i64(queue[vq.SIZE])
    packed = vring.is_packed(queue)
    for _ in range(draw(state, 4)):
        at = here + 16 * draw(state, size // 16)
        write_descriptor(state, at, base, size, 20, write, 0 if packed else -1)
    if packed:
        disturb_packed(state, queue, base, size, entries, write)
    else:
        disturb_split(state, queue, base, size, entries, write)


@kernel
def disturb_packed(state, queue, base, size, entries, write):
    where = i64(queue[vq.NEXT]) if draw(state, 64) else draw(state, entries) | draw(state, 2) << 15
    endless = draw(state, 16) == 0
    for _ in range(entries if endless else 1 + draw(state, entries)):
        laps = position.available_flags(where) | (vq.F_NEXT if endless else 0)
        if draw(state, 16) == 0:
            laps = draw(state, 2) << 15 | draw(state, 2) << 7
        at = i64(queue[vq.DESC]) + 16 * (where & position.NUMBER)
        write_descriptor(state, at, base, size, 65535, write, laps)
        where = position.advance(queue, where, 1)
    view(i64(queue[vq.AVAIL]), 1, np.uint32)[0] = draw(state, 1 << 32) if draw(state, 4) else 0


@kernel
def disturb_split(state, queue, base, size, entries, write):
    for _ in range(1 + draw(state, 4)):
        at = i64(queue[vq.DESC]) + 16 * draw(state, entries)
        write_descriptor(state, at, base, size, entries, write, -1)
    avail = view(i64(queue[vq.AVAIL]), 2 + entries, np.uint16)
    for slot in range(entries):
        if draw(state, 4) == 0:
            avail[2 + slot] = draw(state, entries if draw(state, 32) else 65536)
    avail[0] = draw(state, 2)
    ahead = draw(state, entries + 1) if draw(state, 64) else draw(state, 65536)
    avail[1] = (i64(queue[vq.NEXT]) + ahead) & 0xFFFF


@kernel
def storm(
    cases, state, data, meta, pool, queues, flows, memory, port, work, idx, edge, c0, c1, seen, wild
):
    """Run cases. seen u64[16]: by Fault how often it was found, [0]: cases without one, [8, 9]: packets."""
    here, base = i64(memory[guest_memory.FIRST + 2]), i64(memory[guest_memory.FIRST])
    size = i64(memory[guest_memory.FIRST + 1])
    for _ in range(cases):
        sending = draw(state, 2) == 0
        queue = queues[0] if sending else queues[1]
        queue[vq.STATE] = vq.READY
        queue[vq.FAULT] = u64(0)
        if not wild:
            disturb(state, queue, here, base, size, vq.F_WRITE if sending else 0)
        if sending:
            n = packets(state, meta, pool, idx)
            vhost_tx.tx(data, meta, idx[:n], edge, c0, pool, queues, flows, memory, port, work)
            for i in range(n):
                if edge[i] == EDGE_HELD:
                    seen[8] += u64(1)
                else:
                    give_back(meta, pool, i64(idx[i]))
        else:
            n = vhost_rx.rx(data, meta, idx, edge, c1, pool, queues, flows, memory, port, work)
            for i in range(n):
                give_back(meta, pool, i64(idx[i]))
            seen[9] += u64(n)
        seen[i64(queue[vq.FAULT])] += u64(1)


@kernel
def hail(cases, state, queues, memory, stop):
    """As storm, only writing: beside a device at work."""
    here, base = i64(memory[guest_memory.FIRST + 2]), i64(memory[guest_memory.FIRST])
    size = i64(memory[guest_memory.FIRST + 1])
    done = 0
    while done < cases and not load_acquire64(address(stop)):
        disturb(state, queues[0], here, base, size, vq.F_WRITE)
        disturb(state, queues[1], here, base, size, 0)
        done += 1
    return done


@pytest.fixture
def guest():
    """Queues at the very end of a region of 128 KB, behind which lies no memory."""
    made = Guest(SIZE, features=FEATURES)
    size = 1 << 17
    here = made.memory.here + (made.memory.bytes.size() - size)
    guest_memory.fill(made.memory.table, [(BASE, size, here)])
    at = here + size - 3 * 512
    for k, queue in enumerate(made.queues):
        queue[vq.DESC] = at + k * 512
        queue[vq.AVAIL] = at + k * 512 + 128
        queue[vq.USED] = at + 1536 - (4 + 8 * SIZE) - (1 - k) * 512
        queue[vq.CALL] = np.int64(-1).view(np.uint64)
        vq.resume(queue)
    yield made
    made.pool.check()
    made.close()


def arguments(guest):
    return (
        guest.pool.data, guest.pool.meta, guest.cache, guest.queues, guest.flows, guest.memory.table,
        guest.port, guest.work, np.zeros(VECTOR_MAX, np.uint32), np.zeros(VECTOR_MAX, np.uint8),
        guest.counts["vhost-tx"], guest.counts["vhost-rx"],
    )  # fmt: skip


@pytest.fixture
def packed(guest):
    """The same, packed, with what is kept of them at the end of other memory."""
    kept = Memory(4096)
    size = inflight.region_bytes(SIZE, packed=True)
    for k, queue in enumerate(guest.queues):
        end = int(guest.memory.table[guest_memory.FIRST + 2]) + (1 << 17) - k * 512
        queue[vq.DESC], queue[vq.AVAIL], queue[vq.USED] = end - 128, end - 132, end - 136
        queue[vq.FEATURES] = FEATURES | vq.RING_PACKED
        region = kept.here + 4096 - (k + 1) * size
        queue[vq.REGION] = region
        inflight.prepare(queue, region, position.START)
        pk.resume(queue, position.START)
    yield guest
    assert not guest_memory.gone(kept.table)
    kept.close()


def check_storm(guest, seed, faults):
    """Cases for a queue, after which all is as it should be, and in which all that can be was met."""
    seen, state = np.zeros(16, np.uint64), np.array([88172645463325252 + seed], np.uint64)
    before = guest.pool.free
    storm(CASES, state, *arguments(guest), seen, False)
    assert guest.pool.free == before
    guest.pool.check()
    assert not guest_memory.gone(guest.memory.table)
    found = dict(enumerate(seen.tolist()))
    assert sum(seen[:8]) == CASES
    assert all(found[fault] for fault in faults), found
    # And often nothing was wrong.
    assert found[0] > CASES // 30, found
    assert found[8] > CASES // 100, found
    assert found[9] > CASES // 100, found


@pytest.mark.parametrize("features", [0, vhost_tx.MRG_RXBUF, vhost_tx.MRG_RXBUF | vq.EVENT_IDX])
def test_nothing_that_a_peer_writes_does_harm(guest, features):
    for queue in guest.queues:
        queue[vq.FEATURES] = FEATURES | features & ~vq.EVENT_IDX
    check_storm(guest, features, set(vq.Fault) - {vq.Fault.MEMORY})


@pytest.mark.parametrize("features", [0, vhost_tx.MRG_RXBUF, vhost_tx.MRG_RXBUF | vq.EVENT_IDX])
@pytest.mark.parametrize("keeps", [False, True])
def test_nor_into_packed_queues(packed, features, keeps):
    for queue in packed.queues:
        queue[vq.FEATURES] |= np.uint64(features)
        if not keeps:
            queue[vq.REGION] = 0
    # A packed queue has neither an index nor numbers of descriptors.
    met = set(vq.Fault) - {vq.Fault.INDEX, vq.Fault.DESCRIPTOR, vq.Fault.MEMORY}
    check_storm(packed, features, met)


@pytest.mark.parametrize("layout", ["guest", "packed"])
def test_nor_what_it_writes_meanwhile(layout, request):
    guest = request.getfixturevalue(layout)
    seen, before = np.zeros(16, np.uint64), guest.pool.free
    with hailed(hail, guest.queues, guest.memory.table) as state:
        storm(CASES, state, *arguments(guest), seen, True)
    assert guest.pool.free == before
    assert sum(seen[:8]) == CASES
    assert seen[0] < CASES
