# SPDX-License-Identifier: Apache-2.0
"""ip4-session: packets of known sessions, either direction. A feature of the arc ip4-input.

RFC 9293 and RFC 5961 (what TCP may send, see tables.session_tcp), RFC 5508 (ICMP errors go with the
session that they are about). A packet of a session is translated if the session has NAT, and goes past
the rules; what has none goes on to them. What breaks its session's rules is dropped. A piece of a
datagram comes from ip4-reassembly, with the ports of the first one.

The usual packet (TCP in an established connection, or UDP) is looked after in three passes over the
vector, each of which asks for the cache lines of the next: keys, then the index, then the session.

Reads   meta.l3, end, rest, rx_port; hash of pieces (PORTS_KNOWN); IPv4, TCP, UDP, ICMP headers
Writes  the table sessions; what NAT translates; meta.treatment, flags, features, reason; work
Drops   see Count
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from vforward.graph import arcs
from vforward.graph.node import Node
from vforward.jit.be import load16, load32, load64, raw_load64
from vforward.jit.intrinsics import ctz, prefetch, prefetch2
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import near16
from vforward.layout import (
    CSUM_PARTIAL,
    EDGE_HELD,
    EDGE_MAX,
    PORTS_KNOWN,
    TRANSLATED,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.nodes.session.outcome import Count, Edge, after_error, conclude, drop
from vforward.packet import ip4, ip6, tcp
from vforward.packet import ports as l4_ports
from vforward.packet.translate import translate4, usual4
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_tcp as machine
from vforward.tables.ports import Ports
from vforward.tables.related import related4
from vforward.tables.session_follow import follow, follow4, translated4

ASIDE, MISSED, BEHIND, SPECIAL = EDGE_HELD, EDGE_MAX - 3, EDGE_MAX - 2, EDGE_MAX - 1
"""Marks of packets that the fast passes leave to the last one: unusual; without a session, as far as was
seen; a segment that is not the next one; what is done with but for the session's treatment, or for its NAT
where the checksum is still to be completed or the segment was not the next one."""

KEY0, KEY1, PLACE, NUMBERS, WORD = 0, 256, 512, 768, 1024
"""Where in work each pass leaves for the next: the key; the hash, then number << 1 | direction; of TCP both
numbers, and the word of offset, flags and window, while their cache line is near."""
NO_KEY = 0xFFFFFFFFFFFFFFFF
"""k0 of a packet that the fast passes do not know how to read. No session has it."""

HEADER_MASK, HEADER_USUAL = np.uint64(0xFF3F0000000000FF), np.uint64(0x45)
"""Of the first 8 bytes of a header, as the processor reads them: version and header length, and the
bits of a fragment."""
assert sys.byteorder == "little"

WHAT = 0xFF0000FF | t.SIX << 16
USUAL_TCP, USUAL_UDP = t.ESTABLISHED << 24 | ip4.TCP, t.REPLIED << 24 | ip4.UDP
ONE_WAY_UDP = t.UNREPLIED << 24 | ip4.UDP
"""Of a session's protocol, zone, flags and state, in one word, what is asked for by the fast passes."""


