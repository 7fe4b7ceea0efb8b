# SPDX-License-Identifier: Apache-2.0
"""ip6-acl: what the rules say about packets that have no session. A feature of the arc ip6-input.

As ip4-acl, without NAT. Neighbor discovery is let through: it does not leave its link (its hop limit
is 255, RFC 4861 section 7.1), and without it there would be no link. What the router makes itself is
let through, and has a session where it begins one.

Reads   meta.l3, end, rest, rx_port, flags, hash (with PORTS_KNOWN); headers; routes
Writes  sessions; meta.l4, treatment, features, reason; scratch (ICMPv6 type << 8 | code), for ERROR
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import NIL, SELF_MADE, U32, U64, VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import packet_bytes
from vforward.packet import fields as f
from vforward.packet import icmp6, ip6
from vforward.tables import acl, egress, policy, session
from vforward.tables import session_tcp as tcp
from vforward.tables.adjacency import Adjacencies
from vforward.tables.ports import Ports
from vforward.tables.session_follow import follow
from vforward.tables.session_index import mine6
from vforward.tables.session_open import open6


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"
    ERROR = 1, "a rule says reject: wire to icmp6-error"
    RESET = 2, "a rule says reject, and it is TCP: wire to tcp6-reset"


class Count(Labels):
    """Reasons. The first are those of a session that cannot begin, in the order of tables.session."""

    TABLE_FULL = session.FULL, "no room for a session, and none is half-open"
    NOT_A_BEGINNING = session.NOT_A_BEGINNING, "it belongs to no session and begins none"
    SOURCE_LIMIT = session.SOURCE_LIMIT, "its source has as many sessions as it may"
    RULE_LIMIT = session.RULE_LIMIT, "its rule has as many sessions as it may"
    TAKEN = session.TAKEN, "its session would look like another one"
    INVALID = 5, "its session does not allow it now"
    DENIED = 6, "a rule says deny, or none says anything and that is the default"
    TRUNCATED = 7, "it ends before its ports, or its extension headers cannot be walked"
    NO_POLICY = 8, "there are no rules yet"
    PIECE = 9, "a later piece of a datagram whose first piece has no session"
    REJECTED = 10, "a rule says reject; the sender is told", INFO
    SESSIONS = 11, "sessions begun", INFO


ND_HOPS = 255
FIELDS, FOUND, FLOWS, ROOM = 0, 2048, 2176, 2432
"""Words of ``work``: fields, rules found, ports of sessions, room for tables.acl."""


@inline
def _is_discovery(data: Any, meta: Any, row: Any, kind: Any) -> Any:
    """Whether it is a message of neighbor discovery that comes from its own link."""
    l3, l4 = i64(meta[row].l3), i64(meta[row].l4)
    message = i64(data[row, l4]) if l4 < i64(meta[row].end) else i64(0)
    return (
        (kind >> 24 == ip6.ICMP6)
        & (data[row, l3 + ip6.HOP_LIMIT] == ND_HOPS)
        & (message >= icmp6.ROUTER_SOLICITATION)
        & (message <= icmp6.REDIRECT)
    )


@inline
def _look_out(data: Any, meta: Any, idx: Any, fields: Any, ports: Any, routes: Any) -> None:
    """Note the port that each packet will leave by."""
    for i in range(idx.size):
        row = i64(idx[i])
        at = f.WORDS6 * i
        high, low = ip6.load_address(data, row, i64(meta[row].l3) + ip6.DST)
        vrf = i64(ports[meta[row].rx_port].vrf)
        out = egress.egress6(data, meta, row, high, low, vrf, routes)
        place = i64(fields[at + f.COMMON6 + f.PLACE])
        fields[at + f.COMMON6 + f.PLACE] = place & ~0xFFFF | out


@inline
def _begin(
    data: Any, meta: Any, row: Any, kind: Any, flow: Any, zone: Any, grant: Any, s: Any
) -> Any:
    """Begin the session of a packet, or find the one that another of this vector has begun.

    kind: its field. flow: its ports. Returns ~reason if it must not go on, 1 if a session began, else 0.
    """
    l3, l4, protocol = i64(meta[row].l3), i64(meta[row].l4), kind >> 24
    src_high, src_low = ip6.load_address(data, row, l3 + ip6.SRC)
    dst_high, dst_low = ip6.load_address(data, row, l3 + ip6.DST)
    sport, dport = flow >> 16, flow & 0xFFFF
    known = mine6(s, src_high, src_low, dst_high, dst_low, flow, protocol, zone)
    if known >= 0:
        whole = i64(kind & f.FRAGMENT == 0)
        verdict = follow(s, data, meta, row, l4, whole, known >> 1, known & 1)
        return i64(0) if verdict == tcp.PASS else ~i64(Count.INVALID)
    opened = open6(
        s, data, meta, row, l4, src_high, src_low, sport, dst_high, dst_low, dport, protocol, zone, grant
    )  # fmt: skip
    if opened < 0:
        return i64(0) if meta[row].flags & SELF_MADE else opened
    return i64(1)


@kernel
def _follow_first(
    data: Any, meta: Any, row: Any, kind: Any, flow: Any, zone: Any, s: Any, skips: Any, count: Any
) -> Any:
    """The edge of a later piece whose first one has a session; -1 where that has none."""
    l3 = i64(meta[row].l3)
    src_high, src_low = ip6.load_address(data, row, l3 + ip6.SRC)
    dst_high, dst_low = ip6.load_address(data, row, l3 + ip6.DST)
    known = mine6(s, src_high, src_low, dst_high, dst_low, flow, kind >> 24, zone)
    if known < 0:
        return i64(-1)
    if follow(s, data, meta, row, i64(-1), i64(0), known >> 1, known & 1) != tcp.PASS:
        count[Count.INVALID] += u64(1)
        meta[row].reason = Count.INVALID
        return i64(Edge.DROP)
    treated = s.hot[known >> 1].flags & session.TREATED != 0
    return arcs.proceed_past(meta, row, skips[i64(treated)])


@inline
def _judge(
    data: Any, meta: Any, row: Any, kind: Any, place: Any, flow: Any, zone: Any, action: Any, own: Any,
    s: Any, count: Any,
) -> Any:  # fmt: skip
    """Whether a packet goes on by what its rule says, where need be with a session: 0, or ~reason.

    kind, place: its fields.
    """
    stateless = not own and action.flags & policy.STATELESS != 0
    if flow == f.TRUNCATED:
        return ~i64(Count.TRUNCATED)
    if not own and action.kind != policy.PERMIT:
        return ~i64(Count.REJECTED) if action.kind == policy.REJECT else ~i64(Count.DENIED)
    if kind & f.LATER:
        return i64(0) if own or stateless else ~i64(Count.PIECE)
    if stateless or flow < 0:
        return i64(0)
    said = _begin(data, meta, row, kind, flow, zone, policy.grant(action, own, place), s)
    count[Count.SESSIONS] += u64(said == 1)
    return min(said, 0)


@inline
def _refuse(meta: Any, row: Any, kind: Any, reason: Any, count: Any) -> Any:
    """Count a packet that does not go on. Returns its edge: its sender is told, or it is dropped."""
    count[reason] += u64(1)
    meta[row].reason = reason
    if reason != Count.REJECTED:
        return i64(Edge.DROP)
    if kind >> 24 == ip6.TCP:
        return i64(Edge.RESET)
    meta[row].scratch = icmp6.PROHIBITED
    return i64(Edge.ERROR)


@kernel
def ip6_acl(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    policy_in_force: U64, rule_hits: U64, sessions: U64, work: U64, skips: U64,
    fib6_root: U32, fib6_nodes: U32, adjacencies: Adjacencies, buckets: U32, ports: Ports,
) -> None:  # fmt: skip
    bundle = policy.in_force(policy_in_force)
    if bundle == 0:
        for i in range(idx.size):
            meta[idx[i]].reason = Count.NO_POLICY
        count[Count.NO_POLICY] += u64(idx.size)
        edge[:] = Edge.DROP
        return
    base = address(work)
    fields = view(base + 8 * FIELDS, f.WORDS6 * VECTOR_MAX, np.uint32)
    found = view(base + 8 * FOUND, VECTOR_MAX, np.uint32)
    flows = view(base + 8 * FLOWS, VECTOR_MAX, np.int64)
    for i in range(idx.size):
        row = i64(idx[i])
        port = i64(meta[row].rx_port)
        vlan = i64(ports[port].vlan)
        flows[i] = f.load6(data, meta, row, fields, f.WORDS6 * i, port << 16, vlan)
    if policy.uses_out(bundle):
        routes = (fib6_root, fib6_nodes, adjacencies, buckets)
        _look_out(data, meta, idx, fields, ports, routes)
    where, words = policy.place(bundle, policy.FILTER6)
    found[:] = NIL
    if words:
        acl.classify6(view(where, words, np.uint64), fields, found, work[ROOM:], idx.size)
    where, words = policy.place(bundle, policy.ACTIONS)
    actions = view(where, words // policy.RECORD_WORDS, policy.ACTION)
    policy.settle(actions, found, rule_hits, idx.size)
    s = session.shard(sessions)
    for i in range(idx.size):
        row = i64(idx[i])
        at = f.WORDS6 * i + f.COMMON6
        kind, flow, zone = i64(fields[at + f.KIND]), flows[i], i64(ports[meta[row].rx_port].vrf)
        if kind & f.LATER:
            to = _follow_first(data, meta, row, kind, flow, zone, s, skips, count)
            if to >= 0:
                edge[i] = to
                continue
        own = (meta[row].flags & SELF_MADE != 0) | _is_discovery(data, meta, row, kind)
        action = actions[found[i]]
        if not own:
            policy.count_hit(rule_hits, i64(action.hits), packet_bytes(meta, row))
        place = fields[at + f.PLACE]
        said = _judge(data, meta, row, kind, place, flow, zone, action, own, s, count)
        if said < 0:
            edge[i] = _refuse(meta, row, kind, ~said, count)
            continue
        treated = i64(0) if own else i64(action.treatment)
        meta[row].treatment = treated
        edge[i] = arcs.proceed_past(meta, row, skips[i64(treated != 0)])


NODE = Node("ip6-acl", ip6_acl, Edge, Count)
