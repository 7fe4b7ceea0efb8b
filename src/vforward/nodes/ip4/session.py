# SPDX-License-Identifier: Apache-2.0
"""ip4-session: packets of known sessions, either direction. A feature of the arc ip4-input.

RFC 9293 and RFC 5961 (what TCP may send, see tables.session_tcp), RFC 5508 (ICMP errors go with the
session that they are about). A packet of a session is translated if the session has NAT, and goes past
the rules; what has none goes on to them. What breaks its session's rules is dropped.

The usual packet (TCP in an established connection, or UDP) is looked after in three passes over the
vector, each of which asks for the cache lines of the next: keys, then the index, then the session.

Reads   meta.l3, end, rest, rx_port; hash of fragments (PORTS_KNOWN); IPv4, TCP, UDP, ICMP headers
Writes  the table sessions; what NAT translates; meta.treatment, flags, features, reason; work
Drops   see Count
"""

from __future__ import annotations

from typing import Any

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load16, load32, load64
from vforward.jit.intrinsics import ctz, prefetch
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import near16
from vforward.layout import EDGE_HELD, PORTS_KNOWN, U64, Counts, Data, Edges, Meta, Rows
from vforward.packet import ip4, tcp
from vforward.packet import ports as l4_ports
from vforward.packet.translate import translate4
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_life as life
from vforward.tables import session_tcp as machine
from vforward.tables.ports import Ports
from vforward.tables.related import related4
from vforward.tables.session_follow import belongs, follow4, new_ends4

ASIDE = EDGE_HELD
"""Mark of a packet that the fast passes leave to the slow one."""

KEY0, KEY1, PLACE, LOWER = 0, 256, 512, 768
"""Where in work each pass leaves for the next: key, hash or number of the session, direction."""


class Edge(Labels):
    """Ways out, besides those of the arc."""

    DROP = 0, "see the counters"


class Count(Labels):
    """Reasons, numbered as session_tcp's verdicts."""

    REOPENED = 0, "a new connection with the endpoints of one that is over", INFO
    OUTSIDE = 1, "TCP: sequence or acknowledgment number outside of the window"
    BAD_FLAGS = 2, "TCP: flags that do not go together"
    BAD_STATE = 3, "TCP: not what its connection's state allows"
    SHORT = 4, "cut off in its transport header, or that says so of itself"
    LAND = 5, "its source is its destination"


assert (Count.OUTSIDE, Count.BAD_FLAGS, Count.BAD_STATE, Count.SHORT) == (
    machine.OUTSIDE,
    machine.BAD_FLAGS,
    machine.BAD_STATE,
    machine.SHORT,
)


@kernel
def _drop(meta: Any, row: Any, count: Any, reason: Any) -> Any:
    count[reason] += u64(1)
    meta[row].reason = reason
    return i64(Edge.DROP)


@kernel
def _look_closer(data: Any, meta: Any, row: Any, count: Any, s: Any, zone: Any, skips: Any) -> Any:
    """Decide about a packet that was set aside. Returns its edge."""
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    l4 = l3 + (i64(data[row, l3]) & 15) * 4
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    fragment = load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
    if meta[row].flags & PORTS_KNOWN:
        both = i64(meta[row].hash)
    elif fragment:
        return arcs.proceed(meta, row)
    else:
        both = l4_ports.load(data, row, l4, protocol, end)
    if both == l4_ports.NONE:
        if protocol != ip4.ICMP:
            return _drop(meta, row, count, i64(Count.SHORT))
        number = related4(s, data, meta, row, l3, zone)
        return arcs.proceed_past(meta, row, skips[0]) if number >= 0 else arcs.proceed(meta, row)
    both_addresses = load64(data, row, l3 + ip4.SRC)
    src = i64(both_addresses >> u64(32)) << 16 | both >> 16
    dst = i64(both_addresses & u64(0xFFFFFFFF)) << 16 | both & 0xFFFF
    if src == dst:
        return _drop(meta, row, count, i64(Count.LAND))
    if protocol == t.TCP and fragment & ip4.OFFSET_MASK == 0:
        reason = machine.malformed(data, meta, row, l4)
        if reason:
            return _drop(meta, row, count, reason)
    found = index.find4(s, src, dst, protocol, zone)
    if found < 0 or not belongs(s, found):
        return arcs.proceed(meta, row)
    verdict = follow4(s, data, meta, row, l3, l4, found)
    if verdict == machine.AGAIN:
        count[Count.REOPENED] += u64(1)
        life.close(s, found >> 2)
        s.head[t.REOPENED] += u64(1)
        return arcs.proceed(meta, row)
    if verdict != machine.PASS:
        return _drop(meta, row, count, verdict)
    treated = i64(s.hot[found >> 2].flags & t.TREATED != 0)
    return arcs.proceed_past(meta, row, skips[treated])


