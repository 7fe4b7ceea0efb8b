# SPDX-License-Identifier: Apache-2.0
"""A vector spread over the queues of a port: what goes by one queue, in the order in which it came."""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, kernel, u64


@kernel
def spread(idx: Any, work: Any, queues: Any, end_at: Any, place_at: Any, rows: Any) -> None:
    """Put packets in the order of their queues: counting sort. work[place_at + i] is the i-th one's queue.

    rows u32[>= idx.size]: the result; work[place_at + i] is then the i-th packet's place in it, and
    work[end_at + queue] where a queue's packets end; they begin where those of the queue before do.
    """
    for queue in range(queues):
        work[end_at + queue] = u64(0)
    for i in range(idx.size):
        work[end_at + i64(work[place_at + i])] += u64(1)
    at = u64(0)
    for queue in range(queues):
        at, work[end_at + queue] = at + work[end_at + queue], at
    for i in range(idx.size):
        queue = i64(work[place_at + i])
        place = work[end_at + queue]
        rows[i64(place)] = idx[i]
        work[place_at + i] = place
        work[end_at + queue] = place + u64(1)
