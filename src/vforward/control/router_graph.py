# SPDX-License-Identifier: Apache-2.0
"""The graph of a switch and router: which node's edge leads where. The only place that says so.

    port-rx -> ethernet-input -+-> l2-forward -> l2-flood -------------------------+
                               |       +-> bvi-input (then as from ethernet-input) |
                               +-> l2-cross-connect -------------------------------+
                               +-> host-input                                      v
                               +-> ip4-input => ip4-lookup -> ip4-rewrite => interface-output -> port-tx
                               +-> ip6-input => ip6-lookup -> ip6-rewrite =>    ^   +-> bvi-output
                               +-> arp-input -----------------------------------+

``=>`` is a feature arc. Queues close the cycles: ``again`` and ``again6`` lead what the router makes
itself to the look-ups, bvi-output leads what is routed into a bridge to l2-forward. Before a port that
cannot send super-frames whole stands port-segment.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vforward.control import hand_off as kinds
from vforward.control.hand_off import HandOff
from vforward.graph import arcs
from vforward.graph.build import Graph
from vforward.io.port import Port
from vforward.nodes.arp import input as arp_input
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.control import inject
from vforward.nodes.ethernet import input as ethernet_input
from vforward.nodes.handoff import flow4, flow6, pieces, resume, take_up
from vforward.nodes.handoff import output as output_hand_off
from vforward.nodes.host import input as host_input
from vforward.nodes.host import punt as host_punt
from vforward.nodes.icmp import echo as icmp4_echo
from vforward.nodes.icmp import error as icmp4_error
from vforward.nodes.icmp6 import echo as icmp6_echo
from vforward.nodes.icmp6 import error as icmp6_error
from vforward.nodes.interface import again, drop, output, segment
from vforward.nodes.ip4 import acl as ip4_acl
from vforward.nodes.ip4 import fragment as ip4_fragment
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import local as ip4_local
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip4 import police as ip4_police
from vforward.nodes.ip4 import reassembly as ip4_reassembly
from vforward.nodes.ip4 import rewrite as ip4_rewrite
from vforward.nodes.ip4 import session as ip4_session
from vforward.nodes.ip4 import urpf as ip4_urpf
from vforward.nodes.ip6 import acl as ip6_acl
from vforward.nodes.ip6 import input as ip6_input
from vforward.nodes.ip6 import local as ip6_local
from vforward.nodes.ip6 import lookup as ip6_lookup
from vforward.nodes.ip6 import police as ip6_police
from vforward.nodes.ip6 import reassembly as ip6_reassembly
from vforward.nodes.ip6 import rewrite as ip6_rewrite
from vforward.nodes.ip6 import session as ip6_session
from vforward.nodes.ip6 import urpf as ip6_urpf
from vforward.nodes.l2 import bvi_input, bvi_output, cross_connect, flood, forward
from vforward.nodes.nd import input as nd_input
from vforward.nodes.nd import resolve as nd_resolve
from vforward.nodes.neighbor import notify, release
from vforward.nodes.reassembly import timer as reassembly_timer
from vforward.nodes.session import timer as session_timer
from vforward.nodes.tcp import reset4 as tcp4_reset
from vforward.nodes.tcp import reset6 as tcp6_reset

AGAIN, AGAIN6 = "again", "again6"
NOTIFY4, NOTIFY6 = "ip4-notify", "ip6-notify"
CUT4 = "ip4-cut"
"""The segment node before ip4-fragment; not ip4-segment, which it is of a port that is named ip4."""
BVI_EDGE = 0
"""interface-output's edge to what leaves by a BVI; the ports' edges follow."""
BVI_LABEL = "(bvi)"  # which no port is named
OUTPUT, HAND_OFF, TAKE_UP = "interface-output", "output-hand-off", "output-take-up"
WORKER_LABEL = "(worker)"
"""Of interface-output's last edge where there are several workers; ports' edges lead there as well, on
workers that do not send by them."""

WIRING = {
    "ethernet-input": {
        "ip4": "ip4-input",
        "ip6": "ip6-input",
        "arp": "arp-input",
        "cross-connect": "l2-cross-connect",
        "bridge": "l2-forward",
        "host": "host-input",
    },
    "l2-cross-connect": {"output": "interface-output"},
    "l2-forward": {"output": "interface-output", "flood": "l2-flood", "bvi": "bvi-input"},
    "l2-flood": {"output": "interface-output", "bvi": "bvi-input"},
    "bvi-input": {"ip4": "ip4-input", "ip6": "ip6-input", "arp": "arp-input"},
    "bvi-output": {"next": "l2-forward"},
    "host-input": {
        "ip4": "ip4-input",
        "ip6": "ip6-input",
        "reply": "interface-output",
        "output": "interface-output",
    },
    "host-punt": {"output": "interface-output"},
    "arp-input": {"reply": "interface-output"},
    "nd-input": {"reply": "interface-output"},
    "neighbor-release": {
        "ip4": "ip4-lookup",
        "ip6": "ip6-lookup",
        "unreachable4": "icmp4-error",
        "unreachable6": "icmp6-error",
    },
    "control-inject": {"output": "interface-output"},
    "ip4-input": {"local": "ip4-local"},
    "ip4-acl": {"error": "icmp4-error", "reset": "tcp4-reset"},
    "ip6-acl": {"error": "icmp6-error", "reset": "tcp6-reset"},
    "tcp4-reset": {"reply": AGAIN},
    "tcp6-reset": {"reply": AGAIN6, "link": "interface-output"},
    "ip4-lookup": {
        "rewrite": "ip4-rewrite",
        "resolve": "arp-resolve",
        "local": "ip4-local",
        "notify": NOTIFY4,
        "error": "icmp4-error",
    },
    NOTIFY4: {"rewrite": "ip4-rewrite"},
    "ip4-local": {"icmp-echo": "icmp4-echo", "error": "icmp4-error", "punt": "host-punt"},
    "ip4-rewrite": {"error": "icmp4-error", "fragment": "ip4-fragment", "segment": CUT4},
    CUT4: {"next": "ip4-fragment"},
    "icmp4-echo": {"reply": AGAIN},
    "icmp4-error": {"reply": AGAIN},
    "ip6-input": {"local": "ip6-local", "error": "icmp6-error"},
    "ip6-lookup": {
        "rewrite": "ip6-rewrite",
        "resolve": "nd-resolve",
        "local": "ip6-local",
        "notify": NOTIFY6,
        "error": "icmp6-error",
    },
    NOTIFY6: {"rewrite": "ip6-rewrite"},
    "ip6-local": {
        "echo": "icmp6-echo",
        "nd": "nd-input",
        "error": "icmp6-error",
        "punt": "host-punt",
    },
    "ip6-rewrite": {"error": "icmp6-error"},
    "icmp6-echo": {"reply": AGAIN6, "link": "interface-output"},
    "icmp6-error": {"reply": AGAIN6, "link": "interface-output"},
}
"""Besides: every edge named drop leads to drop."""

FEATURES = ("urpf", "reassembly", "session", "acl", "police")
"""Of the arcs ip4-input and ip6-input, in this order."""
SHARED_FEATURES = (
    *("urpf", "hand-off", "reassembly", "piece-hand-off"),
    *("session", "acl", "police"),
)
"""The same where there are several workers."""

NODES = (
    ethernet_input, cross_connect, forward, flood, bvi_input, bvi_output, host_input, host_punt,
    arp_input, arp_resolve, nd_input, nd_resolve, release, inject,
    ip4_input, ip4_urpf, ip4_lookup, ip4_local, ip4_rewrite, ip4_fragment, icmp4_echo, icmp4_error,
    ip4_reassembly, ip4_session, ip4_acl, ip4_police, tcp4_reset,
    ip6_reassembly, ip6_session, ip6_acl, ip6_police, tcp6_reset, reassembly_timer, session_timer,
    ip6_input, ip6_urpf, ip6_lookup, ip6_local, ip6_rewrite, icmp6_echo, icmp6_error, drop,
)  # fmt: skip


def rx_name(port: str, queue: int = 0) -> str:
    """The name of a port's receive node."""
    return f"{port}-rx-{queue}" if queue else f"{port}-rx"


