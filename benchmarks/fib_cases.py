# SPDX-License-Identifier: Apache-2.0
"""Cases of the forwarding tables: paths with big tables, churn, memory, loading."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import graphs, tables
from benchmarks.graph_cases import path_row
from benchmarks.harness import LEAST, repeat, row
from benchmarks.session import Session, arena
from vforward.control import route_file
from vforward.control.routing import Routing
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.tables import trie
from vforward.tables.fib import OP, Fib4
from vforward.tables.ports import PORT

ROUTES4, ROUTES6 = 1_000_000, 200_000
CHURNED = 65_536
"""Prefixes that come and go, besides those that stay."""
BATCH = 1_024
PAIRS = 32 * BATCH
"""Insert and delete, of one run."""
FIRST_VALUE = 1_000
"""Of what comes and goes; what stays has less."""
TIMES = LEAST


def ip4_path_bgp(session: Session) -> Iterator[dict[str, Any]]:
    """1 M prefixes with the length mix of the Internet's table, destinations evenly over prefixes."""
    with arena() as memory:
        bench = graphs.ip4_path_bgp(memory, ROUTES4)
        yield path_row(session, "ip4-path-bgp", bench, VECTOR_MAX, routes=ROUTES4, layout="bgp")


def ip6_path_200k(session: Session) -> Iterator[dict[str, Any]]:
    """The IPv6 path with 200 000 prefixes, likewise."""
    with arena() as memory:
        bench = graphs.ip6_path(memory, ROUTES6)
        yield path_row(session, "ip6-path-200k", bench, VECTOR_MAX, routes=ROUTES6, layout="bgp")


def fib4_memory(session: Session) -> Iterator[dict[str, Any]]:
    """What 1 M routes take, the writer's own copy of them included."""
    with arena() as memory:
        fib = _table(memory, *tables.bgp4(ROUTES4))
        found = repeat(lambda: [fib.memory() / (1 << 20)], session.gauge, 1)
        mebibytes = round(int(fib.nodes[0]) * trie.WORDS * 4 / (1 << 20), 1)
    yield row(
        "fib4-memory", found, "MiB", vector=0, packets=0, touched=0, timed=False, routes=ROUTES4,
        mebibytes=mebibytes,
    )  # fmt: skip


def fib4_load(session: Session) -> Iterator[dict[str, Any]]:
    """1 M routes from a text file (vforward.control.route_file) into an empty routing table."""
    prefixes, lengths = tables.bgp4(ROUTES4)
    numbers = tables.values(ROUTES4)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "routes.txt"
        columns = zip(prefixes.tolist(), lengths.tolist(), numbers.tolist(), strict=True)
        path.write_text("".join(f"{_dotted(p)}/{n} 192.0.2.{v + 1}\n" for p, n, v in columns))

        def run() -> list[float]:
            with arena() as memory:
                ports = np.zeros(2, PORT)
                routing = Routing(memory, ports, str)
                routing.connect(1, IPv4Interface("192.0.2.1/24"))  # compiles
                start = time.perf_counter()
                route_file.load(routing, path)
                spent = time.perf_counter() - start
                here = routing.count(0)
                _assert(here >= ROUTES4, f"{here} routes")
                return [spent]

        found = repeat(run, session.gauge, TIMES, lambda n: session.progress("load", n, TIMES))
    yield row("fib4-load", found, "s", vector=0, packets=0, touched=0, routes=ROUTES4)