@inline
def _is_usual(data: Any, meta: Any, row: Any, l3: Any, protocol: Any) -> Any:
    """Whether the headers are as the fast passes have them: no options, no fragment, TCP or UDP."""
    is_tcp = protocol == ip4.TCP
    need = ip4.HEADER + (i64(tcp.HEADER) if is_tcp else i64(8))
    odd = (i64(data[row, l3]) ^ 0x45) | (
        load16(data, row, l3 + ip4.FRAGMENT) & (ip4.MORE_FRAGMENTS | ip4.OFFSET_MASK)
    )
    return (odd == 0) & (is_tcp | (protocol == ip4.UDP)) & (i64(meta[row].end) - l3 >= need)


@kernel
def _is_bad(data: Any, meta: Any, row: Any) -> Any:
    """Whether a usual packet is a TCP segment that makes no sense."""
    l3 = i64(meta[row].l3)
    if data[row, l3 + ip4.PROTOCOL] != ip4.TCP:
        return False
    return machine.malformed(data, meta, row, l3 + ip4.HEADER) != machine.PASS


@inline
def _tcp_goes_on(data: Any, meta: Any, row: Any, l4: Any, record: Any, d: Any) -> Any:
    """A segment in an established connection: whether it is a usual one, and in the window.

    Takes note of its numbers. See session_tcp, which is asked about all others.
    """
    o = 1 - d
    flags = data[row, l4 + tcp.FLAGS] & (tcp.FIN | tcp.SYN | tcp.RST | tcp.ACK)
    here = i64(meta[row].end) - l4
    offset = (i64(data[row, l4 + tcp.OFFSET]) >> 4) * 4
    seq = load32(data, row, l4 + tcp.SEQUENCE)
    ack = load32(data, row, l4 + tcp.ACKNOWLEDGMENT)
    window = load16(data, row, l4 + tcp.WINDOW)
    after = machine.after
    last = seq + here - offset + i64(meta[row].rest)
    sent, theirs, allowed = i64(record.end[d]), i64(record.end[o]), i64(record.maxend[d])
    own = i64(record.maxwin[d]) << machine.scale(record, d)
    offered = i64(record.maxwin[o]) << machine.scale(record, o)
    outside = (
        after(allowed, last)
        | (after(seq, sent) + offered)
        | after(theirs, ack)
        | (after(ack, theirs) + max(own, i64(machine.ACK_WINDOW)))
    )
    odd = (offset - tcp.HEADER) | (here - offset) | outside
    if (odd < 0) | (flags != tcp.ACK) | (record.state != t.ESTABLISHED):
        return False
    grant = ack + max(window << machine.scale(record, d), 1)
    news = after(last, sent) > 0
    more = after(grant, record.maxend[o]) > 0
    if news | more | (window > i64(record.maxwin[d])):
        record.end[d] = (last if news else sent) & 0xFFFFFFFF
        record.maxend[o] = (grant if more else i64(record.maxend[o])) & 0xFFFFFFFF
        record.maxwin[d] = max(window, i64(record.maxwin[d]))
    return True


