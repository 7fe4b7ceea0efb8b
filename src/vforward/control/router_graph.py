# SPDX-License-Identifier: Apache-2.0
"""The graph of a switch and router: which node's edge leads where. The only place that says so.

    port-rx -> ethernet-input -+-> ip4-input => ip4-lookup -+-> ip4-rewrite => interface-output -> port-tx
                               +-> arp-input                +-> arp-resolve ... arp-release
                               +-> l2-cross-connect         +-> ip4-local -> icmp4-echo -> again
                                                            +-> icmp4-error -> again -> ip4-lookup

``=>`` is a feature arc; ``again`` is the queue by which what the router makes itself is routed.
"""

from __future__ import annotations

from collections.abc import Iterable

from vforward.graph.build import Graph
from vforward.io.port import Port
from vforward.nodes.arp import input as arp_input
from vforward.nodes.arp import release as arp_release
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.control import inject
from vforward.nodes.ethernet import input as ethernet_input
from vforward.nodes.icmp import echo, error
from vforward.nodes.interface import drop, output, queue
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import local, lookup, rewrite
from vforward.nodes.l2 import cross_connect

AGAIN = "again"

WIRING = {
    "ethernet-input": {
        "ip4": "ip4-input",
        "ip6": "drop",
        "arp": "arp-input",
        "cross-connect": "l2-cross-connect",
        "bridge": "drop",
        "host": "drop",
        "drop": "drop",
    },
    "l2-cross-connect": {"output": "interface-output"},
    "arp-input": {"reply": "interface-output", "drop": "drop"},
    "arp-resolve": {"drop": "drop"},
    "arp-release": {"forward": "ip4-lookup", "unreachable": "icmp4-error"},
    "control-inject": {"output": "interface-output"},
    "ip4-input": {"drop": "drop"},
    "ip4-lookup": {
        "rewrite": "ip4-rewrite",
        "resolve": "arp-resolve",
        "local": "ip4-local",
        "notify": "ip4-rewrite",
        "drop": "drop",
        "error": "icmp4-error",
    },
    "ip4-local": {"icmp-echo": "icmp4-echo", "error": "icmp4-error", "drop": "drop"},
    "ip4-rewrite": {"drop": "drop", "error": "icmp4-error"},
    "icmp4-echo": {"reply": AGAIN},
    "icmp4-error": {"reply": AGAIN, "drop": "drop"},
    AGAIN: {"next": "ip4-lookup"},
}
NODES = (
    ethernet_input, cross_connect, arp_input, arp_resolve, arp_release, inject,
    ip4_input, lookup, local, rewrite, echo, error, drop,
)  # fmt: skip


def rx_name(port: str) -> str:
    """The name of a port's receive node."""
    return f"{port}-rx"


def tx_name(port: str) -> str:
    """The name of a port's send node."""
    return f"{port}-tx"


def lay_out(graph: Graph, ports: Iterable[tuple[str, Port]]) -> None:
    """Add and wire all nodes; the given ports, in this order, are interface-output's edges.

    graph.tables has the tables that nodes share. Raises WiringError.
    """
    ports = list(ports)
    for name, port in ports:
        if received := port.rx():
            node, tables = received
            graph.add(node, rx_name(name), **tables)
            graph.wire(rx_name(name), "next", "ethernet-input")
    for module in NODES:
        graph.add(module.NODE)
    graph.add(queue.NODE, AGAIN)
    graph.add(output.NODE, edges=[name for name, _ in ports])
    for name, port in ports:
        node, tables = port.tx()
        graph.add(node, tx_name(name), **tables)
        graph.wire("interface-output", name, tx_name(name))
        if "drop" in node.edge_labels:
            graph.wire(tx_name(name), "drop", "drop")
    for node_name, edges in WIRING.items():
        for edge, to in edges.items():
            graph.wire(node_name, edge, to)
    graph.arc("ip4-input", starts=["ip4-input"], features=[], end="ip4-lookup")
    graph.arc("ip4-output", starts=["ip4-rewrite"], features=[], end="interface-output")
