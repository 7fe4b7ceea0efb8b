# SPDX-License-Identifier: Apache-2.0
"""table71: what the book's table says a function costs, and what it costs here.

All by one definition: clocks per packet from ethernet-input to interface-output, every node in between
and the scheduler included, ports excluded; packets of 64 bytes, 256 per vector. The book counts
cycles of the core, this clocks of the time stamp counter, which on a core that runs faster than the
counter are fewer, and on a slower one more. What is not implemented has a row that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks import acl_path_cases, graphs, l2_cases, session_cases
from benchmarks.firewall import ACL, FEATURES, SESSION
from benchmarks.frames import FRAME_BYTES, random_slash24s
from benchmarks.graph_cases import MANY, PACKETS
from benchmarks.harness import Measured, missing, row
from benchmarks.loads import BRIDGED, CLASSIFIED, HEADERS, Load
from benchmarks.session import Session, arena
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena

CASE = "table71"
UNIT = "clocks/packet"
VECTORS = PACKETS // VECTOR_MAX
RULES = 1_000
SESSIONS = 100_000


class Function(NamedTuple):
    """A row of the table: the book's cycles, from and to, and what is run for it here, with what load."""

    name: str
    book: tuple[int, int]
    what: str
    run: Callable[[Arena], Callable[[], list[float]]]
    load: Load


def _bridge(memory: Arena) -> Callable[[], list[float]]:
    bench = l2_cases.Bench(memory, l2_cases.FEW)
    return lambda: [float(bench.clocks_per_packet(VECTOR_MAX, VECTORS).sum())]


def _router(memory: Arena) -> Callable[[], list[float]]:
    bench = graphs.ip4_path(memory, random_slash24s(MANY))
    return lambda: [float(bench.clocks_per_packet(VECTOR_MAX, VECTORS).sum())]


def _classifier(memory: Arena) -> Callable[[], list[float]]:
    bench = acl_path_cases.Bench(memory, RULES)
    bench.check()
    bench.switch([ACL])
    return lambda: [sum(bench.clocks([ACL]))]


def _firewall(memory: Arena) -> Callable[[], list[float]]:
    bench = session_cases.Bench(memory, SESSIONS, session_cases.TCP)
    bench.check()
    bench.switch(FEATURES)
    return lambda: [sum(bench.clocks([SESSION]))]


FUNCTIONS = (
    Function("l2", (70, 70), f"learning bridge, {l2_cases.FEW} stations", _bridge, BRIDGED),
    Function("ip", (175, 175), f"IPv4 router, {MANY} /24 routes at random", _router, HEADERS),
    Function("classification", (700, 800), f"IPv4 router with {RULES} rules, L2 to L4", _classifier,
             CLASSIFIED),
    Function("firewall", (2000, 3000), f"router and {SESSIONS} TCP sessions, in and out", _firewall,
             HEADERS._replace(flows=SESSIONS)),
)  # fmt: skip
ABSENT = {
    "tcp-termination": "TCP session termination: not implemented",
    "ssl": "SSL termination: not implemented",
}


def table71(session: Session) -> Iterator[dict[str, Any]]:
    """A row for each function; the last row: the book's cycles over ours where that is least."""
    found: dict[str, Measured] = {}
    ratios: dict[str, float] = {}
    functions = {function.name: function for function in FUNCTIONS}
    for function in FUNCTIONS:
        name = f"{CASE}-{function.name}"
        session.progress(f"{name}: preparing", 0, 1)
        with arena() as memory:
            found[function.name] = measured = session.measure(
                name, function.run(memory), len(FUNCTIONS)
            )
        ratios[function.name] = round(function.book[0] / measured.value, 2)
        yield function.load._asdict() | row(
            name, measured, UNIT, vector=VECTOR_MAX, packets=PACKETS, touched=FRAME_BYTES,
            book=list(function.book), ratio=ratios[function.name], what=function.what,
        )  # fmt: skip
    for name, why in ABSENT.items():
        yield missing(f"{CASE}-{name}", UNIT, session.gauge, why)
    least = min(ratios, key=lambda name: ratios[name])
    measured = found[least].inverted(float(functions[least].book[0]))
    yield functions[least].load._asdict() | row(
        CASE, measured, "x", vector=VECTOR_MAX, packets=PACKETS, touched=FRAME_BYTES,
        ratios=ratios, what="the book's cycles (the lower ones) / our clocks, the least",
    )  # fmt: skip
