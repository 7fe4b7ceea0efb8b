# SPDX-License-Identifier: Apache-2.0
"""fig79: scalar against vector, over tables of all sizes, with prefetch and without, honestly.

    fig79-LEVEL             the vector graph at 1, 2, 4 ... 256 packets per vector
    fig79-LEVEL-plain       the same kernels without their prefetches
    fig79-LEVEL-scalar      a compiled loop: a packet through the whole path, then the next
    fig79-LEVEL-called      that compiled code, called from Python for each packet
    fig79-python            the work in plain Python, packet by packet
    fig79-scapy, -dpkt      a frame parsed by scapy, by dpkt, and not forwarded
    fig79                   what that comes to, in words and as a plot

LEVEL is the cache that the routes' nodes fit in: L1, L2, L3, memory. Where they fit another one here, the
row's doubts say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import caches, fig79_summary, fig79_verdict, graphs, peer_versions
from benchmarks.fig79_tables import Table
from benchmarks.frames import FRAME_BYTES, SEED, udp_frame
from benchmarks.graph_cases import SIZES, path_row
from benchmarks.harness import clock, missing, row
from benchmarks.parsers import PARSERS
from benchmarks.plot import plot_fig79
from benchmarks.python_case import python_baseline
from benchmarks.scalar_loop import ScalarLoop
from benchmarks.session import Session, arena
from vforward.layout import VECTOR_MAX

CASE = "fig79"
LEVELS = (*caches.LEVELS, caches.MEMORY)
UNIT = "clocks/packet"
SHARE = 3 * len(SIZES)
VECTORS = 8
"""Of a timed run of the scalar loop."""
CALLS = 64
"""Packets of a timed run of what is called from Python."""
PARSED = 8
"""Frames of a timed run of a parser: half a millisecond."""


def fig79(session: Session) -> Iterator[dict[str, Any]]:
    """All of the above; the last row: clocks at vectors of 1 over those at 256, the largest such."""
    rows = []
    for made in _all(session):
        rows.append(made)
        yield made
    said = fig79_verdict.verdict(rows)
    plot = session.plot_to(CASE)
    plot_fig79(plot, rows)
    best = max(said.gains, key=lambda level: said.gains[level].value)
    fits = next(made["fits"] for made in rows if made["case"] == f"{CASE}-{best}")
    made = row(
        CASE, said.gains[best], "x", vector=VECTOR_MAX, packets=0, touched=FRAME_BYTES,
        what=f"clocks per packet at vectors of 1 / of {VECTOR_MAX}, table in {best}",
        ratios=said.ratios, text=said.text, plot=str(plot),
        table=fig79_summary.summary(rows, LEVELS),
    )  # fmt: skip
    yield doubted(made, best, fits)


def doubted(made: dict[str, Any], level: str, fits: str) -> dict[str, Any]:
    """A row of a table that is named after a level: with one doubt more if it fits another one here."""
    if fits == level:
        return made
    return {**made, "doubts": [*made["doubts"], f"NOT {level}: its table fits {fits}"]}


def _all(session: Session) -> Iterator[dict[str, Any]]:
    sizes = caches.sizes()
    for level in LEVELS:
        for made in _of_level(session, level, sizes):
            yield doubted(made, level, made["fits"])
    (python,) = python_baseline(session)
    yield {**python, "case": f"{CASE}-python"}
    for name in PARSERS:
        yield _parser(session, name)


def _of_level(session: Session, level: str, sizes: dict[str, int]) -> Iterator[dict[str, Any]]:
    session.progress(f"{CASE} {level}: routes", 0, 1)
    with arena("-routes") as memory:
        table = Table(memory, level, sizes)
        for prefetch in (True, False):
            yield from _vectors(session, level, table, sizes, prefetch=prefetch)
        with arena() as other:
            yield from _scalar(session, level, table, sizes, table.bench(other, prefetch=True))


def _more(table: Table, sizes: dict[str, int]) -> dict[str, Any]:
    """What the rows of a table say of it."""
    return {
        "routes": table.routes,
        "kibibytes": table.bytes >> 10,
        "fits": caches.fits(table.bytes, sizes),
    }


def _vectors(
    session: Session, level: str, table: Table, sizes: dict[str, int], *, prefetch: bool
) -> Iterator[dict[str, Any]]:
    name = f"{CASE}-{level}" if prefetch else f"{CASE}-{level}-plain"
    with arena() as memory:
        bench = table.bench(memory, prefetch=prefetch)
        for size in SIZES:
            yield path_row(
                session, name, bench, size, share=SHARE, prefetch=prefetch, **_more(table, sizes)
            )


def _scalar(
    session: Session, level: str, table: Table, sizes: dict[str, int], bench: graphs.Bench
) -> Iterator[dict[str, Any]]:
    """The compiled loop, and its being called from Python for each packet."""
    loop = ScalarLoop(bench)

    def looped() -> list[float]:
        return [loop.run(VECTORS) / (VECTORS * VECTOR_MAX)]

    def called() -> list[float]:
        rows = loop.fresh(CALLS)
        each = [rows[i : i + 1] for i in range(CALLS)]
        one = loop.one
        start = clock()
        wrong = 0
        for packet in each:
            wrong += one(packet)
        spent = float(clock() - start)
        if wrong:
            msg = f"{wrong} times a packet went another way"
            raise AssertionError(msg)
        return [spent / CALLS]

    for name, run, packets in (
        ("scalar", looped, VECTORS * VECTOR_MAX),
        ("called", called, CALLS),
    ):
        case = f"{CASE}-{level}-{name}"
        found = session.measure(case, run, SHARE)
        yield row(
            case, found, UNIT, vector=1, packets=packets, touched=FRAME_BYTES,
            **_more(table, sizes),
        )  # fmt: skip


def _parser(session: Session, name: str) -> dict[str, Any]:
    case = f"{CASE}-{name}"
    try:
        read = PARSERS[name]()
    except ImportError as error:
        return missing(case, UNIT, session.gauge, f"{error.name or name}: not installed (pip)")
    rng = np.random.default_rng(SEED)

    def run() -> list[float]:
        drawn = rng.integers(0x0B000000, 0x0C000000, PARSED)
        frames = [udp_frame(0x0A000002, int(destination)) for destination in drawn]
        start = clock()
        for frame in frames:
            found = read(frame)
        spent = float(clock() - start)
        if found[0] != 0x0800 or found[3:] != (64, 0):
            msg = f"{name} has read {found}"
            raise AssertionError(msg)
        return [spent / PARSED]

    found = session.measure(case, run)
    return row(
        case, found, UNIT, vector=1, packets=PARSED, touched=0, what="parsed, not forwarded",
        touches="headers read, by a parser", peer=peer_versions.package(name),
    )  # fmt: skip
