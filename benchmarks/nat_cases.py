# SPDX-License-Identifier: Apache-2.0
"""Cases of NAT: what it costs to give a packet new endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness import row
from benchmarks.session import Session
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_STRIDE, HEADROOM, META, VECTOR_MAX
from vforward.packet.translate import translate4
from vforward.testing import packets

VECTORS = 16
SEED = 4


@kernel
def translate(data, meta, rows, src, dst, vectors):
    """Clocks to give the packets the endpoints, so many times."""
    done = 0
    start = cycles()
    for _ in range(vectors):
        for i in range(rows.size):
            at = i64(rows[i])
            l3 = i64(meta[at].l3)
            protocol = i64(data[at, l3 + 9])
            done += translate4(data, meta, at, l3, l3 + 20, protocol, i64(src[i]), i64(dst[i]))
    spent = np.float64(cycles() - start)
    return spent if done == vectors * rows.size else np.float64(np.nan)


def nat_translate(session: Session) -> Iterator[dict[str, Any]]:
    """A vector of TCP packets of 60 bytes, in random order, each between two endpoints of its own."""
    rng = np.random.default_rng(SEED)
    data = np.zeros((VECTOR_MAX, BUF_STRIDE), np.uint8)
    meta = np.zeros(VECTOR_MAX, META)
    ends = "10.0.0.1", "192.0.2.1"
    segment = packets.tcp(*ends, 1024, 80, payload=bytes(6))
    frame = packets.eth(1, 2, packets.ETH_IP4, packets.ip4(*ends, packets.PROTO_TCP, segment))
    data[:, HEADROOM : HEADROOM + len(frame)] = np.frombuffer(frame, np.uint8)
    meta["off"], meta["l3"], meta["end"] = HEADROOM, HEADROOM + 14, HEADROOM + len(frame)
    rows = rng.permutation(VECTOR_MAX).astype(np.uint32)

    def run() -> list[float]:
        src, dst = rng.integers(0, 1 << 48, (2, VECTOR_MAX), np.uint64)
        return [translate(data, meta, rows, src, dst, VECTORS) / (VECTORS * VECTOR_MAX)]

    measured = session.measure("nat-translate", run)
    headers = data[:, HEADROOM + 14 : HEADROOM + 34]
    if any(packets.checksum(header.tobytes()) for header in headers):
        msg = "translate4 left a wrong checksum"
        raise AssertionError(msg)
    yield row(
        "nat-translate",
        measured,
        "clocks/packet",
        vector=VECTOR_MAX,
        packets=VECTORS * VECTOR_MAX,
        touched=20,
    )
