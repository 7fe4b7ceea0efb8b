# SPDX-License-Identifier: Apache-2.0
"""The IPv4 path with the firewall's nodes on its arc, wired and given their tables as in a router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import graphs, nodes
from benchmarks.graph_cases import PACKETS
from vforward.control.policy_bundle import Parts, Policy, assemble
from vforward.graph import control as c
from vforward.graph.node import Node
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.nodes.ip4 import acl as ip4_acl
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip4 import rewrite as ip4_rewrite
from vforward.nodes.ip4 import session as ip4_session
from vforward.tables import policy
from vforward.tables.fib import Fib4
from vforward.tables.nat import NatPools
from vforward.tables.session_table import Sessions

SESSION, ACL = FEATURES = ("ip4-session", "ip4-acl")
VECTORS = PACKETS // VECTOR_MAX
NO_REWRITES = np.zeros(0, policy.REWRITE)


def actions(n: int, *, stateless: bool = False, kind: int = policy.PERMIT) -> NDArray[Any]:
    """The default's and those of n rules, all of one kind, each with a counter of its own."""
    made = np.zeros(1 + n, policy.ACTION)
    made["kind"], made["hits"] = kind, np.arange(1 + n)
    made["flags"] = policy.STATELESS if stateless else 0
    return made


class Bench(graphs.Bench):
    """See the module. The node bench-rx is the caller's, with its state; everything has a route."""

    def __init__(
        self, memory: Arena, sessions: int, parts: Parts, rx: Node, state: NDArray[Any], **tables: Any
    ) -> None:  # fmt: skip
        fib = Fib4(memory)
        fib.add_many(np.zeros(1, np.uint32), np.zeros(1, np.uint8), np.ones(1, np.uint32))
        graph = graphs.path(memory, fib, ip4_input, ip4_lookup, ip4_rewrite, features=FEATURES)
        self.sessions = Sessions(memory, sessions)
        self.policy = Policy()
        self.policy.put(assemble(parts))
        self.hits = np.zeros(2 * len(parts.actions), np.uint64)
        graph.tables |= self.sessions.tables
        graph.tables |= {"policy_in_force": self.policy.words, "rule_hits": self.hits}
        graph.tables["nat_pools"] = NatPools(memory).table
        past = np.full(2, 1 << FEATURES.index(ACL), np.uint64)
        for node in (ip4_session.NODE, ip4_acl.NODE):
            graph.add(node, skips=past)
        self.arc = graph.arcs["ip4-input"]
        self.state = state
        self.rows = graph.pool.take(VECTOR_MAX)
        graph.add(rx, rows=self.rows, state=state, **tables)
        self._finish(graph, graphs.IP4_PATH)

    def switch(self, on: Sequence[str]) -> None:
        """Which features packets are sent to."""
        for name in FEATURES:
            (self.arc.enable if name in on else self.arc.disable)(name, nodes.PORT)

    def clocks(self, passed: Sequence[str]) -> list[float]:
        """Clocks per packet of the path, and of each feature that all packets went through.

        Raises AssertionError unless they went through these and no others.
        """
        path = float(self.clocks_per_packet(VECTOR_MAX, VECTORS).sum())
        stats = self.plan.stats.reshape(-1, c.STATS)
        number = {name: self.graph.members[name].number for name in FEATURES}
        seen = {name: int(stats[number[name], c.PACKETS]) for name in FEATURES}
        if seen != {name: PACKETS * (name in passed) for name in FEATURES}:
            msg = f"of {PACKETS} packets these went through: {seen}"
            raise AssertionError(msg)
        return [path, *(float(stats[number[name], c.CLOCKS]) / PACKETS for name in passed)]

    def added(self, on: Sequence[str], passed: Sequence[str]) -> list[float]:
        """Clocks per packet of the features passed, and by how much the rest of the path is slower.

        on: those that are switched on. They are all off again and on for each run, so that both are
        measured at one time.
        """
        self.switch(())
        without = self.clocks(())[0]
        self.switch(on)
        rest, *own = self.clocks(passed)
        return [*own, rest - without]
