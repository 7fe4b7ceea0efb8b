# SPDX-License-Identifier: Apache-2.0
"""Cases of the node ip4-acl: what rules without sessions add to the IPv4 path.

Rules and packets are those of benchmarks.rule_sets; every rule, and what no rule matches, permits
without a session, and counts. Packets that cannot be forwarded are drawn again: from or to 0/8, 127/8,
224/3, from itself to itself, ICMPv6. ICMP is an echo request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import acl_nodes, firewall, rule_sets
from benchmarks.firewall import ACL, FEATURES, SESSION, VECTORS
from benchmarks.frames import CHECKSUM, FRAME_BYTES, header_sum, udp_frame
from benchmarks.graph_cases import PACKETS
from benchmarks.harness import parts, row
from benchmarks.session import Session, arena
from vforward.control.policy_bundle import Parts
from vforward.layout import NIL, VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.packet import icmp4, ip4, ip6
from vforward.tables import acl, acl_check

TRACE = 1 << 16
"""Different packets, of which a run sends the next ones."""
SRC, DST, PORTS, KIND = range(4)
SESSIONS = (1 << 16) - 1


def forwardable(rows: NDArray[Any], n: int) -> NDArray[np.uint32]:
    """n packets for the rows that a router may forward, u32[n, 4]."""
    drawn = rule_sets.trace(rows, 2 * n)[:, :4]
    first = drawn[:, [SRC, DST]] >> np.uint32(24)
    good = ((first != 0) & (first != 127) & (first < 224)).all(axis=1)
    good &= drawn[:, SRC] != drawn[:, DST]
    made = drawn[good & (drawn[:, KIND] >> np.uint32(24) != ip6.ICMP6)][:n]
    if len(made) < n:
        msg = f"of {len(drawn)} packets only {len(made)} can be forwarded"
        raise ValueError(msg)
    made[:, KIND] &= np.uint32(0xFF << 24)
    icmp = made[:, KIND] >> np.uint32(24) == ip4.ICMP
    made[icmp, PORTS] = icmp4.ECHO << 24
    return np.ascontiguousarray(made)


class Bench(firewall.Bench):
    """The path with so many rules."""

    def __init__(self, memory: Arena, n: int) -> None:
        rows = rule_sets.rules(n, 4)
        self.packets = forwardable(rows, TRACE)
        rows["rule"] += 1  # action 0 is the default's
        self.rules = rows
        given = Parts(
            firewall.actions(len(rows), stateless=True),
            firewall.NO_REWRITES,
            filter4=acl.compile4(rows),
        )
        frame = udp_frame(0, 0)
        rest = header_sum(frame[14:23] + bytes(1) + frame[24:CHECKSUM]) & 0xFFFF
        state = np.array([0, 0, rest], np.uint64)
        super().__init__(
            memory, SESSIONS, given, acl_nodes.RX, state,
            frame=np.frombuffer(bytearray(frame), np.uint8), listed=self.packets.reshape(-1),
        )  # fmt: skip

    def check(self) -> None:
        """Raise AssertionError unless a run counts for each packet the first rule that matches it."""
        fields = np.zeros((PACKETS, 8), np.uint32)
        fields[:, :4] = self.packets[:PACKETS]
        icmp = fields[:, KIND] >> np.uint32(24) == ip4.ICMP
        fields[icmp, PORTS] >>= np.uint32(16)
        first = acl_check.walk(self.rules, fields)
        first[first == NIL] = 0
        self.switch([ACL])
        self.state[acl_nodes.AT] = 0
        self.hits[:] = 0
        self.clocks([ACL])
        if (self.hits[::2] != np.bincount(first, minlength=len(self.rules) + 1)).any():
            msg = "ip4-acl counted other rules than the first ones"
            raise AssertionError(msg)


def _rows(session: Session, case: str, n: int) -> Iterator[dict[str, Any]]:
    with arena() as memory:
        bench = Bench(memory, n)
        bench.check()
        for on in (FEATURES, (ACL,)):
            label = case if SESSION not in on else f"{case}-session"
            found = session.measure(label, lambda on=on: bench.added(on, on), 2)
            yield row(
                label, found, "clocks/packet", vector=VECTOR_MAX, packets=PACKETS,
                touched=FRAME_BYTES, nodes=parts([*on, "rest of the path"], found), rules=n,
                mebibytes=round(bench.policy.bundle.nbytes / (1 << 20), 2),
            )  # fmt: skip


def acl_1k(session: Session) -> Iterator[dict[str, Any]]:
    """A thousand rules. First with ip4-session before it, which finds nothing; the last row without."""
    yield from _rows(session, "acl-1k", 1_000)


def acl_10k(session: Session) -> Iterator[dict[str, Any]]:
    """Ten thousand."""
    yield from _rows(session, "acl-10k", 10_000)


assert VECTORS * VECTOR_MAX == PACKETS <= TRACE
