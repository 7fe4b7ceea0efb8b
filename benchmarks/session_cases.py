# SPDX-License-Identifier: Apache-2.0
"""Cases of sessions: what known ones add to the IPv4 path, with NAT and without; new ones per second.

The rules deny everything where sessions are known: no packet may get to them. TCP is in the middle of
connections, whose sequence numbers go on (benchmarks.session_nodes).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import firewall, rule_sets, session_nodes
from benchmarks.firewall import FEATURES, SESSION
from benchmarks.frames import CHECKSUM, FRAME_BYTES, header_sum, udp_frame
from benchmarks.graph_cases import PACKETS
from benchmarks.harness import parts, row, tsc_hz
from benchmarks.session import Session, arena
from vforward.control.policy_bundle import Parts
from vforward.layout import HEADROOM, VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.packet import tcp
from vforward.tables import acl, policy
from vforward.tables import session as t

TCP, UDP = 6, 17
ROOM = (1 << 20) - 1
RULES = 100
"""That a new session's packet has to get past."""
DENY = Parts(firewall.actions(0, kind=policy.DENY), firewall.NO_REWRITES)


def _frame(protocol: int, flags: int) -> bytes:
    """A frame like udp_frame's, with a TCP header if that is wanted. Its checksums are 0."""
    frame = bytearray(udp_frame(0, 0))
    frame[23] = protocol
    if protocol == TCP:
        frame[16:18] = (40).to_bytes(2, "big")
        frame[34 + tcp.OFFSET], frame[34 + tcp.FLAGS] = 0x50, flags
        frame[34 + tcp.WINDOW : 36 + tcp.WINDOW] = session_nodes.WINDOW.to_bytes(2, "big")
    else:
        frame[38:40] = (26).to_bytes(2, "big")
    frame[CHECKSUM : CHECKSUM + 2] = bytes(2)
    return bytes(frame)


