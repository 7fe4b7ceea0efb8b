# SPDX-License-Identifier: Apache-2.0
"""ip4-acl: what the rules say about packets that have no session. A feature of the arc ip4-input.

In this order, as a packet would meet them on its way: destination NAT, the route (for rules that name
the port that packets leave by), the filter, source NAT; then a session begins, which has all that
was found, so that its other packets need none of it. All lists are of one policy (tables.policy).

A packet that belongs to no flow (ICMP that is no echo), or that a rule lets through without a session,
is not translated; where source NAT is for the former it is dropped, lest it show an address from inside
(RFC 5508 section 4.2, REQ-5, about errors). What the router makes itself is let through, and has a
session where it begins one, so that the answers come back. Of two first packets of a flow in one vector
the second finds the session of the first. So does a later piece of a datagram, which begins none: rules
are asked about it only where its first piece has no session, and may let it follow without.

Hairpinning (RFC 4787 REQ-9): where destination NAT leads out of the port that the packet came by, its
source becomes the address that it asked for, so that the answer comes back here.

Reads   meta.l3, end, rest, rx_port, flags, hash (with PORTS_KNOWN); headers; routes
Writes  sessions; meta.l4, treatment, features, reason; addresses, ports and checksums of what is
        translated, and meta.flags (TRANSLATED) of it; scratch (ICMP type << 8 | code), for ERROR
Drops   see Count
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load32
from vforward.jit.intrinsics import address, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import NIL, SELF_MADE, U32, U64, VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import packet_bytes
from vforward.packet import fields as f
from vforward.packet import ip4
from vforward.packet.translate import translate4
from vforward.tables import acl, egress, nat, policy, session
from vforward.tables import session_tcp as tcp
from vforward.tables.adjacency import Adjacencies
from vforward.tables.nat import Pools
from vforward.tables.ports import Ports
from vforward.tables.session_follow import follow4
from vforward.tables.session_index import mine4
from vforward.tables.session_open import open4


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"
    ERROR = 1, "the sender is told that it is prohibited: wire to icmp4-error"
    RESET = 2, "a rule says reject, and it is TCP: wire to tcp4-reset"


class Count(Labels):
    """Reasons. The first are those of a session that cannot begin, in the order of tables.session."""

    TABLE_FULL = session.FULL, "no room for a session, and none is half-open"
    NOT_A_BEGINNING = session.NOT_A_BEGINNING, "it belongs to no session and begins none"
    SOURCE_LIMIT = session.SOURCE_LIMIT, "its source has as many sessions as it may"
    RULE_LIMIT = session.RULE_LIMIT, "its rule has as many sessions as it may"
    TAKEN = session.TAKEN, "its session would look like another one"
    INVALID = 5, "its session does not allow it now"
    DENIED = 6, "a rule says deny, or none says anything and that is the default"
    TRUNCATED = 7, "it ends before its ports"
    PORTS_EXHAUSTED = 8, "source NAT has no port left for it; the sender is told", INFO
    NO_POLICY = 9, "there are no rules yet"
    PIECE = 10, "a later piece of a datagram whose first piece has no session"
    UNTRANSLATED = 11, "source NAT is for it, but it has no session: ICMP that is no echo"
    REJECTED = 12, "a rule says reject; the sender is told", INFO
    SESSIONS = 13, "sessions begun", INFO


PROHIBITED = 3 << 8 | 13
"""Communication administratively prohibited: RFC 1812 section 5.2.7.1; RFC 5508 section 6, REQ-8: also
where NAT has no port left."""

FIELDS, FOUND, FLOWS, ENDS, ROOM = 0, 1024, 1152, 1408, 1664
"""Words of ``work``: fields, rules found, ports of sessions, new destinations, room for tables.acl."""


@kernel
def _redirect(
    data: Any, meta: Any, idx: Any, bundle: Any, fields: Any, flows: Any, ends: Any, found: Any, room: Any,
    hits: Any,
) -> None:  # fmt: skip
    """Destination NAT: note where packets go instead, and change the fields that rules see."""
    where, words = policy.place(bundle, policy.DESTINATION4)
    image = view(where, words, np.uint64)
    where, words = policy.place(bundle, policy.REWRITES)
    rewrites = view(where, words // policy.RECORD_WORDS, policy.REWRITE)
    acl.classify4(image, fields, found, room, idx.size)
    for i in range(idx.size):
        row = i64(idx[i])
        if found[i] == NIL or flows[i] < 0 or meta[row].flags & SELF_MADE:
            continue
        rule = rewrites[found[i]]
        policy.count_hit(hits, i64(rule.hits), packet_bytes(meta, row))
        at = f.WORDS4 * i
        protocol = i64(fields[at + f.COMMON4 + f.KIND]) >> 24
        end = nat.static4(rule, ends[i], protocol)
        ends[i] = end
        fields[at + 1] = end >> 16
        if rule.port != 0:
            asked = i64(fields[at + f.COMMON4])
            fields[at + f.COMMON4] = asked & ~0xFFFF | end & 0xFFFF


@inline
def _look_out(data: Any, meta: Any, idx: Any, fields: Any, ports: Any, routes: Any) -> None:
    """Note the port that each packet will leave by."""
    for i in range(idx.size):
        row = i64(idx[i])
        at = f.WORDS4 * i
        vrf = i64(ports[meta[row].rx_port].vrf)
        out = egress.egress4(data, meta, row, i64(fields[at + 1]), vrf, routes)
        place = i64(fields[at + f.COMMON4 + f.PLACE])
        fields[at + f.COMMON4 + f.PLACE] = place & ~0xFFFF | out


@inline
def _source_rule(bundle: Any, fields: Any, tables: Any) -> Any:
    """The source NAT rule for a packet: its place in policy.REWRITES, or NIL."""
    found, room = tables[3], tables[4]
    where, words = policy.place(bundle, policy.SOURCE4)
    found[0] = NIL
    if words:
        acl.classify4(view(where, words, np.uint64), fields, found, room, 1)
    return i64(found[0])


@inline
def _new_source(
    meta: Any, row: Any, bundle: Any, fields: Any, src: Any, dst: Any, end: Any, tables: Any
) -> Any:
    """The source endpoint that a new session's packets get, or nat.NONE: there is no port left.

    fields: the packet's own. dst, end: the destination endpoint that it asked for, and has now.
    """
    s, pools, ports, hits = tables[0], tables[1], tables[2], tables[5]
    place = i64(fields[f.COMMON4 + f.PLACE])
    out, protocol = place & 0xFFFF, i64(fields[f.COMMON4 + f.KIND]) >> 24
    zone, seed = i64(ports[meta[row].rx_port].vrf), s.head[session.SEED]
    matched = _source_rule(bundle, fields, tables)
    pool, known = i64(nat.MASQUERADE), i64(0)
    if matched == NIL:
        if end == dst or out != place >> 16:
            return src
        known = dst >> 16
    else:
        where, words = policy.place(bundle, policy.REWRITES)
        rule = view(where, words // policy.RECORD_WORDS, policy.REWRITE)[matched]
        policy.count_hit(hits, i64(rule.hits), packet_bytes(meta, row))
        if rule.kind == policy.STATIC:
            return nat.static4(rule, src, protocol)
        pool = i64(rule.pool)
        if rule.kind == policy.MASQUERADE:
            known = i64(ports[out].address) if out != egress.SELF else i64(0)
            if known == 0:
                return src
    return nat.choose4(s, pools, pool, known, src, end, protocol, zone, seed)


@inline
def _ends(data: Any, meta: Any, row: Any, flow: Any, ports: Any) -> Any:
    """Source and destination endpoint of a packet with such ports, its protocol and zone."""
    l3 = i64(meta[row].l3)
    src = load32(data, row, l3 + ip4.SRC) << 16 | flow >> 16
    dst = load32(data, row, l3 + ip4.DST) << 16 | flow & 0xFFFF
    return src, dst, i64(data[row, l3 + ip4.PROTOCOL]), i64(ports[meta[row].rx_port].vrf)


@inline
def _begin(
    data: Any, meta: Any, row: Any, bundle: Any, fields: Any, flow: Any, end: Any, grant: Any, tables: Any
) -> Any:  # fmt: skip
    """Begin the session of a packet, or find the one that another of this vector has begun.

    flow: its ports. end: the destination endpoint that it goes to. Returns ~reason if it must not go
    on, 1 if a session began, else 0.
    """
    s, ports = tables[0], tables[2]
    l3, l4 = i64(meta[row].l3), i64(meta[row].l4)
    src, dst, protocol, zone = _ends(data, meta, row, flow, ports)
    k0, k1 = session.key4(src, dst, protocol, zone)
    known = mine4(s, k0, k1)
    if known >= 0:
        passed = follow4(s, data, meta, row, l3, l4, known) == tcp.PASS
        return i64(0) if passed else ~i64(Count.INVALID)
    own = meta[row].flags & SELF_MADE != 0
    new = src if own else _new_source(meta, row, bundle, fields, src, dst, end, tables)
    if new == nat.NONE:
        return ~i64(Count.PORTS_EXHAUSTED)
    opened = open4(s, data, meta, row, l4, src, dst, end, new, protocol, zone, grant)
    if opened < 0:
        return i64(0) if own else opened
    if new != src or end != dst:
        translate4(data, meta, row, l3, l4, protocol, new, end)
    return i64(1)


@kernel
def _follow_first(
    data: Any, meta: Any, row: Any, flow: Any, s: Any, ports: Any, skips: Any, count: Any
) -> Any:
    """The edge of a later piece whose first one has a session; -1 where that has none."""
    l3 = i64(meta[row].l3)
    src, dst, protocol, zone = _ends(data, meta, row, flow, ports)
    k0, k1 = session.key4(src, dst, protocol, zone)
    known = mine4(s, k0, k1)
    if known < 0:
        return i64(-1)
    if follow4(s, data, meta, row, l3, i64(-1), known) != tcp.PASS:
        count[Count.INVALID] += u64(1)
        meta[row].reason = Count.INVALID
        return i64(Edge.DROP)
    treated = s.hot[known >> 1].flags & session.TREATED != 0
    return arcs.proceed_past(meta, row, skips[i64(treated)])


@inline
def _judge(
    data: Any, meta: Any, row: Any, bundle: Any, fields: Any, flow: Any, end: Any, action: Any,
    own: Any, tables: Any, count: Any,
) -> Any:  # fmt: skip
    """Whether a packet goes on by what its rule says, where need be with a session: 0, or ~reason.

    fields: the packet's own.
    """
    stateless = not own and action.flags & policy.STATELESS != 0
    if flow == f.TRUNCATED:
        return ~i64(Count.TRUNCATED)
    if not own and action.kind != policy.PERMIT:
        return ~i64(Count.REJECTED) if action.kind == policy.REJECT else ~i64(Count.DENIED)
    if i64(fields[f.COMMON4 + f.KIND]) & f.LATER:
        return i64(0) if own or stateless else ~i64(Count.PIECE)
    if stateless:
        return i64(0)
    if flow >= 0:
        grant = policy.grant(action, own, fields[f.COMMON4 + f.PLACE])
        said = _begin(data, meta, row, bundle, fields, flow, end, grant, tables)
        count[Count.SESSIONS] += u64(said == 1)
        return min(said, 0)
    if not own and _source_rule(bundle, fields, tables) != NIL:
        return ~i64(Count.UNTRANSLATED)
    return i64(0)


@inline
def _refuse(data: Any, meta: Any, row: Any, reason: Any, count: Any) -> Any:
    """Count a packet that does not go on. Returns its edge: its sender is told, or it is dropped."""
    count[reason] += u64(1)
    meta[row].reason = reason
    meta[row].scratch = PROHIBITED
    if reason == Count.PORTS_EXHAUSTED:
        return i64(Edge.ERROR)
    if reason != Count.REJECTED:
        return i64(Edge.DROP)
    is_tcp = data[row, i64(meta[row].l3) + ip4.PROTOCOL] == ip4.TCP
    return i64(Edge.RESET) if is_tcp else i64(Edge.ERROR)


@kernel
def ip4_acl(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    policy_in_force: U64, rule_hits: U64, sessions: U64, nat_pools: Pools, work: U64, skips: U64,
    fib4_root: U32, fib4_nodes: U32, adjacencies: Adjacencies, buckets: U32, ports: Ports,
) -> None:  # fmt: skip
    bundle = policy.in_force(policy_in_force)
    if bundle == 0:
        for i in range(idx.size):
            meta[idx[i]].reason = Count.NO_POLICY
        count[Count.NO_POLICY] += u64(idx.size)
        edge[:] = Edge.DROP
        return
    base = address(work)
    fields = view(base + 8 * FIELDS, f.WORDS4 * VECTOR_MAX, np.uint32)
    found = view(base + 8 * FOUND, VECTOR_MAX, np.uint32)
    flows = view(base + 8 * FLOWS, VECTOR_MAX, np.int64)
    ends = view(base + 8 * ENDS, VECTOR_MAX, np.int64)
    room = work[ROOM:]
    for i in range(idx.size):
        row = i64(idx[i])
        port = i64(meta[row].rx_port)
        at = f.WORDS4 * i
        flow = f.load4(data, meta, row, fields, at, port << 16, i64(ports[port].vlan))
        flows[i] = flow
        ends[i] = i64(fields[at + 1]) << 16 | flow & 0xFFFF
    if policy.place(bundle, policy.DESTINATION4)[1]:
        _redirect(data, meta, idx, bundle, fields, flows, ends, found, room, rule_hits)
    if policy.uses_out(bundle):
        routes = (fib4_root, fib4_nodes, adjacencies, buckets)
        _look_out(data, meta, idx, fields, ports, routes)
    where, words = policy.place(bundle, policy.FILTER4)
    found[:] = NIL
    if words:
        acl.classify4(view(where, words, np.uint64), fields, found, room, idx.size)
    where, words = policy.place(bundle, policy.ACTIONS)
    actions = view(where, words // policy.RECORD_WORDS, policy.ACTION)
    policy.settle(actions, found, rule_hits, idx.size)
    s = session.shard(sessions)
    tables = (s, nat_pools, ports, found, room, rule_hits)
    for i in range(idx.size):
        row, flow, mine = i64(idx[i]), flows[i], fields[f.WORDS4 * i :]
        if i64(mine[f.COMMON4 + f.KIND]) & f.LATER:
            to = _follow_first(data, meta, row, flow, s, ports, skips, count)
            if to >= 0:
                edge[i] = to
                continue
        own, action = meta[row].flags & SELF_MADE != 0, actions[found[i]]
        if not own:
            policy.count_hit(rule_hits, i64(action.hits), packet_bytes(meta, row))
        said = _judge(
            data, meta, row, bundle, mine, flow, ends[i], action, own, tables, count
        )  # fmt: skip
        if said < 0:
            edge[i] = _refuse(data, meta, row, ~said, count)
            continue
        treated = i64(0) if own else i64(action.treatment)
        meta[row].treatment = treated
        edge[i] = arcs.proceed_past(meta, row, skips[i64(treated != 0)])


NODE = Node("ip4-acl", ip4_acl, Edge, Count)
