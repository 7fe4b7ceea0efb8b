# SPDX-License-Identifier: Apache-2.0
"""Guest addresses against the obvious search, at the ends of regions and of the address space."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vforward.jit.kernel import kernel
from vforward.rings import guest_memory

REGIONS = [(0, 0xA0000, 0x7000_0000), (0xC0000, 0x1000, 0x1000), (2**64 - 0x2000, 0x2000, 0x9000)]
EDGES = sorted({edge + d for g, n, _ in REGIONS for edge in (g, g + n) for d in (-1, 0, 1, 99)})
WHERE = st.sampled_from([edge % 2**64 for edge in EDGES]) | st.integers(0, 2**64 - 1)


@kernel
def locate(memory, where, n):
    return guest_memory.locate(memory, where, n), guest_memory.gone(memory)


def obvious(where, n):
    for guest, size, here in REGIONS:
        if guest <= where and where + n <= guest + size:
            return here + where - guest
    return 0


@given(WHERE, st.sampled_from([1, 2, 16, 0x1000, 0xA0000, 2**32 - 1]))
def test_a_range_lies_in_one_region(where, n):
    memory = guest_memory.new()
    guest_memory.fill(memory, REGIONS)
    assert locate(memory, np.uint64(where), n) == (obvious(where, n), False)


def test_without_regions_nothing_is_anywhere():
    memory = guest_memory.new()
    memory[guest_memory.GONE] = 1
    assert locate(memory, np.uint64(0), 1) == (0, True)


def test_there_is_room_for_as_many_as_a_message_has():
    memory = guest_memory.new()
    guest_memory.fill(memory, [(k << 20, 1 << 20, k + 1) for k in range(8)])
    assert locate(memory, np.uint64(7 << 20), 1 << 20) == (8, False)
