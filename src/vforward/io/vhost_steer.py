# SPDX-License-Identifier: Apache-2.0
"""By which pair of its queues a guest is sent a packet.

VIRTIO 1.2, section 5.1.6.5.5: what belongs to a flow of which the driver has sent a packet by transmit
queue X is to go into receive queue X; any other into any. So a guest that serves a flow on one CPU has
its packets there, both ways. Flows are told apart by a hash, the same in both directions:

    flows   FLOW[FLOWS], of one port; written by the worker
            heard   pair + 1 by which the guest has sent last; 0: it has not       (vhost-rx)
            pair    by which packets go to the guest                               (vhost-tx)
            mark    number of the buffer behind the last one that was so used      (vhost-tx)

Packets of a flow must not pass each other, and two queues are emptied by two CPUs of the guest. So a
flow changes over to another pair only when the guest has back all buffers that came before its mark,
or the former pair no longer runs. A driver that offers buffers late makes that later.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.io.spread import spread
from vforward.io.vhost_copy import BACK_AT, END_AT, FLOW_AT, PAIRS_AT, PAIRS_MAX, PLACE_AT
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import ArrayOf
from vforward.memory.buffer import sound
from vforward.packet.flow_hash import frame_hash
from vforward.rings import virtqueue as vq
from vforward.rings import vring

FLOW = np.dtype([("mark", np.uint16), ("pair", np.uint8), ("heard", np.uint8)])
FLOWS_LOG2 = 10
FLOWS = 1 << FLOWS_LOG2
Flows = Annotated[NDArray[Any], ArrayOf(FLOW)]


def new() -> NDArray[Any]:
    """The flows of a port that has sent nothing."""
    return np.zeros(FLOWS, FLOW)


@kernel
def running(queues: Any, work: Any) -> Any:
    """List the pairs by which the guest receives at work[PAIRS_AT:]. Returns how many.

    work[BACK_AT + pair] is the number of the buffer before which the guest has all back; -1 (as u64):
    the pair does not run.
    """
    n = i64(0)
    for pair in range(queues.shape[0] // 2):
        queue = queues[2 * pair]
        work[BACK_AT + pair] = u64(-1)
        if vq.ready(queue):
            work[BACK_AT + pair] = u64(vring.taken_back(queue))
            work[PAIRS_AT + n] = u64(pair)
            n += 1
    return n


@inline
def _number(data: Any, meta: Any, row: Any) -> Any:
    """The flow of a packet whose first buffer is sound."""
    return frame_hash(data, row, i64(meta[row].off), i64(meta[row].end)) & (FLOWS - 1)


@kernel
def hear(data: Any, meta: Any, idx: Any, flows: Any, pair: Any) -> None:
    """Note that the guest has sent these packets by a pair."""
    for i in range(idx.size):
        flows[_number(data, meta, i64(idx[i]))].heard = pair + 1


@kernel
def gather(flows: Any, queue: Any, pair: Any) -> None:
    """All flows' packets have gone by this pair so far."""
    for flow in range(FLOWS):
        flows[flow].pair = pair
        flows[flow].mark = vring.number(queue)


@inline
def _choose(flows: Any, work: Any, n: Any, number: Any) -> Any:
    """The pair by which a flow's packet goes, of the n that running has listed."""
    flow = flows[number]
    now, wanted = i64(flow.pair), i64(flow.heard) - 1
    if wanted < 0 or i64(work[BACK_AT + wanted]) < 0:
        wanted = i64(work[PAIRS_AT + (number * n >> FLOWS_LOG2)])
    back = i64(work[BACK_AT + now])
    if wanted != now and (back < 0 or (back - i64(flow.mark)) & 0xFFFF < 0x8000):
        flows[number].pair = wanted
        return wanted
    return now


@kernel
def sort(data: Any, meta: Any, idx: Any, flows: Any, work: Any, n: Any, rows: Any) -> None:
    """Spread packets (io.spread) over the n pairs that running has listed.

    work[FLOW_AT + i]: the flow of the i-th packet.
    """
    for i in range(idx.size):
        row, number = i64(idx[i]), i64(0)
        if sound(meta, row):
            number = _number(data, meta, row)
        work[FLOW_AT + i] = u64(number)
        work[PLACE_AT + i] = u64(_choose(flows, work, n, number))
    spread(idx, work, PAIRS_MAX, END_AT, PLACE_AT, rows)


@kernel
def mark(queues: Any, flows: Any, work: Any, n: Any) -> None:
    """The flows of n packets that were sorted have had all they were given."""
    for i in range(n):
        flow = i64(work[FLOW_AT + i])
        flows[flow].mark = vring.number(queues[2 * i64(flows[flow].pair)])
