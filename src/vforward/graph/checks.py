# SPDX-License-Identifier: Apache-2.0
"""What a graph must be before it is built: wired, with all tables given, without cycles."""

from __future__ import annotations

import graphlib
import itertools
from typing import TYPE_CHECKING

from vforward.errors import WiringError
from vforward.graph.node import Kind

if TYPE_CHECKING:
    from vforward.graph.build import Graph, Member


def check(graph: Graph) -> None:
    """Raise WiringError, which names node and edge, for what is missing or cannot be."""
    for member in graph.members.values():
        for edge in member.edges:
            if edge not in member.wired:
                raise WiringError(
                    f"node {member.name}: edge {edge!r} is not wired; wire it to a node"
                )
        for edge, to in member.wired.items():
            if to not in graph.members:
                raise WiringError(
                    f"node {member.name}: edge {edge!r} leads to {to!r}, not in the graph"
                )
            if graph.members[to].node.kind is Kind.INPUT:
                raise WiringError(f"node {member.name}: edge {edge!r} leads to {to!r}, an input")
        given = [graph.tables_of(member, worker) for worker in range(graph.workers)]
        for table in member.node.tables:
            if any(table not in tables for tables in given):
                raise WiringError(f"node {member.name}: table {table!r} is not given")
    places: dict[str, str] = {}
    for arc in graph.arcs.values():
        for name in (*arc.features, arc.end):
            if graph.member(name).node.kind is Kind.INPUT:
                raise WiringError(f"arc {arc.name}: {name} is an input")
        for name in (*arc.starts, *arc.features):
            if name in places:  # their edges have the same numbers
                raise WiringError(f"node {name}: on arc {arc.name} and on arc {places[name]}")
            places[name] = arc.name


def in_order(graph: Graph) -> list[Member]:
    """Inputs, then queues, then the rest in topological order, sinks last."""
    before: dict[str, set[str]] = {name: set() for name in graph.members}
    for member in graph.members.values():
        for _, to in graph.ways(member).values():
            if graph.members[to].node.kind is not Kind.QUEUE:
                before[to].add(member.name)
    try:
        names = list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        raise WiringError(_cycle(graph, error.args[1])) from None
    rank = {Kind.INPUT: 0, Kind.QUEUE: 1, Kind.INNER: 2}
    position = {name: i for i, name in enumerate(names)}
    return sorted(
        graph.members.values(),
        key=lambda m: (rank[m.node.kind], not graph.ways(m) and not m.edges, position[m.name]),
    )


def _cycle(graph: Graph, names: list[str]) -> str:
    steps = []
    for name, to in itertools.pairwise(names):
        ways = graph.ways(graph.members[name]).values()
        edge = next((edge for edge, target in ways if target == to), "?")
        steps.append(f"{name} -[{edge}]-> ")
    return (
        f"cycle without a queue: {''.join(steps)}{names[-1]}; "
        "put a queue node on one of these edges"
    )