@kernel
def _look_closer(data: Any, meta: Any, row: Any, count: Any, s: Any, zone: Any, skips: Any) -> Any:
    """Decide about a packet that was set aside. Returns its edge."""
    l3, end = i64(meta[row].l3), i64(meta[row].end)
    l4 = l3 + (i64(data[row, l3]) & 15) * 4
    protocol = i64(data[row, l3 + ip4.PROTOCOL])
    later = load16(data, row, l3 + ip4.FRAGMENT) & ip4.OFFSET_MASK
    if meta[row].flags & PORTS_KNOWN:
        both = i64(meta[row].hash)
    else:
        both = l4_ports.load(data, row, l4, protocol, end)
    if both == l4_ports.NONE:
        if protocol == ip6.ICMP6:  # means nothing here, and is of no flow: what do the rules say?
            return arcs.proceed(meta, row)
        if protocol != ip4.ICMP:
            return drop(meta, row, count, i64(Count.SHORT))
        return after_error(meta, row, count, skips, related4(s, data, meta, row, l3, zone))
    both_addresses = load64(data, row, l3 + ip4.SRC)
    src = i64(both_addresses >> u64(32)) << 16 | both >> 16
    dst = i64(both_addresses & u64(0xFFFFFFFF)) << 16 | both & 0xFFFF
    if src == dst:
        return drop(meta, row, count, i64(Count.LAND))
    if protocol == t.TCP and later == 0:
        reason = machine.malformed(data, meta, row, l4)
        if reason:
            return drop(meta, row, count, reason)
    k0, k1 = t.key4(src, dst, protocol, zone)
    mine = index.mine4(s, k0, k1)
    if mine < 0:
        return arcs.proceed(meta, row)
    verdict = follow4(s, data, meta, row, l3, l4, mine)
    return conclude(meta, row, count, s, skips, mine, verdict)


@inline
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


@inline
def _goes_on(meta: Any, row: Any, numbers: Any, word: Any, record: Any, d: Any) -> Any:
    """A segment in an established connection: 0 if it is the next one, and is noted; or its mark.

    The next one begins no lower than what was sent, so that II holds whatever the window, and
    acknowledges what IV allows at least: so it need not be asked how large windows are.
    """
    after = machine.after
    o = 1 - d
    seq, ack = i64(numbers >> u64(32)), i64(numbers & u64(0xFFFFFFFF))
    offset = word >> 28 << 2
    payload = i64(meta[row].end) - i64(meta[row].l3) - ip4.HEADER - offset
    last = seq + payload + i64(meta[row].rest)
    sent = i64(record.end[d])
    outside = after(i64(record.maxend[d]) - last | seq - sent, 0)
    outside |= (offset - tcp.HEADER) | payload
    if (word >> 16 & (tcp.FIN | tcp.SYN | tcp.RST | tcp.ACK)) != tcp.ACK:
        return ASIDE
    if outside < 0 or (i64(record.end[o]) - ack) & 0xFFFFFFFF > machine.ACK_WINDOW:
        return BEHIND
    window = word & 0xFFFF
    grant = ack + max(window << machine.scale(record, d), 1)
    more = after(grant, i64(record.maxend[o]))
    if (last - sent) & 0xFFFFFFFF or more > 0 or window > i64(record.maxwin[d]):
        record.end[d] = last & 0xFFFFFFFF
        record.maxend[o] = (grant - min(more, 0)) & 0xFFFFFFFF
        record.maxwin[d] = max(window, i64(record.maxwin[d]))
    return 0


@inline
def _translated(
    data: Any, meta: Any, row: Any, s: Any, entry: Any, k0: Any, k1: Any, what: Any
) -> Any:
    """What is done to a usual packet of a session that is special: 0, or its mark if that is not all.

    Its new endpoints are the other direction's key turned around.
    """
    flags = meta[row].flags
    if what & t.TREATED << 16 or flags & CSUM_PARTIAL:
        return SPECIAL
    meta[row].flags = flags | np.uint32(TRANSLATED)
    other = i64(entry >> u64(1)) * 8 + 2 - 2 * i64(entry & u64(1))
    ports, addresses = i64(s.words[other] & u64(0xFFFFFFFF)), s.words[other + 1]
    ports = (ports << 16 | ports >> 16) & 0xFFFFFFFF
    addresses = addresses << u64(32) | addresses >> u64(32)
    old, l3, is_tcp = i64(k0 & u64(0xFFFFFFFF)), i64(meta[row].l3), what & 0xFF == ip4.TCP
    usual4(data, row, l3, l3 + ip4.HEADER, is_tcp, k1, old, addresses, ports)
    return 0