@inline
def _goes_on(
    data: Any, meta: Any, row: Any, s: Any, number: Any, keys: Any, lower: Any, now: Any
) -> Any:
    """A packet that has a session: whether all is as usual; then it is done with."""
    record = s.hot[number]
    l3 = i64(meta[row].l3)
    l4 = l3 + ip4.HEADER
    reply_key = keys & 1 == 0
    by_initiator = index.from_initiator(record.flags, reply_key, lower)
    found = number << 2 | i64(reply_key) << 1 | by_initiator
    if not belongs(s, found):
        return False
    if record.protocol == ip4.TCP:
        if not _tcp_goes_on(data, meta, row, l4, record, 1 - by_initiator):
            return False
    elif record.state != t.REPLIED:
        return False
    if record.seen != now:
        record.seen = now
    flags = record.flags & (t.NAT | t.TREATED)
    if flags:
        if flags & t.TREATED:
            meta[row].treatment = s.cold[number].treatment
        if flags & t.NAT:
            src, dst = new_ends4(s, found)
            translate4(data, meta, row, l3, l4, i64(record.protocol), src, dst)
    return True


@kernel
def ip4_session(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    sessions: U64, ports: Ports, skips: U64, work: U64,
) -> None:  # fmt: skip
    s = t.shard(sessions)
    bits = i64(s.head[t.BITS])
    now = i64(s.head[t.NOW]) & 0xFFFF
    sure = s.head[t.SECOND] == u64(0)
    for i in range(idx.size):
        row = i64(idx[i])
        l3 = i64(meta[row].l3)
        protocol = i64(data[row, l3 + ip4.PROTOCOL])
        both = load32(data, row, l3 + ip4.HEADER)
        addresses = load64(data, row, l3 + ip4.SRC)
        src = i64(addresses >> u64(32)) << 16 | both >> 16
        dst = i64(addresses & u64(0xFFFFFFFF)) << 16 | both & 0xFFFF
        zone = i64(ports[meta[row].rx_port].vrf)
        k0, k1, lower = t.key4(src, dst, protocol, zone)
        mixed = t.hash4(s, k0, k1)
        prefetch(s.entries, index.bucket(s, mixed))
        usual = _is_usual(data, meta, row, l3, protocol) & (src != dst)
        edge[i] = 0 if usual else ASIDE
        work[KEY0 + i] = k0
        work[KEY1 + i] = k1
        work[PLACE + i] = mixed
        work[LOWER + i] = u64(lower)
    for i in range(idx.size):
        mixed = work[PLACE + i]
        wanted = index.tag(mixed, bits)
        at = index.bucket(s, mixed)
        hits = near16(s.entries, at, wanted, i64(1) << bits)
        number = i64(s.entries[at + (ctz(u64(hits)) & 15)]) ^ wanted
        number = number if hits else i64(0)
        prefetch(s.hot, number)
        work[PLACE + i] = u64(number)
    aside = 0
    for i in range(idx.size):
        row = i64(idx[i])
        number = i64(work[PLACE + i])
        keys = index.is4(s.hot[number], work[KEY0 + i], work[KEY1 + i])
        if edge[i] == ASIDE:
            aside += 1
        elif keys == 0 and number == 0 and sure and not _is_bad(data, meta, row):
            edge[i] = arcs.proceed(meta, row)
        elif keys and _goes_on(data, meta, row, s, number, keys, work[LOWER + i] != u64(0), now):
            treated = i64(s.hot[number].flags & t.TREATED != 0)
            edge[i] = arcs.proceed_past(meta, row, skips[treated])
        else:
            edge[i] = ASIDE
            aside += 1
    if aside:
        for i in range(idx.size):
            if edge[i] == ASIDE:
                row = i64(idx[i])
                zone = i64(ports[meta[row].rx_port].vrf)
                edge[i] = _look_closer(data, meta, row, count, s, zone, skips)


NODE = Node("ip4-session", ip4_session, Edge, Count)
