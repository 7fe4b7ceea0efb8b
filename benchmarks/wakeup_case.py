# SPDX-License-Identifier: Apache-2.0
"""From a packet that is sent to a program that has it, which slept in poll(2) until then.

    this process                                    a process of its own
    clock -> packet, memring-tx's kernel,           Attachment.wait() in poll(2) ... returns,
             eventfd write                          receive() -> clock

The clock is that of the processor, the same for both. Each packet is sent when the program has said
that it falls asleep, and a moment later, so that it does sleep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness import CHECKOUT, LEAST, clock, repeat, row, tsc_hz
from benchmarks.session import Session, arena
from vforward.io.memring import MemringPort
from vforward.io.memring_client import attach
from vforward.io.memring_nodes import TxCount, send
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel
from vforward.layout import EDGE_HELD, HEADROOM
from vforward.memory.buffer import begin_packet
from vforward.memory.pool import Pool, drain_cache, take_one
from vforward.rings import memring as ring

CASE = "wakeup"
PACKETS = 1000
TIMES = LEAST
IDLE_S = 0.002
LIMIT_S = 60.0
BUFFERS = 4096
SIZE = 60


@kernel
def send_one(data, meta, idx, edge, count, pool, words, full, ledger, spare, state):
    """Send a packet with the clock in it. Returns whether it was sent."""
    idx[0] = take_one(pool)
    begin_packet(meta, idx[0], SIZE, 0)
    now = cycles()
    for i in range(8):
        data[idx[0], HEADROOM + i] = now >> np.uint64(8 * i)
    send(data, meta, idx, edge, count, words, full, ledger, spare, state)
    return edge[0] == EDGE_HELD


def wakeup(session: Session) -> Iterator[dict[str, Any]]:
    """The 99th percentile, in microseconds; the median of some rounds of PACKETS packets."""
    waits: list[list[float]] = []

    def run() -> list[float]:
        waits.append(_round())
        return [float(np.percentile(waits[-1], 99))]

    session.progress(CASE, 0, TIMES)
    found = repeat(run, session.gauge, TIMES, lambda n: session.progress(CASE, n, TIMES))
    middle = float(np.median(np.concatenate(waits)))
    yield row(
        CASE, found, "us", vector=1, packets=PACKETS, touched=8, median_us=round(middle, 2),
        what=f"p99; the median is {middle:.1f} us",
    )  # fmt: skip


def _round() -> list[float]:
    with arena() as memory:
        pool = Pool(memory, BUFFERS)
        ports = [{"name": "app", "number": 0, "type": "memring"}]
        memory.write_document("forwarder", {"ports": ports})
        port = MemringPort()
        port.open(0, pool)
        try:
            return _waits(memory.name, port, pool)
        finally:
            port.close()


def _waits(name: str, port: MemringPort, pool: Pool) -> list[float]:
    """Microseconds of each packet."""
    tables = port.tx()[1]
    cache, idx = pool.cache(), np.zeros(1, np.uint32)
    edge, count = np.zeros(1, np.uint8), np.zeros(len(TxCount), np.uint64)
    command = [sys.executable, "-m", "benchmarks.wakeup_case", name, str(PACKETS)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT, text=True)
    try:
        assert program.stdout is not None
        end = time.monotonic() + LIMIT_S
        for _ in range(PACKETS):
            while not tables["words"][ring.ASLEEP] and time.monotonic() < end:
                time.sleep(IDLE_S / 10)
            time.sleep(IDLE_S)
            sent = send_one(
                pool.data, pool.meta, idx, edge, count, cache, tables["words"], tables["full"],
                tables["ledger"], tables["spare"], tables["state"],
            )  # fmt: skip
            if not sent:
                msg = f"{CASE}: the program does not take its packets"
                raise AssertionError(msg)
        clocks = json.loads(program.stdout.read())
    finally:
        program.kill()
        program.wait()
        if program.stdout is not None:
            program.stdout.close()
        drain_cache(cache)
    if len(clocks) != PACKETS:
        msg = f"{CASE}: {len(clocks)} of {PACKETS} packets came"
        raise AssertionError(msg)
    return [c * 1e6 / tsc_hz() for c in clocks]


def _program(forwarder: str, n: int) -> None:
    """Wait for packets, and say how old each was when it was there."""
    found = []
    clock()
    with attach(forwarder) as port:
        while len(found) < n and port.wait(LIMIT_S):
            packets = port.receive()
            now = int(clock())
            found += [now - int.from_bytes(packet[:8].tobytes(), "little") for packet in packets]
            port.free(packets)
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    _program(sys.argv[1], int(sys.argv[2]))
