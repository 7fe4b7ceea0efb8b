# SPDX-License-Identifier: Apache-2.0
"""What looks on while packets are forwarded: the trace of marked ones, and captures. g is a Plan.

The scheduler asks one word behind each call of a node, and comes here when somebody looks on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import control as c
from vforward.graph.capture import copy_packets
from vforward.jit.atomics import store_release64
from vforward.jit.intrinsics import address, cycles
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import BUF_STRIDE, TRACED


@kernel
def watch(g: Any, node: int, rows: Any) -> None:
    """Let who looks on have a call's packets: trace, capture."""
    wanted = g.control[c.TRACING]
    if wanted & u64(c.TRACES_MASK):
        _record(g, node, rows)
    if wanted & u64(c.CAPTURES_MASK):
        following = g.following[node * 256 : node * 256 + 256]
        edges = g.edges.view(np.uint8)
        copy_packets(g.control, g.data, g.meta, node, following, rows, edges)


@kernel
def _record(g: Any, node: int, rows: Any) -> None:
    """Append the marked packets among rows to the trace."""
    edges = g.edges.view(np.uint8)
    for i in range(rows.size):
        row = i64(rows[i])
        if not g.meta[row].flags & TRACED:
            continue
        at = i64(g.control[c.TRACED_ROWS])
        if at >= g.trace.size:
            return
        record = g.trace[at]
        off, end = i64(g.meta[row].off), i64(g.meta[row].end)
        first = row * BUF_STRIDE + min(off, BUF_STRIDE - c.TRACE_BYTES)
        record.clock = cycles()
        record.packet = g.meta[row].trace
        record.node = node
        record.edge = edges[i]
        record.reason = g.meta[row].reason
        record.rx_port = g.meta[row].rx_port
        record.total = end - off + i64(g.meta[row].rest)
        record.flags = g.meta[row].flags
        record.length = max(0, min(c.TRACE_BYTES, end - off))
        for k in range(c.TRACE_BYTES):
            record.head[k] = g.data[first + k]
        store_release64(address(g.control) + 8 * c.TRACED_ROWS, u64(at + 1))
