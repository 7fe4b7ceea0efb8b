# SPDX-License-Identifier: Apache-2.0
"""Cases of the packet classifier alone (tables.acl): rule lists and packets of benchmarks.rule_sets.

A run is VECTORS vectors out of a trace of PACKETS, the next ones each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import rule_sets
from benchmarks.harness import LEAST, Measured, repeat, row
from benchmarks.ratios import of_medians
from benchmarks.session import Session
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import kernel
from vforward.layout import VECTOR_MAX
from vforward.tables import acl, acl_check, acl_effort

UNIT = "clocks/lookup"
PACKETS = 1 << 16
VECTORS = 16
SIZES = (10, 100, 1_000, 10_000, 100_000)
FEW, MANY = 256, 1 << 14
"""Different packets of an attack."""
LIMIT_RATIO = 3.0
"""Issue 4: so much slower an attacker may make it, who knows the rules."""
TIMES = LEAST


@kernel
def look_up4(image: Any, fields: Any, found: Any, work: Any) -> Any:
    """Clocks for the packets, fields u32[n, 8 * 256], a vector at a time. found u32[n, 256]."""
    start = cycles()
    for k in range(fields.shape[0]):
        acl.classify4(image, fields[k], found[k], work, VECTOR_MAX)
    return np.float64(cycles() - start)


@kernel
def look_up6(image: Any, fields: Any, found: Any, work: Any) -> Any:
    """The same for IPv6, fields u32[n, 16 * 256]."""
    start = cycles()
    for k in range(fields.shape[0]):
        acl.classify6(image, fields[k], found[k], work, VECTOR_MAX)
    return np.float64(cycles() - start)


def compiled(n: int, family: int) -> tuple[NDArray[Any], NDArray[np.uint64]]:
    """n rows, and their image."""
    rows = rule_sets.rules(n, family)
    return rows, acl.compile4(rows) if family == 4 else acl.compile6(rows)


def clocks(
    session: Session,
    name: str,
    rows: NDArray[Any],
    image: NDArray[np.uint64],
    packets: NDArray[np.uint32],
    share: int,
) -> Measured:
    """Clocks per packet; what is found for some is held against a walk through the rows."""
    family = 4 if packets.shape[1] == 8 else 6
    look_up: Callable[..., float] = look_up4 if family == 4 else look_up6
    vectors = packets.reshape(-1, VECTOR_MAX * packets.shape[1])
    found = np.zeros((VECTORS, VECTOR_MAX), np.uint32)
    work = np.zeros(acl.WORK, np.uint64)
    look_up(image, vectors[:VECTORS], found, work)
    some = slice(None, VECTOR_MAX, 8)
    if (found[0, some] != acl_check.walk(rows, packets[:VECTOR_MAX][some])).any():
        msg = f"{name} found another rule than the first"
        raise AssertionError(msg)
    at = 0

    def run() -> list[float]:
        nonlocal at
        part = vectors[at : at + VECTORS]
        at = (at + VECTORS) % len(vectors)
        return [look_up(image, part, found, work) / part.shape[0] / VECTOR_MAX]

    return session.measure(name, run, share)


def acl_lookup(session: Session) -> Iterator[dict[str, Any]]:
    """The look-up of 10 to 100 000 rules; the last row: 1 000 of IPv4."""
    cases = [(6, n) for n in SIZES] + [(4, n) for n in sorted(SIZES, key=lambda n: (n == 1_000, n))]
    for family, n in cases:
        last = (family, n) == cases[-1]
        name = "acl-lookup" if last else f"acl-lookup-{family}-{n}"
        rows, image = compiled(n, family)
        packets = rule_sets.trace(rows, PACKETS)
        measured = clocks(session, name, rows, image, packets, len(cases))
        yield row(
            name, measured, UNIT, vector=VECTOR_MAX, packets=VECTORS * VECTOR_MAX, touched=0,
            rules=n, family=family, **_visits(image, packets), **acl.bounds(image)._asdict(),
        )  # fmt: skip


def acl_attack(session: Session) -> Iterator[dict[str, Any]]:
    """The costliest packets that can be made of an image, over random ones; the last row: the worst.

    Packets are made of the leaves whose ways and lists are longest (acl_check.worst), all different.
    Of FEW the visits are most, of MANY the cache misses: the row has whichever took longer.
    """
    ratio: dict[str, Measured] = {}
    flows: dict[str, int] = {}
    cases = [(family, n) for family in (4, 6) for n in (1_000, 10_000, 100_000)]
    for family, n in cases:
        rows, image = compiled(n, family)
        name = f"acl-attack-{family}-{n}"
        usual = clocks(session, name, rows, image, rule_sets.trace(rows, PACKETS), 3 * len(cases))
        tried = [_attack(image, few) for few in (FEW, MANY)]
        times = [clocks(session, name, rows, image, one, 3 * len(cases)) for one in tried]
        k = int(times[1].value > times[0].value)
        packets, measured = tried[k], times[k]
        ratio[name] = of_medians(measured, usual)
        flows[name] = len(np.unique(packets, axis=0))
        yield row(
            name, measured, UNIT, vector=VECTOR_MAX, packets=VECTORS * VECTOR_MAX, touched=0,
            rules=n, family=family, flows=flows[name], random=round(usual.value, 2),
            ratio=round(ratio[name].value, 2),
            **_visits(image, packets), **acl.bounds(image)._asdict(),
        )  # fmt: skip
    worst = max(ratio, key=lambda name: ratio[name].value)
    yield row(
        "acl-attack", ratio[worst], "x", vector=VECTOR_MAX, packets=0, touched=0,
        limit=LIMIT_RATIO, flows=flows[worst],
        what="clocks of the costliest packets / of random ones",
        ratios={name: round(each.value, 2) for name, each in ratio.items()},
    )  # fmt: skip


def _attack(image: NDArray[np.uint64], few: int) -> NDArray[np.uint32]:
    """Whole runs of so many of the costliest packets, in random order."""

    def cost(nodes: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
        return 3.0 * nodes + 7.0 * rows

    made = acl_check.worst(image, few, cost)
    runs = max(len(made) // (VECTOR_MAX * VECTORS), 1)
    order = np.random.default_rng(rule_sets.SEED).permutation(runs * VECTOR_MAX * VECTORS)
    return np.ascontiguousarray(made[order % len(made)])


def _visits(image: NDArray[np.uint64], packets: NDArray[np.uint32]) -> dict[str, float]:
    """What a packet visits on average."""
    visits = np.zeros((len(packets), 2), np.uint32)
    acl_effort.effort(image, packets, visits)
    nodes, rows = visits.mean(axis=0)
    return {"nodes_mean": round(float(nodes), 2), "rows_mean": round(float(rows), 2)}


def acl_build(session: Session) -> Iterator[dict[str, Any]]:
    """Seconds to build an image, and its size; the last row: 10 000 rules of IPv4."""
    cases = [(6, 1_000), (6, 10_000), (6, 100_000), (4, 1_000), (4, 100_000), (4, 10_000)]
    for family, n in cases:
        name = "acl-build" if (family, n) == cases[-1] else f"acl-build-{family}-{n}"
        rows = rule_sets.rules(n, family)
        compiler = acl.compile4 if family == 4 else acl.compile6
        image = compiler(rows[:100])

        def run(rows: NDArray[Any] = rows, compiler: Any = compiler) -> list[float]:
            nonlocal image
            start = time.perf_counter()
            image = compiler(rows)
            return [time.perf_counter() - start]

        found = repeat(
            run, session.gauge, TIMES, lambda k, name=name: session.progress(name, k, TIMES)
        )
        yield row(
            name, found, "s", vector=0, packets=0, touched=0, rules=n, family=family,
            mebibytes=round(image.nbytes / (1 << 20), 2), bytes_per_rule=round(image.nbytes / n),
        )  # fmt: skip
