# SPDX-License-Identifier: Apache-2.0
"""The control block: words by which a worker and others talk, and the records it leaves for readers.

    control  u64[CONTROL_WORDS]     owner of each word below; each worker has all five, see segment
    stats    u64[n_nodes, STATS]    worker
    taken    u64[n_nodes, 256]      worker: packets that left by each edge
    counts   u64[n_counters]        worker: all nodes' counters, one after the other
    trace    TRACE[TRACE_ROOM]      worker, up to control[TRACED_ROWS]

All but control go by the numbers of nodes, so each graph that takes another's place (graph.exchange)
has its own: they are named after its generation.

Any process may read all of them while the worker runs. "Clear" is a reader's copy to subtract.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORKERS_MAX = 32
CONTROL_WORDS = 64
# written by the control plane
COMMAND = 0
VECTOR = 1  # packets per call, 1..VECTOR_MAX
TRACE_WANTED = 2  # packets still to be marked; the worker counts it down
TRACING = 3  # eight bytes, of which two are used: see watch
SPIN_ROUNDS = 4  # empty rounds before the worker sleeps; 0: it never sleeps
POLL = 5  # address of ppoll-like int64_t f(fds, n, timeout_ns)
READ = 6  # address of read-like int64_t f(fd, buffer, n), to empty the wake eventfd
ONCE = 7  # not 0: a run in the caller's thread ends after one round
CAPTURE = 24  # address of a capture's words (graph.capture), or 0
GATHER = 25  # nanoseconds that a worker lets packets gather after a round that had few; 0: none
EXCHANGE = 27  # address of what the command SWAP is about (graph.exchange)
# written by the worker
STATE = 8
ROUNDS = 9  # rounds done: a change is a quiet point
BUSY_ROUNDS = 10
SLEEPS = 11
TRACED_ROWS = 12  # records in the trace
TRACE_NEXT = 13  # number of the next traced packet
STARTED = 14  # TSC when run was entered
NOW = 15  # TSC of the last round
GENERATION = 26  # of the graph that the worker is on
ASLEEP = 16  # 1: about to sleep, or asleep; who gives it work takes that back and rings its eventfd
ROUND_CLOCKS = 17  # clocks of all rounds that had packets
ROUND_TIMES = 32  # and ROUND_BUCKETS - 1 words behind: how many took less than round_clocks(i)

TRACES, CAPTURES = 0, 1
"""Bytes of the word TRACING that are not 0: record marked packets; copy packets for a capture."""
TRACES_MASK, CAPTURES_MASK = 0xFF, 0xFF00

# commands
RUN, PAUSE, STOP, SWAP = 0, 1, 2, 3
# states
IDLE, RUNNING, PAUSED, STOPPED = 0, 1, 2, 3


def segment(name: str, worker: int, generation: int = 0) -> str:
    """The name of a worker's own segment: the first one's has none added, nor has the first graph's."""
    mine = f"{name}-{worker}" if worker else name
    return f"{mine}.{generation}" if generation else mine


STATS = 8  # words per node
CALLS, PACKETS, CLOCKS, EMPTY_CALLS, EMPTY_CLOCKS, FULL, EMITTED = 0, 1, 2, 3, 4, 5, 6

ROUND_BUCKETS = 20
ROUND_SHORTEST = 9
"""Rounds below 2**9 clocks are all alike; those from 2**27 on are, too."""


def watch(control: NDArray[np.uint64], what: int, *, on: bool) -> None:
    """Switch TRACES or CAPTURES. Each has a byte of its own, so that nobody has to wait for another."""
    control[TRACING : TRACING + 1].view(np.uint8)[what] = on


def round_clocks(bucket: int) -> int:
    """The rounds of a bucket took less than so many clocks; of the last one, or more."""
    return 1 << (ROUND_SHORTEST + bucket)


TRACE_BYTES = 92
TRACE = np.dtype(
    [
        ("clock", np.uint64),
        ("packet", np.uint32),
        ("node", np.uint16),
        ("rx_port", np.uint16),
        ("total", np.uint32),
        ("edge", np.uint8),
        ("reason", np.uint8),
        ("length", np.uint8),  # bytes of head that count
        ("pad", np.uint8),
        ("flags", np.uint32),
        ("head", np.uint8, TRACE_BYTES),  # from meta.off on
        ("rest", np.uint8, 8),
    ]
)
assert TRACE.itemsize == 128
TRACE_ROOM = 8192
