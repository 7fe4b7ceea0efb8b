"""memif's rings: whatever a peer writes, what comes out lies in its memory. A million of cases."""

import numpy as np
import pytest

from vforward.jit.intrinsics import address
from vforward.jit.kernel import i64, kernel, u64
from vforward.rings import memif_ring as ring

CASES = 1_000_000
SLOTS, BUFFER, SIZE = 32, 2048, 1 << 20


@kernel
def draw(seed):
    """The next word of xorshift64."""
    x = seed[0]
    x ^= x << u64(13)
    x ^= x >> u64(7)
    x ^= x << u64(17)
    seed[0] = x
    return x


@kernel
def edge(seed):
    """A number of 32 bits, often one at a border."""
    x = draw(seed)
    kind = x >> u64(61)
    if kind == 0:
        return u64(0)
    if kind == 1:
        return u64(0xFFFFFFFF)
    if kind == 2:
        return (x & u64(7)) + u64(SIZE - 4)
    if kind == 3:
        return x & u64(0xFFFFFFFF)
    return x & u64(0x7FF)


@kernel
def fuzz(state, rings, memory, pieces, seed, cases, tally):
    """Random words and indices; counts what came out in tally, and -1 when it lay outside."""
    base = address(memory)
    for _ in range(cases):
        for _ in range(3):
            k = i64(draw(seed) % u64(rings.size))
            low = edge(seed) if draw(seed) & u64(7) == 0 else draw(seed) & u64(0x10001)
            rings[k] = edge(seed) << u64(32) | low
        some = draw(seed)
        if some & u64(7):  # else most indices are nonsense
            there, n = rings.size // 2, (some >> u64(8)) % u64(33)
            rings[0] = rings[0] & u64(0xFFFFFFFFFFFF) | state[ring.RX_NEXT] + n << u64(48)
            rings[8] = state[ring.RX_NEXT] + n & u64(0xFFFF)
            rings[there] = rings[there] & u64(0xFFFFFFFFFFFF) | state[ring.TX_NEXT] + n << u64(48)
            rings[there + 8] = state[ring.TX_NEXT] - n & u64(0xFFFF)
        left = ring.received(state)
        if left < 0:
            tally[0] += 1
            continue
        if left > i64(state[ring.RX_SLOTS]):
            return False
        n = ring.packet(state, pieces, 0, left)
        tally[1 if n < 0 else 2 if n == 0 else 3] += 1
        for p in range(n):
            start, size = i64(pieces[2 * p]), i64(pieces[2 * p + 1])
            if size > 0 and (
                start < base or size > memory.size or start + size > base + memory.size
            ):
                return False
        if n > min(left, ring.PIECES):
            return False
        if n > 0:
            ring.emptied(state, n)
        room = ring.writable(state)
        if room > i64(state[ring.TX_SLOTS]):
            return False
        if room > 0 and ring.slot(state, pieces, 0):
            start, size = i64(pieces[0]), i64(pieces[1])
            if start < base or size > memory.size or start + size > base + memory.size:
                return False
            tally[4] += 1
            ring.describe(state, 0, pieces[2], size, False)
            ring.filled(state, 1)
    return True


@pytest.mark.parametrize("server", [True, False])
def test_nothing_leads_out_of_the_memory(server):
    memory = np.zeros(SIZE, np.uint8)
    words = 16 + 2 * SLOTS
    rings = np.zeros(2 * words, np.uint64)
    state = np.zeros(ring.STATE_WORDS, np.uint64)
    state[ring.SERVER] = server
    state[ring.RX], state[ring.TX] = rings.ctypes.data, rings[words:].ctypes.data
    state[ring.RX_SLOTS] = state[ring.TX_SLOTS] = SLOTS
    state[ring.REGIONS] = 2
    state[ring.FIRST : ring.FIRST + 4] = memory.ctypes.data, SIZE, memory.ctypes.data, 100
    state[ring.BUFFER] = BUFFER
    state[ring.RX_BUFFERS] = memory.ctypes.data
    state[ring.TX_BUFFERS] = memory.ctypes.data + SLOTS * BUFFER
    tally = np.zeros(5, np.int64)
    seed = np.array([88172645463325252], np.uint64)
    assert fuzz(state, rings, memory, np.zeros(2 * ring.PIECES, np.uint64), seed, CASES, tally)
    assert (tally[[0, 1, 2, 3]] > 100).all(), tally
    assert tally[4] > 100, tally


def test_interrupts_are_asked_for_unless_the_peer_wants_none():
    words = np.zeros(64, np.uint64)
    state = np.zeros(ring.STATE_WORDS, np.uint64)
    state[ring.RX] = state[ring.TX] = words.ctypes.data
    state[ring.TX_SLOTS] = state[ring.RX_SLOTS] = 8
    words.view(np.uint16)[ring.FLAGS // 2] = ring.QUIET
    assert not ring.filled(state, 1)
    ring.begin(state)
    assert ring.filled(state, 1)


def test_turns():
    state = np.zeros(ring.STATE_WORDS, np.uint64)
    assert ring.turn_of(state) == ring.FREE
    ring.hand_over(state, ring.LIVE)
    ring.fault(state, ring.BAD_CHAIN)
    assert (ring.turn_of(state), int(state[ring.REASON])) == (ring.FAULT, ring.BAD_CHAIN)
