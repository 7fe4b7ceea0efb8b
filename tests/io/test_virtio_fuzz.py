# SPDX-License-Identifier: Apache-2.0
"""A device that writes anything into the memory it shares. VFORWARD_FUZZ_CASES=30000 runs so many cases.

A case writes a few used elements, indices, headers, and what is the driver's, most of it nearly right,
and calls a node once. An access outside of the memory is a segmentation fault: it ends at pages
without access, right behind the last buffer of one queue.
"""

import numpy as np
import pytest

from devices import FEATURES, Net
from fuzzing import cases
from guests import BASE
from guests import SIZE as ROOM
from storms import draw, give_back, hailed, packets
from vforward.io import virtio_rx, virtio_tx
from vforward.io.virtio_memory import parts
from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, VECTOR_MAX
from vforward.rings import virtqueue as vq
from vforward.rings import virtqueue_driver as driver
from vforward.rings import vring_driver
from vforward.rings.packed import slot
from vforward.rings.position import NUMBER, advance, used_flags
from vforward.rings.vring import is_packed

CASES = cases(1_000_000)  # of each test: a second or two
ROUNDS, A_ROUND = 100, CASES // 30
SIZE = 8
OFFLOADS = sum(1 << bit for bit in (0, 1, 7, 8, 9, 11, 12, 13))


@kernel
def any_length(state):
    kind = draw(state, 64)
    if kind == 0:
        return i64(0xFFFFFFFF) - draw(state, 32)
    if kind == 1:
        return draw(state, 13)
    if kind < 6:
        return driver.STRIDE + draw(state, 2)
    return 12 + draw(state, driver.STRIDE - 12)


@kernel
def disturb(state, queue):
    """Write into a queue's memory what a device might, or might not."""
    for number in range(i64(queue[vq.SIZE])):
        header = view(driver.buffer(queue, number), 12, np.uint8)
        for at in range(12):
            header[at] = draw(state, 256) if draw(state, 64) == 0 else 0
        header[0] = draw(state, 4)
        header[10] = 1 + draw(state, 3) // 2 * draw(state, 4)
    if is_packed(queue):
        use_packed(state, queue)
    else:
        use_split(state, queue)


@kernel
def use_packed(state, queue):
    size, position = i64(queue[vq.SIZE]), i64(queue[vq.NEXT]) & 0xFFFF
    for _ in range(draw(state, size + 1)):
        number = draw(state, size) if draw(state, 64) else draw(state, 1 << 16)
        if queue[vq.FEATURES] & u64(driver.IN_ORDER) and draw(state, 4):
            number = position & NUMBER
        flags = used_flags(position) | draw(state, 8)
        if draw(state, 64) == 0:
            flags = draw(state, 1 << 16)
        word = u64(any_length(state) | number << 32) | u64(flags) << u64(48)
        view(slot(queue, position), 2, np.uint64)[1] = word
        position = advance(queue, position, 1)
    view(i64(queue[vq.DESC]), 4 * size, np.uint32)[draw(state, 4 * size)] = draw(state, 1 << 32)
    for part in (vq.AVAIL, vq.USED):
        view(i64(queue[part]), 1, np.uint32)[0] = draw(state, 1 << 32)


@kernel
def use_split(state, queue):
    size = i64(queue[vq.SIZE])
    used = view(i64(queue[vq.USED]) + 4, 2 * size, np.uint32)
    for k in range(size):
        if draw(state, 4):
            used[2 * k] = draw(state, size) if draw(state, 64) else draw(state, 1 << 32)
            if queue[vq.FEATURES] & u64(driver.IN_ORDER) and draw(state, 4):
                used[2 * k] = k
        used[2 * k + 1] = any_length(state)
    view(i64(queue[vq.DESC]), 2 * size, np.uint64)[draw(state, 2 * size)] = u64(
        draw(state, 1 << 48)
    )
    view(i64(queue[vq.AVAIL]), 2 + size, np.uint16)[draw(state, 2 + size)] = draw(state, 1 << 16)
    lent = (i64(queue[driver.ADDED]) - i64(queue[vq.NEXT])) & 0xFFFF
    ahead = draw(state, lent + 1) if draw(state, 64) else draw(state, 65536)
    words = view(i64(queue[vq.USED]), 2, np.uint16)
    words[0] = draw(state, 2)
    words[1] = (i64(queue[vq.NEXT]) + ahead) & 0xFFFF


@kernel
def renew(queue, receives):
    """A queue that was given up, for the next peer."""
    vring_driver.begin(queue, receives)
    queue[vq.FAULT] = u64(0)
    view(i64(queue[vq.USED]), 2, np.uint16)[1] = 0
    queue[vq.STATE] = vq.READY