def fib4_churn(session: Session) -> Iterator[dict[str, Any]]:
    """Pairs of insert and delete per second in a table of 1 M routes, while a thread looks up.

    The thread asks for addresses in the prefixes that come and go, and wants for each the value of
    what stays or of one of those that come and go and cover it. It counts rounds: quiet points.
    """
    prefixes, lengths = tables.bgp4(ROUTES4 + CHURNED)
    ops = np.zeros((2, CHURNED), OP)
    ops["high"] = prefixes[ROUTES4:].astype(np.uint64) << np.uint64(32)
    ops["length"], ops["value"] = lengths[ROUTES4:], FIRST_VALUE + np.arange(CHURNED)
    ops["add"] = [[1], [0]]
    with arena() as memory:
        fib = _table(memory, prefixes[:ROUTES4], lengths[:ROUTES4])
        asked = tables.destinations4(prefixes[ROUTES4:], lengths[ROUTES4:], CHURNED)
        stays = np.zeros(CHURNED, np.uint32)
        _look_up(fib.root, fib.nodes, asked, stays)
        shared, wrong = np.zeros(2, np.uint64), np.zeros(1, np.int64)
        given = (asked, stays, prefixes[ROUTES4:], lengths[ROUTES4:], shared, wrong)
        shared[0] = 1
        _watch(fib.root, fib.nodes, *given)  # compiled here
        shared[0] = 0
        reader = threading.Thread(target=_watch, args=(fib.root, fib.nodes, *given))
        quiet = _Quiet(fib, shared)
        at = 0

        def run() -> list[float]:
            nonlocal at
            start = time.perf_counter()
            for _ in range(PAIRS // BATCH):
                for half in ops:  # what is added is deleted right behind
                    fib.apply(half[at : at + BATCH])
                    quiet.reclaim()
                at = (at + BATCH) % CHURNED
            return [PAIRS / (time.perf_counter() - start)]

        reader.start()
        try:
            found = repeat(run, session.gauge, TIMES, lambda n: session.progress("churn", n, TIMES))
        finally:
            shared[0] = 1
            reader.join()
        _assert(not wrong[0], f"{wrong[0]} look-ups were wrong")
        _assert(len(fib) == ROUTES4, f"{len(fib)} routes are left")
        rounds = int(shared[1])
    yield row(
        "fib4-churn", found, "pairs/s", vector=0, packets=0, touched=0, routes=ROUTES4,
        lookups=rounds * VECTOR_MAX,
    )  # fmt: skip


class _Quiet:
    """Reclaims what was retired before the reader's last whole round."""

    def __init__(self, fib: Fib4, shared: Any) -> None:
        self.fib, self.shared = fib, shared
        self.waiting = self.since = 0

    def reclaim(self) -> None:
        rounds = int(self.shared[1])
        if rounds >= self.since + 2:
            self.fib.reclaim(self.waiting)
            self.waiting, self.since = self.fib.retired, rounds


@kernel
def _look_up(root, nodes, asked, found):
    for i in range(asked.size):
        found[i] = trie.lookup4(root, nodes, 0, asked[i])


@kernel
def _watch(root, nodes, asked, stays, prefixes, lengths, shared, wrong):
    """Look up until shared[0] is set, and count in shared[1] rounds of VECTOR_MAX."""
    where = address(shared)
    rounds = u64(0)
    first = 0
    while load_acquire64(where) == u64(0):
        for i in range(first, first + VECTOR_MAX):
            found = i64(trie.lookup4(root, nodes, 0, asked[i]))
            if found >= FIRST_VALUE:
                n = i64(lengths[found - FIRST_VALUE])
                if (i64(asked[i]) ^ i64(prefixes[found - FIRST_VALUE])) >> 32 - n:
                    wrong[0] += 1
            elif found != i64(stays[i]):
                wrong[0] += 1
        first = (first + VECTOR_MAX) % asked.size
        rounds += u64(1)
        store_release64(where + 8, rounds)


def _table(memory: Arena, prefixes: Any, lengths: Any) -> Fib4:
    fib = Fib4(memory)
    values = tables.values(len(prefixes))
    fib.add_many(prefixes, lengths, values, between=lambda _done: fib.reclaim())
    return fib


def _dotted(ip: int) -> str:
    return f"{ip >> 24}.{ip >> 16 & 255}.{ip >> 8 & 255}.{ip & 255}"


def _assert(right: bool, message: str) -> None:
    if not right:
        raise AssertionError(message)
