# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every node there is, by protocol. A new node is one import and one line."""

from __future__ import annotations

from vforward.graph.node import Node
from vforward.nodes.arp import input as arp_input
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.control import inject
from vforward.nodes.ethernet import input as ethernet_input
from vforward.nodes.handoff import flow4 as ip4_hand_off
from vforward.nodes.handoff import flow6 as ip6_hand_off
from vforward.nodes.handoff import output as output_hand_off
from vforward.nodes.handoff import pieces as piece_hand_off
from vforward.nodes.handoff import resume as flow_take_up
from vforward.nodes.handoff import take_up as output_take_up
from vforward.nodes.host import input as host_input
from vforward.nodes.host import punt as host_punt
from vforward.nodes.icmp import echo as icmp4_echo
from vforward.nodes.icmp import error as icmp4_error
from vforward.nodes.icmp6 import echo as icmp6_echo
from vforward.nodes.icmp6 import error as icmp6_error
from vforward.nodes.interface import again, drop, output, past, segment
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
from vforward.nodes.neighbor import notify as neighbor_notify
from vforward.nodes.neighbor import release as neighbor_release
from vforward.nodes.reassembly import timer as reassembly_timer
from vforward.nodes.session import timer as session_timer
from vforward.nodes.tcp import reset4 as tcp4_reset
from vforward.nodes.tcp import reset6 as tcp6_reset

CATALOG: tuple[Node, ...] = (
    arp_input.NODE,
    arp_resolve.NODE,
    inject.NODE,
    ethernet_input.NODE,
    ip4_hand_off.NODE,
    ip6_hand_off.NODE,
    piece_hand_off.NODE,
    flow_take_up.NODE,
    output_hand_off.NODE,
    output_take_up.NODE,
    host_input.NODE,
    host_punt.NODE,
    icmp4_echo.NODE,
    icmp4_error.NODE,
    icmp6_echo.NODE,
    icmp6_error.NODE,
    drop.NODE,
    output.NODE,
    past.NODE,
    segment.NODE,
    again.NODE,
    ip4_acl.NODE,
    ip4_fragment.NODE,
    ip4_input.NODE,
    ip4_local.NODE,
    ip4_lookup.NODE,
    ip4_police.NODE,
    ip4_reassembly.NODE,
    ip4_rewrite.NODE,
    ip4_session.NODE,
    ip4_urpf.NODE,
    ip6_acl.NODE,
    ip6_input.NODE,
    ip6_local.NODE,
    ip6_lookup.NODE,
    ip6_police.NODE,
    ip6_reassembly.NODE,
    ip6_rewrite.NODE,
    ip6_session.NODE,
    ip6_urpf.NODE,
    bvi_input.NODE,
    bvi_output.NODE,
    cross_connect.NODE,
    flood.NODE,
    forward.NODE,
    nd_input.NODE,
    nd_resolve.NODE,
    neighbor_notify.NODE,
    neighbor_release.NODE,
    tcp4_reset.NODE,
    tcp6_reset.NODE,
    reassembly_timer.NODE,
    session_timer.NODE,
)
