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

import sys
from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import INFO, Labels, Node
from vforward.jit.be import load16, load32, load64, raw_load64
from vforward.jit.intrinsics import ctz, prefetch
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import near16
from vforward.layout import EDGE_HELD, EDGE_MAX, PORTS_KNOWN, U64, Counts, Data, Edges, Meta, Rows
from vforward.packet import ip4, tcp
from vforward.packet import ports as l4_ports
from vforward.packet.translate import translate4
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_life as life
from vforward.tables import session_tcp as machine
from vforward.tables.ports import Ports
from vforward.tables.related import related4
from vforward.tables.session_follow import follow4, translated4

ASIDE, MISSED, SPECIAL = EDGE_HELD, EDGE_MAX - 2, EDGE_MAX - 1
"""Marks of packets that the fast passes leave to the last one: unusual; without a session, as far as was
seen; of a session with NAT or a treatment, and otherwise done with."""

KEY0, KEY1, PLACE = 0, 256, 512
"""Where in work each pass leaves for the next: the key; the hash, then number << 1 | direction."""
NO_KEY = 0xFFFFFFFFFFFFFFFF
"""k0 of a packet that the fast passes do not know how to read. No session has it."""

HEADER_MASK, HEADER_USUAL = np.uint64(0xFF3F0000000000FF), np.uint64(0x45)
"""Of the first 8 bytes of a header, as the processor reads them: version and header length, and the
bits of a fragment."""
assert sys.byteorder == "little"

WHAT = 0xFF0000FF | t.SIX << 16
USUAL_TCP, USUAL_UDP = t.ESTABLISHED << 24 | ip4.TCP, t.REPLIED << 24 | ip4.UDP
"""Of a session's protocol, zone, flags and state, in one word, what is asked for by the fast passes."""


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
    k0, k1 = t.key4(src, dst, protocol, zone)
    mine = index.mine4(s, k0, k1)
    if mine < 0:
        return arcs.proceed(meta, row)
    verdict = follow4(s, data, meta, row, l3, l4, mine)
    if verdict == machine.AGAIN:
        count[Count.REOPENED] += u64(1)
        life.close(s, mine >> 1)
        s.head[t.REOPENED] += u64(1)
        return arcs.proceed(meta, row)
    if verdict != machine.PASS:
        return _drop(meta, row, count, verdict)
    treated = i64(s.hot[mine >> 1].flags & t.TREATED != 0)
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
def _missed(s: Any, data: Any, meta: Any, row: Any, k0: Any, k1: Any, sure: Any) -> Any:
    """Whether a packet that was not found is really none of a session, and may go on to the rules."""
    if k0 == u64(NO_KEY) or t.source4(k0, k1) == t.destination4(k0, k1):
        return False
    if not sure and index.mine4(s, k0, k1) >= 0:
        return False
    protocol = i64(k0 >> u64(48)) & 0xFF
    l4 = i64(meta[row].l3) + ip4.HEADER
    if protocol == ip4.UDP:
        return l4 + 8 <= i64(meta[row].end)
    return protocol == ip4.TCP and machine.malformed(data, meta, row, l4) == machine.PASS


@kernel
def _fits(record: Any, d: Any, seq: Any, ack: Any, last: Any, offset: Any, payload: Any) -> Any:
    """Whether a segment that is not the next one is in the window, and its header is one."""
    good = (offset >= tcp.HEADER) & (payload >= 0)
    return good and machine.in_window(record, d, seq, last - seq, ack)


@inline
def _goes_on(data: Any, meta: Any, row: Any, l4: Any, record: Any, d: Any) -> Any:
    """A segment in an established connection: whether it is a usual one, and in the window.

    Takes note of its numbers. Most begin no lower than what was sent, so that II holds whatever the
    window, and acknowledge what IV allows at least: then it need not be asked how large windows are.
    """
    after = machine.after
    o = 1 - d
    seq = load32(data, row, l4 + tcp.SEQUENCE)
    ack = load32(data, row, l4 + tcp.ACKNOWLEDGMENT)
    word = load32(data, row, l4 + tcp.OFFSET)
    offset = word >> 28 << 2
    payload = i64(meta[row].end) - l4 - offset
    last = seq + payload + i64(meta[row].rest)
    sent = i64(record.end[d])
    outside = (
        after(record.maxend[d], last)
        | after(seq, sent)
        | (machine.ACK_WINDOW - ((i64(record.end[o]) - ack) & 0xFFFFFFFF))
        | (offset - tcp.HEADER)
        | payload
    )
    other_flags = (word >> 16 & (tcp.FIN | tcp.SYN | tcp.RST | tcp.ACK)) ^ tcp.ACK
    if other_flags or (outside < 0 and not _fits(record, d, seq, ack, last, offset, payload)):
        return False
    window = word & 0xFFFF
    grant = ack + max(window << machine.scale(record, d), 1)
    ahead, more = after(last, sent), after(grant, i64(record.maxend[o]))
    if (max(ahead, more) > 0) | (window > i64(record.maxwin[d])):
        record.end[d] = (sent + max(ahead, 0)) & 0xFFFFFFFF
        record.maxend[o] = (grant - min(more, 0)) & 0xFFFFFFFF
        record.maxwin[d] = max(window, i64(record.maxwin[d]))
    return True


