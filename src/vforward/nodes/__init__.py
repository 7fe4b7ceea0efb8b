# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every node there is, by protocol. A new node is one import and one line."""

from __future__ import annotations

from vforward.graph.node import Node
from vforward.nodes.arp import input as arp_input
from vforward.nodes.arp import release as arp_release
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.control import inject
from vforward.nodes.ethernet import input as ethernet_input
from vforward.nodes.icmp import echo as icmp4_echo
from vforward.nodes.icmp import error as icmp4_error
from vforward.nodes.interface import drop, output, queue
from vforward.nodes.ip4 import input as ip4_input
from vforward.nodes.ip4 import local as ip4_local
from vforward.nodes.ip4 import lookup as ip4_lookup
from vforward.nodes.ip4 import rewrite as ip4_rewrite
from vforward.nodes.l2 import cross_connect

CATALOG: tuple[Node, ...] = (
    ethernet_input.NODE,
    arp_input.NODE,
    arp_resolve.NODE,
    arp_release.NODE,
    inject.NODE,
    ip4_input.NODE,
    ip4_lookup.NODE,
    ip4_local.NODE,
    ip4_rewrite.NODE,
    icmp4_echo.NODE,
    icmp4_error.NODE,
    cross_connect.NODE,
    output.NODE,
    drop.NODE,
    queue.NODE,
)