def tx_name(port: str) -> str:
    """The name of a port's send node."""
    return f"{port}-tx"


def segment_name(port: str) -> str:
    """The name of the node that cuts up super-frames for a port."""
    return f"{port}-segment"


def before_tx(graph: Graph, port: str) -> str:
    """The node to which interface-output's edge of a port leads, on a worker that sends by it."""
    return graph.members[OUTPUT].wired[port]


def lay_out(
    graph: Graph, ports: Iterable[tuple[str, Port]], hand_off: HandOff | None = None
) -> None:
    """Add and wire all nodes; the given ports, in this order, are interface-output's edges.

    graph.tables has the tables that nodes share. hand_off: where there are several workers. Raises
    WiringError.
    """
    ports = list(ports)
    for name, port in ports:
        for number, queue in enumerate(port.receivers()):
            own = [queue.tables] * graph.workers
            rx = graph.add(queue.node, rx_name(name, number), own=own)
            graph.wire(rx, "next", "ethernet-input")
    for module in NODES:
        graph.add(module.NODE)
    for name in (NOTIFY4, NOTIFY6):
        graph.add(notify.NODE, name)
    for name in (AGAIN, AGAIN6):
        graph.add(again.NODE, name)
    graph.add(segment.NODE, CUT4, whole=np.zeros(1, np.uint64))
    last = [WORKER_LABEL] if hand_off else []
    graph.add(output.NODE, edges=[BVI_LABEL, *(name for name, _ in ports), *last])
    graph.wire("interface-output", BVI_LABEL, "bvi-output")
    if hand_off:
        _lay_output_hand_off(graph, hand_off)
    for name, port in ports:
        node, tables = port.senders()
        graph.add(node, tx_name(name), own=tables if len(tables) > 1 else tables * graph.workers)
        if port.whole is None:
            graph.wire("interface-output", name, tx_name(name))
        else:
            graph.add(segment.NODE, segment_name(name), whole=port.whole)
            graph.wire("interface-output", name, segment_name(name))
            graph.wire(segment_name(name), "next", tx_name(name))
    for node_name, edges in WIRING.items():
        for edge, to in edges.items():
            graph.wire(node_name, edge, to)
    for name, member in graph.members.items():
        if "drop" in member.edges and name != "interface-output":
            graph.wire(name, "drop", "drop")
    features = arcs.spread(SHARED_FEATURES if hand_off else FEATURES)
    for family, again_too in (("ip4", AGAIN), ("ip6", AGAIN6)):
        start, end = f"{family}-input", f"{family}-lookup"
        names = {f"{family}-{feature}": bit for feature, bit in features.items()}
        starts = [start, again_too]
        if hand_off:
            starts.append(_add_flow_hand_off(graph, hand_off, family))
        graph.arc(start, starts=starts, features=names, end=end)
        acl, police = (np.uint64(1 << features[name]) for name in ("acl", "police"))
        for feature in ("session", "acl"):  # a known flow goes past the rules
            member = graph.members[f"{family}-{feature}"]
            member.tables["skips"] = np.array([acl | police, acl], np.uint64)
    graph.arc(
        "ip4-output", starts=["ip4-rewrite", "ip4-fragment"], features=[], end="interface-output"
    )
    graph.arc("ip6-output", starts=["ip6-rewrite"], features=[], end="interface-output")


def _lay_output_hand_off(graph: Graph, hand_off: HandOff) -> None:
    graph.add(output_hand_off.NODE, HAND_OFF, handoff=hand_off.giving(kinds.OUTPUT))
    graph.add(take_up.NODE, TAKE_UP, own=hand_off.taking(kinds.OUTPUT))
    graph.wire(OUTPUT, WORKER_LABEL, HAND_OFF)
    graph.wire(TAKE_UP, "next", OUTPUT)


def _add_flow_hand_off(graph: Graph, hand_off: HandOff, family: str) -> str:
    """Returns the node that takes up."""
    giving = hand_off.giving(family)
    first = {kinds.IP4: flow4.NODE, kinds.IP6: flow6.NODE}[family]
    for node, name in ((first, f"{family}-hand-off"), (pieces.NODE, f"{family}-piece-hand-off")):
        graph.add(node, name, handoff=giving)
        graph.wire(name, "drop", "drop")
    return graph.add(resume.NODE, f"{family}-take-up", own=hand_off.taking(family))
