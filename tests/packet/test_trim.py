"""What follows a packet is cut off, over all of its buffers."""

import numpy as np
import pytest

from vforward.layout import BUF_ROOM, CHAINED, HEADROOM
from vforward.memory.chain import fill, length
from vforward.packet.trim import trim
from vforward.testing import heap_pool

LINK = 14


@pytest.mark.parametrize("size", [60, BUF_ROOM, BUF_ROOM + 1, 3 * BUF_ROOM, 3 * BUF_ROOM + 7])
def test_every_buffer_ends_where_the_packet_does(size):
    for left in (0, 1, size - LINK - 1, size - LINK, BUF_ROOM - LINK, BUF_ROOM - LINK + 1):
        if not 0 <= left <= size - LINK:
            continue
        pool = heap_pool(8)
        (row,) = (int(r) for r in pool.take(1))
        frame = np.zeros(size, np.uint8)
        assert fill(pool.data, pool.meta, pool.caches[0], row, frame.ctypes.data, size, 1)
        pool.meta[row]["l3"] = HEADROOM + LINK
        chained = int(pool.meta[row]["flags"]) & CHAINED
        trim(pool.meta, row, left)
        assert length(pool.meta, row) == LINK + left
        first = int(pool.meta[row]["end"]) - HEADROOM
        assert first == min(LINK + left, BUF_ROOM)
        assert int(pool.meta[row]["rest"]) == LINK + left - first
        assert int(pool.meta[row]["flags"]) & CHAINED == chained
