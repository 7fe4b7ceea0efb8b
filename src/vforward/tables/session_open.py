# SPDX-License-Identifier: Apache-2.0
"""session_open: begin a session with its first packet, within the limits of its rule and source."""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.kernel import i64, inline, u64
from vforward.packet import icmp4, icmp6
from vforward.tables import flow_home
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_life as life
from vforward.tables import session_tcp as tcp


@inline
def _first_state(s: Any, data: Any, meta: Any, row: Any, l4: Any, protocol: Any) -> Any:
    """The state in which a packet opens a session, FREE if it cannot."""
    if protocol == t.TCP:
        return tcp.opens(data, meta, row, l4, s.head[t.SETTINGS_LOOSE] != u64(0))
    if protocol == t.ICMP or protocol == t.ICMP6:
        ask = icmp4.ECHO if protocol == t.ICMP else icmp6.ECHO
        asks = l4 < i64(meta[row].end) and data[row, l4] == ask
        return i64(t.UNREPLIED if asks else t.FREE)
    return i64(t.UNREPLIED)


@inline
def _open(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, number: Any, state: Any, grant: Any
) -> Any:
    """Open the session whose keys stand in a record that was taken. Returns it or ~reason."""
    hits, treatment, limit, most, per_source, out_port = grant
    record = s.hot[number]
    cold = s.cold[number]
    if not index.enter(s, number):
        if record.flags & t.STRAY:
            flow_home.forget4(s, number)
        life.free(s, number)
        s.head[t.REFUSED] += u64(1)
        return ~i64(t.FULL)
    flags = i64(record.flags)
    if treatment:
        flags |= t.TREATED
    if state == t.PICKED_UP:
        flags |= t.LOOSE
    if per_source:
        flags |= t.SOURCED
    record.flags = flags
    cold.hits = hits
    cold.treatment = treatment
    cold.limit = limit if most else 0
    cold.in_port = meta[row].rx_port
    cold.out_port = out_port
    if per_source:
        life.add_source(s, number)
    if cold.limit:
        s.limits[cold.limit] += np.uint32(1)
    if record.protocol == t.TCP:
        tcp.begin(s, number, data, meta, row, l4, state)
    life.begin(s, number, state)
    return i64(number)


@inline
def _share(s: Any, most: Any) -> Any:
    """This worker's part of a limit, rounded up."""
    workers = i64(s.head[t.WORKERS])
    return most if workers == 1 else (most + workers - 1) // workers


@inline
def _admit(s: Any, state: Any, taken: Any, source: Any, grant: Any) -> Any:
    """A record for a session, or ~reason. source: see life.source_of."""
    limit, most, per_source = grant[2], _share(s, grant[3]), _share(s, grant[4])
    if state == t.FREE:
        return ~i64(t.NOT_A_BEGINNING)
    if taken:
        return ~i64(t.TAKEN)
    if most and limit and i64(s.limits[limit]) >= most:
        reason = i64(t.RULE_LIMIT)
    elif per_source and life.source_count(s, source) >= per_source:
        reason = i64(t.SOURCE_LIMIT)
    else:
        reason = i64(t.FULL)
        number = life.take(s)
        if number:
            return number
    s.head[t.REFUSED] += u64(1)
    return ~reason


@inline
def open4(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, src: Any, dst: Any, reply_src: Any,
    reply_dst: Any, protocol: Any, zone: Any, grant: Any,
) -> Any:  # fmt: skip
    """Begin a session with the packet in row. Returns its number, or ~reason (FULL ... TAKEN).

    src, dst: endpoints of the packet as it came. reply_src, reply_dst: of the replies as they will
    come; without NAT dst and src. l4: where the transport header is, which it has.
    grant: the fields of session.Grant, all i64. The packet is not changed.
    """
    k0, k1 = t.key4(src, dst, protocol, zone)
    k2, k3 = t.key4(reply_src, reply_dst, protocol, zone)
    nat = (reply_src != dst) | (reply_dst != src)
    taken = src == dst or reply_src == reply_dst or (k0 == k2 and k1 == k3)
    taken = taken or index.mine4(s, k0, k1) >= 0 or index.mine4(s, k2, k3) >= 0
    state = _first_state(s, data, meta, row, l4, protocol)
    source = life.source_of(s, u64(src >> 16), zone, 0, grant[0])
    number = _admit(s, state, taken, source, grant)
    if number < 0:
        return number
    record = s.hot[number]
    record.k0 = k0
    record.k1 = k1
    record.k2 = k2
    record.k3 = k3
    record.ports = 0
    record.protocol = protocol
    record.zone = zone
    record.flags = t.NAT if nat else 0
    if not flow_home.alone(s) and not flow_home.settle4(s, number):
        life.free(s, number)
        s.head[t.REFUSED] += u64(1)
        return ~i64(t.TAKEN)
    return _open(s, data, meta, row, l4, number, state, grant)


@inline
def open6(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, src_high: Any, src_low: Any, sport: Any,
    dst_high: Any, dst_low: Any, dport: Any, protocol: Any, zone: Any, grant: Any,
) -> Any:  # fmt: skip
    """As open4, for IPv6: halves of addresses are u64; there is no NAT."""
    taken = (src_high == dst_high) & (src_low == dst_low) & (sport == dport)
    found = index.find6(s, src_high, src_low, sport, dst_high, dst_low, dport, protocol, zone)
    state = _first_state(s, data, meta, row, l4, protocol)
    source = life.source_of(s, src_high, zone, t.SIX, grant[0])
    number = _admit(s, state, taken or found >= 0, source, grant)
    if number < 0:
        return number
    record = s.hot[number]
    record.k0 = src_high
    record.k1 = src_low
    record.k2 = dst_high
    record.k3 = dst_low
    record.ports = sport << 16 | dport
    record.protocol = protocol
    record.zone = zone
    record.flags = t.SIX
    return _open(s, data, meta, row, l4, number, state, grant)
