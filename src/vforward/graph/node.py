# SPDX-License-Identifier: Apache-2.0
"""What a node is: a name, edges, counters and one kernel. A declaration, not a base class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from vforward.errors import WiringError
from vforward.jit import entries
from vforward.layout import EDGE_MAX

INFO = True
"""Third item of a counter's label: it counts no drops."""


class Labels(IntEnum):
    """An enumeration whose members carry a help text: ``MEMBER = number, "help"``.

    A counter counts packets that left by an edge to be dropped: it is the reason. One that counts
    something else is marked: ``MEMBER = number, "help", INFO``.
    """

    help: str
    drop: bool

    def __new__(cls, value: int, text: str, info: bool = False) -> Labels:
        member = int.__new__(cls, value)
        member._value_ = value
        member.help = text
        member.drop = not info
        return member

    @property
    def label(self) -> str:
        """The member's name as users see it: ``BAD_CHECKSUM`` is ``bad-checksum``."""
        return self.name.lower().replace("_", "-")


MORE = -(1 << 16)
"""What an input returns that has received nothing, and has more to do: the worker is not to sleep now.
Other results below 0 are errors of system calls."""


class Kind(Enum):
    """How the scheduler treats a node."""

    INNER = "inner"
    """Called with a vector that other nodes handed on."""
    INPUT = "input"
    """Polled once per round: its kernel fills idx and edge and returns how many (``-> int``), or MORE."""
    QUEUE = "queue"
    """Passes on in the next round what it was given in this one: the way to close a cycle."""


@dataclass(frozen=True)
class Node:
    """A node's declaration.

    kernel: ``f(data, meta, idx, edge, count, <tables>)``: for each i, idx[i] is a row and edge[i] is
    to be set to an edge. A vector has 1 to VECTOR_MAX packets. Parameters after count are tables,
    bound by their name when the node is added to a graph, typed by their annotation.

    edges: the named ways out. None for a node whose edges are named when it is added (a node that
    outputs to ports).

    counters: what the kernel adds to count; see Labels.

    kind: see Kind. A node on a feature arc gives packets the arc's edges (graph.arcs) as well.
    """

    name: str
    kernel: Callable[..., Any]
    edges: type[Labels] | None
    counters: type[Labels] | None = None
    kind: Kind = Kind.INNER

    def __post_init__(self) -> None:
        names = list(entries.parameters(self.kernel))
        if self.edges is not None:
            values = sorted(int(e) for e in self.edges)
            if values != list(range(len(values))) or len(values) > EDGE_MAX:
                raise WiringError(f"node {self.name}: edges must be numbered 0..{len(values) - 1}")
        if self.counters is not None:
            values = sorted(int(c) for c in self.counters)
            if values != list(range(len(values))):
                raise WiringError(
                    f"node {self.name}: counters must be numbered from 0 without gaps"
                )
        if (self.kind is Kind.INPUT) != entries.returns_int(self.kernel):
            raise WiringError(f"node {self.name}: kernels of inputs, and no others, are '-> int'")
        object.__setattr__(self, "_tables", tuple(names[len(entries.FIXED) :]))

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that the kernel takes, in order."""
        return self._tables  # type: ignore[attr-defined]

    @property
    def edge_labels(self) -> list[str]:
        """Names of the edges, in order."""
        return [e.label for e in sorted(self.edges)] if self.edges else []

    @property
    def counter_labels(self) -> list[str]:
        """Names of the counters, in order."""
        return [c.label for c in sorted(self.counters)] if self.counters else []