def _state(frame: bytes, flows: int, *, new: bool, nat: bool) -> NDArray[np.uint64]:
    """bench-rx's state for a frame, see session_nodes."""
    length = int.from_bytes(frame[16:18], "big") - 20
    l4 = header_sum(bytes([0, frame[23]]) + length.to_bytes(2, "big") + frame[34 : 34 + length])
    lap = max(flows // 2, 256)
    words = [0, 0x9E3779B97F4A7C15, flows, header_sum(frame[14:34]), new, l4, nat, 0, lap]
    return np.array(words, np.uint64)


class Bench(firewall.Bench):
    """The path with packets of so many flows, in random order and both directions mixed."""

    def __init__(self, memory: Arena, flows: int, protocol: int, *, nat: bool = False) -> None:
        frame = _frame(protocol, tcp.ACK)
        self.flows, self.nat = flows, nat
        super().__init__(
            memory, flows, DENY, session_nodes.RX, _state(frame, flows, new=False, nat=nat),
            frame=np.frombuffer(bytearray(frame), np.uint8),
        )  # fmt: skip
        pool = self.graph.pool
        done = session_nodes.establish(
            self.sessions.array, pool.data, pool.meta, int(self.rows[0]), flows, protocol, nat
        )
        if done != flows:
            msg = f"of {flows} flows only {done} have a session"
            raise AssertionError(msg)

    def check(self) -> None:
        """Raise AssertionError unless the packets of a vector left as they should, checksums and all."""
        self.switch(FEATURES)
        self.clocks([SESSION])
        wrong = sum(
            not self._is_right(bytes(self.graph.pool.data[int(row)][HEADROOM:][:FRAME_BYTES]))
            for row in self.rows
        )
        opened = int(self.sessions.array[t.OPEN])
        if wrong or opened != self.flows:
            msg = f"{wrong} packets are wrong; of {self.flows} flows {opened} are open"
            raise AssertionError(msg)

    def _is_right(self, frame: bytes) -> bool:
        end = 14 + int.from_bytes(frame[16:18], "big")
        pseudo = bytes([0, frame[23]]) + (end - 34).to_bytes(2, "big") + frame[26:34]
        sums = header_sum(frame[14:34]), header_sum(pseudo + frame[34:end])
        src, dst = (
            int.from_bytes(frame[a : a + 4] + frame[p : p + 2], "big")
            for a, p in ((26, 34), (30, 36))
        )
        back = dst >> 40 == 0x0A
        low = dst >> 16 & 0xFFFFFF if back else src >> 16 & 0xFFFFFF
        if self.nat and not back:
            low = ((src >> 16) - 0xC0000200) * 60000 + (src & 0xFFFF) - 1024
        mine = (session_nodes.public if self.nat and not back else session_nodes.initiator)(low)
        ends = (
            (session_nodes.responder(low), mine) if back else (mine, session_nodes.responder(low))
        )
        return sums == (0xFFFF, 0xFFFF) and (src, dst) == ends and low < self.flows


def _known(
    session: Session, case: str, flows: int, *, nat: bool = False
) -> Iterator[dict[str, Any]]:
    """A row for UDP, and one for TCP."""
    names = [SESSION, "rest of the path"]
    for protocol, name in ((UDP, "udp"), (TCP, "tcp")):
        with arena() as memory:
            bench = Bench(memory, flows, protocol, nat=nat)
            bench.check()
            found = session.measure(case, lambda b=bench: b.added(FEATURES, [SESSION]), 2)
            bench.check()
        yield row(
            case, found, "clocks/packet", vector=VECTOR_MAX, packets=PACKETS, touched=FRAME_BYTES,
            nodes=parts(names, found), sessions=flows, protocol=name,
        )  # fmt: skip


def session_1k(session: Session) -> Iterator[dict[str, Any]]:
    """A thousand established sessions."""
    yield from _known(session, "session-1k", 1_000)


def session_100k(session: Session) -> Iterator[dict[str, Any]]:
    """A hundred thousand."""
    yield from _known(session, "session-100k", 100_000)


def session_1m(session: Session) -> Iterator[dict[str, Any]]:
    """A million: every look-up misses the L2 cache."""
    yield from _known(session, "session-1m", 1_000_000)


def nat44_100k(session: Session) -> Iterator[dict[str, Any]]:
    """A hundred thousand, each packet translated: sources one way, destinations the other."""
    yield from _known(session, "nat44-100k", 100_000, nat=True)


class New(firewall.Bench):
    """The path with SYNs, each of a new flow, past RULES rules."""

    def __init__(self, memory: Arena) -> None:
        rows = rule_sets.rules(RULES, 4)
        rows["rule"] += 1
        given = Parts(firewall.actions(RULES), firewall.NO_REWRITES, filter4=acl.compile4(rows))
        frame = _frame(TCP, tcp.SYN)
        super().__init__(
            memory, ROOM, given, session_nodes.RX, _state(frame, 1, new=True, nat=False),
            frame=np.frombuffer(bytearray(frame), np.uint8),
        )  # fmt: skip
        self.switch(FEATURES)

    def run(self, vector: int, vectors: int) -> NDArray[np.uint64]:
        """As the class above says; every packet has to open a session."""
        before = int(self.sessions.array[t.OPENED])
        found = super().run(vector, vectors)
        opened = int(self.sessions.array[t.OPENED]) - before
        if opened != vector * vectors:
            msg = f"{vector * vectors} SYNs opened {opened} sessions"
            raise AssertionError(msg)
        return found

    @property
    def room(self) -> int:
        """Sessions that may still begin."""
        return ROOM - int(self.sessions.array[t.OPEN])


def session_new(session: Session) -> Iterator[dict[str, Any]]:
    """New TCP flows per second: what a worker can do that does nothing else.

    Of each SYN the whole path is counted: ethernet-input to interface-output, ip4-session, which does not
    find it, and ip4-acl, which classifies it and opens the session. The first row is of a table that is
    full: an embryonic session is ended for each. The last is of one that has room.
    """
    names = ["path", *FEATURES]
    for full in (True, False):
        with arena() as memory:
            bench = New(memory)
            while full and bench.room:
                bench.run(VECTOR_MAX, min(firewall.VECTORS, -(-bench.room // VECTOR_MAX)))

            def run(bench: New = bench, full: bool = full) -> list[float]:
                if not full and bench.room < PACKETS:
                    bench.sessions.clear()
                return bench.clocks(FEATURES)

            found = session.measure("session-new", run, 2)
        clocks = parts(names, found)
        yield row(
            "session-new", found.inverted(tsc_hz()), "sessions/s", vector=VECTOR_MAX,
            packets=PACKETS, touched=FRAME_BYTES, full=full, clocks=clocks, rules=RULES,
        )  # fmt: skip