@kernel
def _is_behind(data: Any, meta: Any, row: Any, s: Any, entry: Any) -> Any:
    """The same for one that is not the next: whether it is in the window, and noted."""
    l4 = i64(meta[row].l3) + ip4.HEADER
    verdict = follow(s, data, meta, row, l4, i64(1), i64(entry >> u64(1)), i64(entry & u64(1)))
    return verdict == machine.PASS


@kernel
def _treat(data: Any, meta: Any, row: Any, s: Any, entry: Any) -> Any:
    """What a session with NAT or a treatment does to a packet. Returns 1 if it has a treatment, -1: none
    of its checksums is in this buffer."""
    number, l3 = i64(entry >> u64(1)), i64(meta[row].l3)
    record = s.hot[number]
    if record.flags & t.NAT:
        src, dst = translated4(s, number, i64(entry & u64(1)))
        if not translate4(data, meta, row, l3, l3 + ip4.HEADER, i64(record.protocol), src, dst):
            return i64(-1)
    if record.flags & t.TREATED:
        meta[row].treatment = s.cold[number].treatment
        return i64(1)
    return i64(0)


@inline
def _last_pass(
    data: Any, meta: Any, idx: Any, edge: Any, count: Any, s: Any, ports: Any, skips: Any, work: Any
) -> None:
    """Look after all packets that were marked."""
    for i in range(idx.size):
        row = i64(idx[i])
        if edge[i] == BEHIND and _is_behind(data, meta, row, s, work[PLACE + i]):
            edge[i] = SPECIAL
        if edge[i] == SPECIAL and s.hot[i64(work[PLACE + i] >> u64(1))].state == t.FREE:
            edge[i] = ASIDE  # ended by a packet before it
        if edge[i] == SPECIAL:
            treated = _treat(data, meta, row, s, work[PLACE + i])
            if treated < 0:
                edge[i] = drop(meta, row, count, i64(Count.SHORT))
            else:
                edge[i] = arcs.proceed_past(meta, row, skips[treated])
        elif edge[i] in (MISSED, BEHIND, ASIDE):
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
        prefetch2(s.entries, index.bucket(s, mixed))
        usual = raw_load64(data, row, l3) & HEADER_MASK == HEADER_USUAL
        work[KEY0 + i] = k0 if usual else u64(NO_KEY)
        work[KEY1 + i] = k1
        work[PLACE + i] = mixed
        work[NUMBERS + i] = load64(data, row, l3 + ip4.HEADER + tcp.SEQUENCE)
        work[WORD + i] = u64(load32(data, row, l3 + ip4.HEADER + tcp.OFFSET))
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
    halves = s.words.view(np.uint32)
    for i in range(idx.size):
        row = i64(idx[i])
        l4 = i64(meta[row].l3) + ip4.HEADER
        entry = work[PLACE + i]
        number, d = i64(entry >> u64(1)), i64(entry & u64(1))
        at = number * 8 + 2 * d
        what = i64(halves[number * 16 + 9])
        if (s.words[at] ^ work[KEY0 + i]) | (s.words[at + 1] ^ work[KEY1 + i]):
            mark = MISSED
        elif what & WHAT == USUAL_TCP:
            mark = _goes_on(meta, row, work[NUMBERS + i], i64(work[WORD + i]), s.hot[number], d)
        else:
            one_way = (what & WHAT == ONE_WAY_UDP) & (d == 0) & (s.hot[number].seen == now)
            usual = (what & WHAT == USUAL_UDP) | one_way
            mark = 0 if usual & (i64(meta[row].end) - l4 >= 8) else ASIDE
        if mark == 0 and s.hot[number].seen != now:
            s.hot[number].seen = now
        if mark == 0 and what & (t.NAT | t.TREATED) << 16:
            mark = _translated(data, meta, row, s, entry, work[KEY0 + i], work[KEY1 + i], what)
        if mark:
            edge[i] = mark
            marked += 1
        else:
            edge[i] = arcs.proceed_past(meta, row, past)
    if marked:
        _last_pass(data, meta, idx, edge, count, s, ports, skips, work)


NODE = Node("ip4-session", ip4_session, Edge, Count)
