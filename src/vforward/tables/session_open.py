# SPDX-License-Identifier: Apache-2.0
"""session_open: begin a session with its first packet, within the limits of its rule and source."""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import PORTS_KNOWN
from vforward.packet import icmp4, icmp6, ip4
from vforward.tables import session as t
from vforward.tables import session_index as index
from vforward.tables import session_life as life
from vforward.tables import session_tcp as tcp


@kernel
def _first_state(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, protocol: Any, sport: Any, dport: Any
) -> Any:
    """The state in which a packet opens a session, FREE if it cannot."""
    if protocol == t.TCP:
        if l4 < 0:
            return i64(t.FREE)
        return tcp.opens(data, meta, row, l4, s.head[t.SETTINGS_LOOSE] != u64(0))
    if protocol == t.ICMP or protocol == t.ICMP6:
        asks = dport == 0
        if l4 >= 0 and not meta[row].flags & PORTS_KNOWN:
            ask = icmp4.ECHO if protocol == t.ICMP else icmp6.ECHO
            asks = l4 < i64(meta[row].end) and data[row, l4] == ask
        return i64(t.UNREPLIED if asks else t.FREE)
    return i64(t.UNREPLIED)


@kernel
def _abandon(s: Any, number: Any, reason: Any) -> Any:
    """Give back a record that was not to be."""
    life.free(s, number)
    s.head[t.REFUSED] += u64(1)
    return ~i64(reason)


@kernel
def _open(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, number: Any, state: Any, grant: Any
) -> Any:
    """Open the session whose keys stand in a record that was taken. Returns it or ~reason."""
    hits, treatment, limit, most, per_source, out_port = grant
    record = s.hot[number]
    cold = s.cold[number]
    if per_source and not life.add_source(s, number, hits, per_source):
        return _abandon(s, number, t.SOURCE_LIMIT)
    if not index.enter(s, number):
        if per_source:
            life.drop_source(s, number, hits)
        return _abandon(s, number, t.FULL)
    flags = i64(record.flags)
    if per_source:
        flags |= t.SOURCED
    if treatment:
        flags |= t.TREATED
    if state == t.PICKED_UP:
        flags |= t.LOOSE
    record.flags = flags
    cold.hits = hits
    cold.treatment = treatment
    cold.limit = limit if most else 0
    cold.in_port = meta[row].rx_port
    cold.out_port = out_port
    if cold.limit:
        s.limits[cold.limit] += np.uint32(1)
    if record.protocol == t.TCP:
        tcp.begin(s, number, data, meta, row, l4, state)
    life.begin(s, number, state)
    return i64(number)


@kernel
def _refusal(s: Any, state: Any, taken: Any, grant: Any) -> Any:
    """Why a session cannot be, before a record is taken for it: ~reason, or 0."""
    limit, most = grant[2], grant[3]
    if state == t.FREE:
        return ~i64(t.NOT_A_BEGINNING)
    if taken:
        return ~i64(t.TAKEN)
    if most and limit and i64(s.limits[limit]) >= most:
        s.head[t.REFUSED] += u64(1)
        return ~i64(t.RULE_LIMIT)
    return i64(0)


@kernel
def open4(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, src: Any, dst: Any, reply_src: Any,
    reply_dst: Any, protocol: Any, zone: Any, grant: Any,
) -> Any:  # fmt: skip
    """Begin a session with the packet in row. Returns its number, or ~reason (FULL ... TAKEN).

    src, dst: endpoints of the packet as it came. reply_src, reply_dst: of the replies as they will
    come; without NAT dst and src. l4: where the transport header is, in a fragment without it any.
    grant: the fields of session.Grant, all i64. The packet is not changed.
    """
    k0, k1, lower = t.key4(src, dst, protocol, zone)
    k2, k3, reply_lower = t.key4(reply_dst, reply_src, protocol, zone)
    nat = (k0 != k2) | (k1 != k3)
    taken = src == dst or reply_src == reply_dst or (not nat and lower != reply_lower)
    taken = taken or index.probe4(s, k0, k1) >= 0 or (nat and index.probe4(s, k2, k3) >= 0)
    sport, dport = src & 0xFFFF, dst & 0xFFFF
    if load16(data, row, i64(meta[row].l3) + ip4.FRAGMENT) & ip4.OFFSET_MASK:
        l4 = i64(-1)
    state = _first_state(s, data, meta, row, i64(l4), protocol, sport, dport)
    refusal = _refusal(s, state, taken, grant)
    if refusal:
        return refusal
    number = life.take(s)
    if number == 0:
        s.head[t.REFUSED] += u64(1)
        return ~i64(t.FULL)
    record = s.hot[number]
    record.k0 = k0
    record.k1 = k1
    record.k2 = k2
    record.k3 = k3
    record.ports = 0
    record.protocol = protocol
    record.zone = zone
    record.flags = (
        (t.NAT if nat else 0) | (t.LOWER if lower else 0) | (t.REPLY_LOWER if reply_lower else 0)
    )
    return _open(s, data, meta, row, l4, number, state, grant)


@kernel
def open6(
    s: Any, data: Any, meta: Any, row: Any, l4: Any, src_high: Any, src_low: Any, sport: Any,
    dst_high: Any, dst_low: Any, dport: Any, protocol: Any, zone: Any, grant: Any,
) -> Any:  # fmt: skip
    """As open4, for IPv6: halves of addresses are u64; there is no NAT. l4: -1 if there is no header."""
    taken = (src_high == dst_high) & (src_low == dst_low) & (sport == dport)
    found = index.find6(s, src_high, src_low, sport, dst_high, dst_low, dport, protocol, zone)
    state = _first_state(s, data, meta, row, l4, protocol, sport, dport)
    refusal = _refusal(s, state, taken or found >= 0, grant)
    if refusal:
        return refusal
    number = life.take(s)
    if number == 0:
        s.head[t.REFUSED] += u64(1)
        return ~i64(t.FULL)
    lower = t.is_lower6(src_high, src_low, sport, dst_high, dst_low, dport)
    record = s.hot[number]
    record.k0 = src_high if lower else dst_high
    record.k1 = src_low if lower else dst_low
    record.k2 = dst_high if lower else src_high
    record.k3 = dst_low if lower else src_low
    record.ports = sport << 16 | dport if lower else dport << 16 | sport
    record.protocol = protocol
    record.zone = zone
    record.flags = t.SIX | (t.LOWER if lower else 0)
    return _open(s, data, meta, row, l4, number, state, grant)
