# SPDX-License-Identifier: Apache-2.0
"""Cases of the session table: what ip4-session adds to the IPv4 path, and new sessions per second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import graphs, nodes, session_nodes
from benchmarks.frames import CHECKSUM, FRAME_BYTES, header_sum, udp_frame
from benchmarks.graph_cases import PACKETS
from benchmarks.harness import parts, row, tsc_hz
from benchmarks.session import Session, arena
from vforward.graph import control as c
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip4 import rewrite as ip4_rewrite
from vforward.nodes.ip4 import session as ip4_session
from vforward.packet import tcp
from vforward.tables import session as t
from vforward.tables.fib import Fib4
from vforward.tables.session_table import Sessions

TCP, UDP = 6, 17
FEATURES = ["ip4-session", "bench-open"]
ROOM = (1 << 20) - 1
VECTORS = PACKETS // VECTOR_MAX


def _frame(protocol: int, flags: int) -> bytes:
    """A frame like udp_frame's, with a TCP header if that is wanted."""
    frame = bytearray(udp_frame(0, 0))
    frame[23] = protocol
    if protocol == TCP:
        frame[16:18] = (40).to_bytes(2, "big")
        frame[34 + tcp.OFFSET], frame[34 + tcp.FLAGS] = 0x50, flags
        frame[34 + tcp.WINDOW : 36 + tcp.WINDOW] = (30_000).to_bytes(2, "big")
    else:
        frame[38:40] = (26).to_bytes(2, "big")
    frame[CHECKSUM : CHECKSUM + 2] = bytes(2)
    return bytes(frame)


class Bench(graphs.Bench):
    """The IPv4 path with ip4-session on its arc, and packets of so many flows, in random order."""

    def __init__(self, memory: Arena, flows: int, protocol: int, *, new: bool = False) -> None:
        fib = Fib4(memory)
        prefixes = np.array([0x0A000000, 0x0B000000], np.uint32)
        fib.add_many(prefixes, np.full(2, 8, np.uint8), np.array([1, 2], np.uint32))
        graph = graphs.path(memory, fib, ip4_input, ip4_lookup, ip4_rewrite, features=FEATURES)
        self.sessions = Sessions(memory, ROOM if new else flows)
        self.skips = np.zeros(2, np.uint64)
        graph.tables |= self.sessions.tables | {"skips": self.skips}
        graph.add(ip4_session.NODE)
        graph.add(session_nodes.OPEN)
        self.arc = graph.arcs["ip4-input"]
        self.new = new
        frame = _frame(protocol, tcp.SYN if new else tcp.ACK)
        rest = header_sum(frame[14:34])
        self.state = np.array([0, 0x9E3779B97F4A7C15, flows, rest, int(new)], np.uint64)
        rows = graph.pool.take(VECTOR_MAX)
        graph.add(
            session_nodes.RX,
            rows=rows,
            frame=np.frombuffer(bytearray(frame), np.uint8),
            state=self.state,
        )
        self._finish(graph, graphs.IP4_PATH)
        if not new:
            row_used = int(rows[0])
            pool = graph.pool
            done = session_nodes.establish(
                self.sessions.array, pool.data, pool.meta, row_used, flows, protocol
            )
            if done != flows:
                msg = f"of {flows} flows only {done} have a session"
                raise AssertionError(msg)

    def _clocks(self, name: str) -> float:
        stats = self.plan.stats.reshape(-1, c.STATS)
        return float(stats[self.graph.members[name].number, c.CLOCKS]) / PACKETS

    def added(self) -> list[float]:
        """Clocks per packet of ip4-session, and by how much the rest of the path became slower."""
        for name in FEATURES:
            self.arc.disable(name, nodes.PORT)
        without = float(self.clocks_per_packet(VECTOR_MAX, VECTORS).sum())
        for name in FEATURES[: 1 + self.new]:
            self.arc.enable(name, nodes.PORT)
        rest = float(self.clocks_per_packet(VECTOR_MAX, VECTORS).sum())
        own = [self._clocks(name) for name in FEATURES[: 1 + self.new]]
        return [*own, rest - without]


def _row(session: Session, case: str, flows: int, protocol: int) -> dict[str, Any]:
    names = ["ip4-session", "rest of the path"]
    with arena() as memory:
        bench = Bench(memory, flows, protocol)
        found = session.measure(case, bench.added, 2)
        missed = int(bench.sessions.array[t.OPEN]) - flows
        if missed:
            msg = f"{missed} sessions too many"
            raise AssertionError(msg)
    return row(
        case, found, "clocks/packet", vector=VECTOR_MAX, packets=PACKETS, touched=FRAME_BYTES,
        nodes=parts(names, found), sessions=flows, protocol="tcp" if protocol == TCP else "udp",
    )  # fmt: skip


def _known(session: Session, case: str, flows: int) -> Iterator[dict[str, Any]]:
    yield _row(session, case, flows, UDP)
    yield _row(session, case, flows, TCP)


def session_1k(session: Session) -> Iterator[dict[str, Any]]:
    """A thousand established sessions, both directions mixed."""
    yield from _known(session, "session-1k", 1_000)


def session_100k(session: Session) -> Iterator[dict[str, Any]]:
    """A hundred thousand, in random order."""
    yield from _known(session, "session-100k", 100_000)


def session_1m(session: Session) -> Iterator[dict[str, Any]]:
    """A million, in random order: every look-up misses the L2 cache."""
    yield from _known(session, "session-1m", 1_000_000)


def session_new(session: Session) -> Iterator[dict[str, Any]]:
    """New TCP flows per second of a worker that does nothing else: the miss, and the session opened.

    The first row is of a table that is full: an embryonic session is ended for each. The last is of one
    that has room.
    """
    for full in (True, False):
        with arena() as memory:
            bench = Bench(memory, 1 << 30, TCP, new=True)
            if full:
                while int(bench.sessions.array[t.OPEN]) < ROOM:
                    bench.added()

            def run(bench: Bench = bench, full: bool = full) -> list[float]:
                if not full and int(bench.sessions.array[t.OPEN]) > ROOM - 2 * PACKETS:
                    bench.sessions.clear()
                return [tsc_hz() / sum(bench.added())]

            found = session.measure("session-new", run, 2)
        yield row(
            "session-new", found, "sessions/s", vector=VECTOR_MAX, packets=PACKETS,
            touched=FRAME_BYTES, full=full,
        )  # fmt: skip
