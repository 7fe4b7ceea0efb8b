# SPDX-License-Identifier: Apache-2.0
"""The case python-baseline: what the IPv4 path costs in plain Python."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from benchmarks.frames import FRAME_BYTES, OUR_MAC, SEED, THEIR_MAC, udp_frame
from benchmarks.graph_cases import FEW
from benchmarks.harness import clock, row
from benchmarks.python_router import Neighbor, Router
from benchmarks.session import Session
from vforward.layout import VECTOR_MAX

PORT = 2


def python_baseline(session: Session) -> Iterator[dict[str, Any]]:
    """The routes and frames of ip4-path, packet by packet."""
    neighbor = Neighbor(THEIR_MAC + OUR_MAC + b"\x08\x00", PORT, 1500)
    router = Router(OUR_MAC, [(int(prefix), 24, neighbor) for prefix in FEW])
    rng = random.Random(SEED)

    def run() -> list[float]:
        chosen = [int(rng.choice(FEW)) + rng.randrange(256) for _ in range(VECTOR_MAX)]
        frames = [bytearray(udp_frame(0x0A000002, dst)) for dst in chosen]
        start = clock()
        for frame in frames:
            router.forward(frame)
        return [float(clock() - start) / VECTOR_MAX]

    found = session.measure("python-baseline", run)
    if router.drops:
        msg = f"the Python router dropped packets: {router.drops}"
        raise AssertionError(msg)
    yield row(
        "python-baseline",
        found,
        "clocks/packet",
        vector=1,
        packets=VECTOR_MAX,
        touched=FRAME_BYTES,
    )