@kernel
def _treat(data: Any, meta: Any, row: Any, s: Any, entry: Any) -> Any:
    """What a session with NAT or a treatment does to a packet. Returns 1 if it has a treatment."""
    number, l3 = i64(entry >> u64(1)), i64(meta[row].l3)
    record = s.hot[number]
    if record.flags & t.NAT:
        src, dst = translated4(s, number, i64(entry & u64(1)))
        translate4(data, meta, row, l3, l3 + ip4.HEADER, i64(record.protocol), src, dst)
    if record.flags & t.TREATED:
        meta[row].treatment = s.cold[number].treatment
        return i64(1)
    return i64(0)


@kernel
def _last_pass(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, s: Any, ports: Any, skips: Any, work: Any
) -> None:
    """Look after all packets that were marked."""
    for i in range(idx.size):
        row = i64(idx[i])
        if edge[i] == SPECIAL:
            treated = _treat(data, meta, row, s, work[PLACE + i])
            edge[i] = arcs.proceed_past(meta, row, skips[treated])
        elif edge[i] == MISSED or edge[i] == ASIDE:
            sure = work[PLACE + i] == u64(0) and s.head[t.SECOND] == u64(0)
            k0, k1 = work[KEY0 + i], work[KEY1 + i]
            if edge[i] == MISSED and _missed(s, data, meta, row, k0, k1, sure):
                edge[i] = arcs.proceed(meta, row)
            else:
                zone = i64(ports[meta[row].rx_port].vrf)
                edge[i] = _look_closer(data, meta, row, count, s, zone, skips)


@kernel
def ip4_session(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    sessions: U64, ports: Ports, skips: U64, work: U64,
) -> None:  # fmt: skip
    s = t.shard(sessions)
    bits = i64(s.head[t.BITS])
    now = i64(s.head[t.NOW]) & 0xFFFF
    past = skips[0]
    for i in range(idx.size):
        row = i64(idx[i])
        l3 = i64(meta[row].l3)
        what = i64(ports[meta[row].rx_port].vrf) << 8 | i64(data[row, l3 + ip4.PROTOCOL])
        k0 = u64(what << 48 | load32(data, row, l3 + ip4.HEADER))
        k1 = load64(data, row, l3 + ip4.SRC)
        mixed = t.hash4(s, k0, k1)
        prefetch(s.entries, index.bucket(s, mixed))
        usual = raw_load64(data, row, l3) & HEADER_MASK == HEADER_USUAL
        work[KEY0 + i] = k0 if usual else u64(NO_KEY)
        work[KEY1 + i] = k1
        work[PLACE + i] = mixed
    for i in range(idx.size):
        mixed = work[PLACE + i]
        wanted = index.tag(mixed, bits)
        at = index.bucket(s, mixed)
        hits = near16(s.entries, at, wanted, i64(1) << bits)
        entry = i64(s.entries[at + (ctz(u64(hits)) & 15)]) ^ wanted
        entry = entry if hits else i64(0)
        prefetch(s.hot, entry >> 1)
        work[PLACE + i] = u64(entry)
    marked = 0
    for i in range(idx.size):
        row = i64(idx[i])
        l4 = i64(meta[row].l3) + ip4.HEADER
        entry = work[PLACE + i]
        number, d = i64(entry >> u64(1)), i64(entry & u64(1))
        at = number * 8 + 2 * d
        what = i64(s.words[number * 8 + 4] >> u64(32))
        if (s.words[at] ^ work[KEY0 + i]) | (s.words[at + 1] ^ work[KEY1 + i]):
            mark = MISSED
        elif what & WHAT == USUAL_TCP:
            mark = 0 if _goes_on(data, meta, row, l4, s.hot[number], d) else ASIDE
        else:
            usual = (what & WHAT == USUAL_UDP) & (i64(meta[row].end) - l4 >= 8)
            mark = 0 if usual else ASIDE
        if mark == 0:
            if s.hot[number].seen != now:
                s.hot[number].seen = now
            mark = SPECIAL if what & (t.NAT | t.TREATED) << 16 else 0
        if mark:
            edge[i] = mark
            marked += 1
        else:
            edge[i] = arcs.proceed_past(meta, row, past)
    if marked:
        _last_pass(data, meta, idx, edge, count, s, ports, skips, work)


NODE = Node("ip4-session", ip4_session, Edge, Count)
