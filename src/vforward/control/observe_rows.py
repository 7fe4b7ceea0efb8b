# SPDX-License-Identifier: Apache-2.0
"""The rows in which control.observe shows a forwarder, and how they are made of what is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.graph import control as c

OUTSIDE = "counted by the port, outside of the graph"
QUEUE_FULL = "came while the node's queue was full"


@dataclass(frozen=True)
class Listing:
    """Rows of a table that may be long: the first of them, and how many there are."""

    count: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class NodeRow:
    """What a node has done."""

    name: str
    kind: str
    calls: int
    packets: int
    clocks_per_packet: float
    packets_per_call: float
    share: float  # of the clocks spent on packets
    empty_polls: int
    clocks_per_empty_poll: float


@dataclass(frozen=True)
class Runtime:
    """What the workers have done."""

    name: str
    pid: int
    state: str  # of the worker that is not running, if there is one
    vector: int
    seconds: float  # since the last clear, or since the workers started
    packets: int  # that came in by ports
    packets_per_second: float
    clocks_per_packet: float  # of all nodes, per packet that came in
    load: float  # part of the workers' time spent on packets
    sleeps: int
    rounds: int
    nodes: list[NodeRow]


@dataclass(frozen=True)
class Moved:
    """What went through a port one way."""

    packets: int
    bytes: int
    drops: int


@dataclass(frozen=True)
class PortRow:
    """A port, or a sub-interface: its parent counts its packets. rx None: nothing comes in.

    touched: of a port that makes packets, which of their bytes it writes. other_end: how it stands with
    what is outside: who is there, of a port whose peers come and go, or what was chosen.
    """

    number: int
    name: str
    type: str
    mac: str
    mtu: int
    addresses: list[str]
    parent: str
    vlan: int
    peer: str
    rx: Moved | None
    tx: Moved | None
    touched: str = ""
    other_end: str = ""
    inner: int = 0
    bridge: str = ""
    vrf: str = "default"
    urpf: str = ""


@dataclass(frozen=True)
class ErrorRow:
    """A counter that is not zero. drop: it counts packets that were dropped."""

    node: str
    reason: str
    count: int
    drop: bool
    help: str


@dataclass(frozen=True)
class EdgeRow:
    """A way out of a node, and the packets that took it."""

    label: str
    to: str
    packets: int


@dataclass(frozen=True)
class WaysRow:
    """A node and its ways out. ended: packets that went nowhere: sent, freed or held.

    made: packets that it made besides those it was given; they are in its edges too.
    """

    name: str
    kind: str
    packets: int
    edges: list[EdgeRow]
    ended: int
    made: int = 0


def node_row(node: dict[str, Any], row: NDArray[np.uint64], busy: int) -> NodeRow:
    """Of a node's stats. busy: clocks of all nodes."""
    calls, packets, clocks = (int(row[word]) for word in (c.CALLS, c.PACKETS, c.CLOCKS))
    return NodeRow(
        name=node["name"],
        kind=node["kind"],
        calls=calls,
        packets=packets,
        clocks_per_packet=ratio(clocks, packets),
        packets_per_call=ratio(packets, calls),
        share=ratio(clocks, busy),
        empty_polls=int(row[c.EMPTY_CALLS]),
        clocks_per_empty_poll=ratio(int(row[c.EMPTY_CLOCKS]), int(row[c.EMPTY_CALLS])),
    )


def port_row(port: dict[str, Any], rx: Moved | None, tx: Moved | None, other_end: str) -> PortRow:
    """Of a port as the document "forwarder" has it."""
    return PortRow(
        number=port["number"],
        name=port["name"],
        type=port["type"],
        mac=port["mac"],
        mtu=port["mtu"],
        addresses=port["addresses"],
        parent=port.get("parent") or "",
        vlan=port.get("vlan") or 0,
        inner=port.get("inner") or 0,
        peer=port.get("peer") or "",
        bridge=port.get("bridge") or "",
        vrf=port.get("vrf") or "default",
        urpf=port.get("urpf") or "",
        rx=rx,
        tx=tx,
        touched=port.get("touched") or "",
        other_end=other_end,
    )


def neighbor(row: dict[str, Any], now: float) -> dict[str, Any]:
    """With its age in place of since when it is as it is."""
    rest = {key: value for key, value in row.items() if key != "since"}
    age = None if row["state"] == "static" else round(max(0.0, now - row["since"]), 3)
    return {**rest, "age": age}


def ratio(a: float, b: float) -> float:
    """The quotient; 0.0 where there is none."""
    return a / b if b else 0.0
