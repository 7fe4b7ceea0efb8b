# SPDX-License-Identifier: Apache-2.0
"""Cases that run a graph: the IPv4 path, the scheduler alone, the size of a vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import graphs, nodes
from benchmarks.frames import FRAME_BYTES, random_slash24s
from benchmarks.harness import parts, row
from benchmarks.plot import plot_vector_sizes
from benchmarks.session import Session, arena
from vforward.graph import control as c
from vforward.layout import VECTOR_MAX

PACKETS = 8 * VECTOR_MAX
"""Packets of a timed run: some 60 microseconds, which the gauge's 10 on each side speak for."""
MOST_VECTORS = 512
CHAIN = 10
FEW = np.arange(0x0B000000, 0x0B001000, 0x100, dtype=np.uint32)
MANY = 512_000
SIZES = [1 << k for k in range(VECTOR_MAX.bit_length())]
KNEE = 1.1
"""The knee is the smallest vector that costs at most this many times the cheapest one."""


def ip4_path(session: Session) -> Iterator[dict[str, Any]]:
    """Sixteen routes."""
    yield _path(session, "ip4-path", FEW, "contiguous")


def ip4_path_512k(session: Session) -> Iterator[dict[str, Any]]:
    """512 000 routes, with the prefixes at random over the address space, then side by side.

    Side by side is how VPP's ``ip route add PREFIX count 512000`` lays them, with whose figure the
    result (the last row) is compared. At random, the nodes that look-ups touch take 7.5 MiB.
    """
    together = np.arange(MANY, dtype=np.uint32) * np.uint32(0x100) + FEW[0]
    yield _path(session, "ip4-path-512k", random_slash24s(MANY), "random")
    yield _path(session, "ip4-path-512k", together, "contiguous")


def _path(session: Session, case: str, prefixes: NDArray[np.uint32], layout: str) -> dict[str, Any]:
    with arena() as memory:
        bench = graphs.ip4_path(memory, prefixes)
        return path_row(session, case, bench, VECTOR_MAX, routes=len(prefixes), layout=layout)


def path_row(
    session: Session, case: str, bench: graphs.Bench, vector: int, *, share: int = 1, **more: Any
) -> dict[str, Any]:
    """Measure a path at a size of vector."""
    vectors = min(MOST_VECTORS, PACKETS // vector)
    label = f"{case} {vector}" if share > 1 else case
    found = session.measure(label, lambda: bench.clocks_per_packet(vector, vectors), share)
    return row(
        case,
        found,
        "clocks/packet",
        vector=vector,
        packets=vector * vectors,
        touched=FRAME_BYTES,
        nodes=parts(bench.names, found),
        **more,
    )


def vector_sizes(session: Session) -> Iterator[dict[str, Any]]:
    """The path of ip4-path at each size of vector; the last row, of 256, names the knee."""
    rows = []
    with arena() as memory:
        bench = graphs.ip4_path(memory, FEW)
        for size in SIZES:
            rows.append(path_row(session, "vector-sizes", bench, size, share=len(SIZES)))
            if size < VECTOR_MAX:
                yield rows[-1]
    values = [r["value"] for r in rows]
    knee = next(s for s, v in zip(SIZES, values, strict=True) if v <= KNEE * min(values))
    path = session.plot_to("vector-sizes")
    plot_vector_sizes(path, rows, knee)
    yield {**rows[-1], "knee": knee, "plot": str(path)}


def dispatch(session: Session) -> Iterator[dict[str, Any]]:
    """A chain of nodes whose kernels do nothing: what is left is the scheduler's."""
    vectors = PACKETS // VECTOR_MAX

    def run() -> list[float]:
        stats = bench.run(VECTOR_MAX, vectors)
        return [float(stats[:, c.CLOCKS].sum() / stats[:, c.CALLS].sum())]

    with arena() as memory:
        bench = graphs.chain(memory, nodes.NOTHING, CHAIN)
        found = session.measure("dispatch", run)
    packets = VECTOR_MAX * vectors
    yield row("dispatch", found, "clocks/vector", vector=VECTOR_MAX, packets=packets, touched=0)
