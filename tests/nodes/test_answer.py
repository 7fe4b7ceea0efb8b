"""become_answer: what stays of a packet's record, and that no buffer is lost."""

import numpy as np
import pytest

from vforward.jit.intrinsics import address
from vforward.jit.kernel import kernel
from vforward.layout import (
    CHAINED,
    CSUM_PARTIAL,
    GSO,
    LINK_BROADCAST,
    SELF_MADE,
    TRACED,
    TRANSLATED,
)
from vforward.memory.chain import fill
from vforward.nodes.answer import become_answer
from vforward.testing import heap_pool


@kernel
def received(data, meta, pool, row, frame):
    return fill(data, meta, pool, row, address(frame), frame.size, 3)


@pytest.mark.parametrize("traced", [0, TRACED])
@pytest.mark.parametrize("length", [60, 1900, 9000])
def test_a_packet_becomes_its_answer(length, traced):
    pool = heap_pool(1024)
    row, cache = np.int64(pool.take(1)[0]), pool.cache()
    assert received(pool.data, pool.meta, cache, row, np.zeros(length, np.uint8))
    record = pool.meta[row]
    assert bool(record["flags"] & CHAINED) == (length == 9000)
    record["treatment"], record["trace"] = 7, 5
    record["flags"] |= traced | CSUM_PARTIAL | GSO | LINK_BROADCAST | TRANSLATED
    become_answer(pool.meta, cache, row, np.int64(124), np.int64(180))
    assert (record["off"], record["l3"], record["end"], record["rest"]) == (124, 124, 180, 0)
    assert record["flags"] == SELF_MADE | traced
    assert (record["rx_port"], record["trace"], record["treatment"]) == (3, 5, 0)
    pool.check(held=[int(row)])