@kernel
def storm(
    cases, state, data, meta, pool, q0, q1, sending, port, work, idx, edge, c0, c1, seen, wild
):
    """Run cases. seen u64[16]: by Fault how often it was found, [0]: cases without one, [8, 9]: packets."""
    for _ in range(cases):
        sends = draw(state, 2) == 0
        queue = q1 if sends else q0
        if not wild:
            disturb(state, queue)
        if sends:
            n = packets(state, meta, pool, idx)
            virtio_tx.tx(data, meta, idx[:n], edge, c1, pool, sending, port, work)
            for i in range(n):
                if edge[i] == EDGE_HELD:
                    seen[8] += u64(1)
                else:
                    give_back(meta, pool, i64(idx[i]))
        else:
            n = virtio_rx.rx(data, meta, idx, edge, c0, pool, q0, port, work)
            for i in range(n):
                give_back(meta, pool, i64(idx[i]))
            seen[9] += u64(n)
        seen[i64(queue[vq.FAULT])] += u64(1)
        if queue[vq.STATE] != vq.READY:
            renew(queue, not sends)


@kernel
def hail(cases, state, q0, q1, stop):
    """As storm, only writing: beside a driver at work."""
    done = 0
    while done < cases and not load_acquire64(address(stop)):
        disturb(state, q0)
        disturb(state, q1)
        done += 1
    return done


@pytest.fixture(params=["receives", "sends"])
def net(request):
    """The queue that does this ends where the memory does."""
    made = Net(SIZE, features=FEATURES)
    last = 0 if request.param == "receives" else 1
    end = ROOM
    for k in (last, 1 - last):
        length = parts(0, SIZE).end
        at = parts(end - length, SIZE)
        end = at.desc
        here = [made.memory.here + part for part in at[:4]]
        made.queues[k][[vq.DESC, vq.AVAIL, vq.USED, driver.BUFFERS]] = here
        made.queues[k][driver.WHERE] = BASE + at.buffers
    yield made
    made.pool.check()
    made.close()


def ready(net, features):
    """The queues begin, with these features besides."""
    for k, queue in enumerate(net.queues):
        queue[vq.FEATURES] = FEATURES | features
        renew(queue, k == 0)


def arguments(net):
    return (
        net.pool.data, net.pool.meta, net.cache, *net.queues, net.sending, net.port, net.work,
        np.zeros(VECTOR_MAX, np.uint32), np.zeros(VECTOR_MAX, np.uint8),
        net.counts["virtio-rx"], net.counts["virtio-tx"],
    )  # fmt: skip


KINDS = [0, driver.IN_ORDER, vq.EVENT_IDX | OFFLOADS]


@pytest.mark.parametrize("features", KINDS + [vq.RING_PACKED | kind for kind in KINDS])
def test_nothing_that_a_device_writes_does_harm(net, features):
    seen, state = np.zeros(16, np.uint64), np.array([88172645463325252 + features], np.uint64)
    ready(net, features)
    before = net.pool.free
    storm(CASES, state, *arguments(net), seen, False)
    assert net.pool.free == before
    net.pool.check()
    found = dict(enumerate(seen.tolist()))
    assert sum(seen[:8]) == CASES
    # All that can be met was met, and often nothing was wrong.
    packed = features & vq.RING_PACKED  # it cannot say that more was used than there was
    faults = set(driver.Fault) - ({driver.Fault.INDEX} if packed else set())
    assert all(found[fault] for fault in faults), found
    assert not packed or not found[driver.Fault.INDEX]
    assert found[0] > CASES // 30, found
    assert found[8] > CASES // 100, found
    assert found[9] > CASES // 100, found


@pytest.mark.parametrize(
    "features", [kind | order for kind in (0, vq.RING_PACKED) for order in KINDS[:2]]
)
def test_nor_what_it_writes_meanwhile(net, features):
    seen = np.zeros(16, np.uint64)
    ready(net, features)
    storm(
        0, np.ones(1, np.uint64), *arguments(net), seen, True
    )  # compiled before the writer begins
    before, rounds = net.pool.free, 0
    with hailed(hail, *net.queues) as state:
        while rounds < ROUNDS and seen[0] == rounds * A_ROUND:  # until the writer has had its turn
            storm(A_ROUND, state, *arguments(net), seen, True)
            rounds += 1
    assert net.pool.free == before
    assert sum(seen[:8]) == rounds * A_ROUND
    assert seen[0] < rounds * A_ROUND
