# SPDX-License-Identifier: Apache-2.0
"""spread: a stable sort, and where everything went."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vforward.io.spread import spread

QUEUES, END_AT, PLACE_AT = 8, 3, 20


@given(st.lists(st.integers(0, QUEUES - 1), max_size=256))
def test_each_queue_has_its_packets_in_order(chosen):
    idx = np.arange(1000, 1000 + len(chosen), dtype=np.uint32)
    work, rows = np.full(300, 77, np.uint64), np.zeros(256, np.uint32)
    work[PLACE_AT : PLACE_AT + len(chosen)] = chosen
    spread(idx, work, QUEUES, END_AT, PLACE_AT, rows)
    first = 0
    for queue in range(QUEUES):
        end = int(work[END_AT + queue])
        assert rows[first:end].tolist() == [1000 + i for i, c in enumerate(chosen) if c == queue]
        first = end
    assert first == len(chosen)
    places = work[PLACE_AT : PLACE_AT + len(chosen)]
    assert rows[places].tolist() == idx.tolist()
    assert (work[:END_AT] == 77).all()
    assert (work[END_AT + QUEUES : PLACE_AT] == 77).all()
    assert (work[PLACE_AT + len(chosen) :] == 77).all()
