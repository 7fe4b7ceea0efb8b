# SPDX-License-Identifier: Apache-2.0
"""session_tcp: the state of a TCP connection and the windows of both directions, seen from between.

RFC 9293 section 3.3.2 (states), RFC 5382 section 5 (a connection's phases; REQ-2, simultaneous open),
RFC 5961 sections 3.2 and 4.2 (resets, SYNs within a connection), RFC 7323 section 2 (window scale).
Windows: van Rooij, "Real stateful TCP packet filtering in IP Filter", 2000.

Of what direction d sends, 0 the initiator's, 1 the responder's, o being the other one:

    end[d]     the highest sequence number + length that was seen
    maxend[d]  the highest that o has allowed: its acknowledgment + window
    maxwin[d]  the largest window that d has offered to o, as it was in the header, 1 at least

    I    sequence + length <= maxend[d]          II   sequence >= end[d] - maxwin[o]
    III  acknowledgment    <= end[o]             IV   acknowledgment >= end[o] - ACK_WINDOW

Until the handshake is complete windows are not scaled, and maxend[d] - maxwin[o] is the first sequence
number that d's data have: the least that may be acknowledged. In SYN_SENT maxend[0] is that.

A reset ends a session only at end[d] exactly, or at the number of d's FIN: a host that has closed its
socket answers data with that number until its FIN is acknowledged (RFC 9293 section 3.10.7.1), and
receivers believe it. One elsewhere in the window passes, and the receiver challenges it. A SYN in a
connection passes unlooked at, for the same reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.be import load16, load32
from vforward.jit.kernel import i64, inline, kernel
from vforward.packet import tcp
from vforward.tables import session as t
from vforward.tables.session_cells import (
    CELLS,
    CLASS,
    DROP,
    FIN,
    IGNORE,
    INVALID,
    KEEP,
    PLAIN,
    REOPEN,
    RESET,
    SYN,
    SYN_ACK,
)
from vforward.tables.session_life import set_state

ACK_WINDOW = 66_000
"""How far back an acknowledgment may be, at least: 65535 and a segment (van Rooij section 2)."""

PASS, OUTSIDE, BAD_FLAGS, BAD_STATE, SHORT, AGAIN = range(6)
"""What becomes of a packet. AGAIN: its session is over and it begins another."""


@inline
def after(a: Any, b: Any) -> Any:
    """a - b of two sequence numbers, as a signed number (RFC 9293 section 3.4), i64."""
    return i64(np.int32(i64(a) - i64(b)))


@inline
def scale(record: Any, d: Any) -> Any:
    """The window scale of what a direction offers."""
    return i64(record.scale[d])


@kernel
def in_window(record: Any, d: Any, seq: Any, length: Any, ack: Any) -> Any:
    """Whether I to IV hold. Once the handshake is complete."""
    o = 1 - d
    offered = i64(record.maxwin[o]) << scale(record, o)
    back = max(i64(record.maxwin[d]) << scale(record, d), i64(ACK_WINDOW))
    return (
        after(record.maxend[d], seq + length)  # I
        | (after(seq, record.end[d]) + offered)  # II
        | after(record.end[o], ack)  # III
        | (after(ack, record.end[o]) + back)  # IV
    ) >= 0


@kernel
def _in_handshake(record: Any, d: Any, seq: Any, length: Any, ack: Any) -> Any:
    """The same while windows are not scaled: what is acknowledged begins with the other's SYN."""
    o = 1 - d
    return (
        after(record.maxend[d], seq + length)
        | (after(seq, record.end[d]) + i64(record.maxwin[o]))
        | after(record.end[o], ack)
        | (after(ack, record.maxend[o]) + i64(record.maxwin[d]))
    ) >= 0


@inline
def _has_ended(state: Any, d: Any) -> Any:
    """Whether a direction's FIN was seen."""
    if state < t.FIN_INITIATOR or state > t.TIME_WAIT:
        return False
    return state != (t.FIN_RESPONDER if d == 0 else t.FIN_INITIATOR)


@kernel
def _note(record: Any, d: Any, seq: Any, length: Any, ack: Any, window: Any) -> None:
    """Take note of a segment's numbers. In a handshake, of its end and what it allows only."""
    o = 1 - d
    if not _has_ended(record.state, d) and after(seq + length, record.end[d]) > 0:
        record.end[d] = (seq + length) & 0xFFFFFFFF
    allowed = ack + max(window << scale(record, d), 1)
    if record.state >= t.PICKED_UP:
        if after(allowed, record.maxend[o]) > 0:
            record.maxend[o] = allowed & 0xFFFFFFFF
        if window > i64(record.maxwin[d]):
            record.maxwin[d] = window


@kernel
def _begin(
    data: Any, record: Any, d: Any, row: Any, l4: Any, seq: Any, length: Any, window: Any
) -> None:
    """Take note of a direction's SYN: its numbers and its window scale."""
    offset = (i64(data[row, l4 + tcp.OFFSET]) >> 4) * 4
    shift = tcp.window_scale(data, row, l4, l4 + offset)
    record.scale[d] = shift
    record.end[d] = (seq + length) & 0xFFFFFFFF
    record.maxwin[d] = max(window, 1)


@kernel
def _meet(record: Any, d: Any, seq: Any) -> None:
    """Both SYNs were seen, this one of d the second: what each may send."""
    o = 1 - d
    record.maxend[d] = (seq + 1 + i64(record.maxwin[o])) & 0xFFFFFFFF
    record.maxend[o] = (i64(record.maxend[o]) + i64(record.maxwin[d])) & 0xFFFFFFFF


@kernel
def _settle(record: Any) -> None:
    """The handshake is complete: windows are scaled from here on, if both said so."""
    if scale(record, 0) == tcp.NO_SCALE or scale(record, 1) == tcp.NO_SCALE:
        record.scale[0] = 0
        record.scale[1] = 0
    for d in range(2):
        shift = scale(record, d)
        record.maxwin[d] = max(1, (i64(record.maxwin[d]) + (1 << shift) - 1) >> shift)


@kernel
def _fits_handshake(record: Any, ack: Any) -> Any:
    """Whether the responder acknowledges the initiator's SYN."""
    return (after(ack, record.maxend[0]) | after(record.end[0], ack)) >= 0


@kernel
def _classify(record: Any, d: Any, flags: Any, seq: Any, ack: Any) -> Any:
    """The class of a segment of a known session."""
    kind = i64(CLASS[flags & 63])
    if kind == SYN:
        return kind + i64(after(seq, record.end[d]) > 0)
    if kind in (PLAIN, FIN):
        return kind + i64(after(ack, record.end[1 - d]) == 0)
    if kind == RESET:
        if record.state == t.SYN_SENT and d == 1:  # RFC 9293 section 3.10.7.3
            return kind + i64(flags & tcp.ACK != 0 and _fits_handshake(record, ack))
        before = after(record.end[d], seq)
        return kind + i64(before == 0 or (before == 1 and _has_ended(record.state, d)))
    return kind


@kernel
def length_of(data: Any, meta: Any, row: Any, l4: Any) -> Any:
    """Sequence numbers that the segment at l4 takes, -1 if its header is none."""
    here = i64(meta[row].end) - l4
    if here < tcp.HEADER:
        return i64(-1)
    offset = (i64(data[row, l4 + tcp.OFFSET]) >> 4) * 4
    flags = i64(data[row, l4 + tcp.FLAGS])
    if offset < tcp.HEADER or offset > here:
        return i64(-1)
    payload = here + i64(meta[row].rest) - offset
    return payload + (flags & tcp.FIN) + (flags >> 1 & 1)


@inline
def malformed(data: Any, meta: Any, row: Any, l4: Any) -> Any:
    """SHORT or BAD_FLAGS if the segment at l4 is nobody's, whatever its session; otherwise PASS."""
    if length_of(data, meta, row, l4) < 0:
        return i64(SHORT)
    bad = CLASS[data[row, l4 + tcp.FLAGS] & 63] == INVALID
    return i64(BAD_FLAGS if bad else PASS)


@inline
def opens(data: Any, meta: Any, row: Any, l4: Any, loose: Any) -> Any:
    """The state in which a segment opens a session, FREE if it does not."""
    if length_of(data, meta, row, l4) < 0:
        return i64(t.FREE)
    kind = CLASS[data[row, l4 + tcp.FLAGS] & 63]
    if kind == SYN:
        return i64(t.SYN_SENT)
    return i64(t.PICKED_UP if loose and kind == PLAIN else t.FREE)


@inline
def begin(s: Any, number: Any, data: Any, meta: Any, row: Any, l4: Any, state: Any) -> None:
    """Take note of the segment that opens a session, in the state that opens gave."""
    record = s.hot[number]
    seq = load32(data, row, l4 + tcp.SEQUENCE)
    ack = load32(data, row, l4 + tcp.ACKNOWLEDGMENT)
    window = load16(data, row, l4 + tcp.WINDOW)
    length = length_of(data, meta, row, l4)
    if state == t.SYN_SENT:
        record.scale[0] = 0
        record.scale[1] = 0
        _begin(data, record, 0, row, l4, seq, length, window)
        record.maxend[0] = (seq + 1) & 0xFFFFFFFF
        record.end[1] = 0
        record.maxend[1] = 0
        record.maxwin[1] = 0
        return
    # In its middle: scales are not known, so that all windows are taken as large as they can be.
    record.scale[0] = tcp.SCALE_MAX
    record.scale[1] = tcp.SCALE_MAX
    record.end[0] = (seq + length) & 0xFFFFFFFF
    record.maxwin[0] = 0xFFFF
    record.maxend[0] = (seq + length + (0xFFFF << tcp.SCALE_MAX)) & 0xFFFFFFFF
    record.end[1] = ack
    record.maxwin[1] = 0xFFFF
    record.maxend[1] = (ack + (0xFFFF << tcp.SCALE_MAX)) & 0xFFFFFFFF


@kernel
def _syn(data: Any, record: Any, d: Any, row: Any, l4: Any, seq: Any, length: Any, ack: Any) -> Any:
    """Take note of a SYN that is part of a handshake. Returns whether it fits."""
    window = load16(data, row, l4 + tcp.WINDOW)
    with_ack = data[row, l4 + tcp.FLAGS] & tcp.ACK
    if record.state == t.SYN_SENT:
        if d == 0:  # sent once more, or its sender has begun anew
            _begin(data, record, 0, row, l4, seq, length, window)
            record.maxend[0] = (seq + 1) & 0xFFFFFFFF
            return True
        if with_ack and not _fits_handshake(record, ack):
            return False
        _begin(data, record, 1, row, l4, seq, length, window)
        _meet(record, 1, seq)
        return True
    return _in_handshake(record, d, seq, length, ack)


@inline
def advance(
    s: Any, number: Any, d: Any, data: Any, meta: Any, row: Any, l4: Any, whole: Any
) -> Any:
    """A segment of a session, in direction d: returns PASS, or what else becomes of it.

    whole: 0 for a datagram's first fragment; what follows may be as much as the other allows.
    """
    record = s.hot[number]
    length = length_of(data, meta, row, l4)
    if length < 0:
        return i64(SHORT)
    flags = i64(data[row, l4 + tcp.FLAGS])
    seq = load32(data, row, l4 + tcp.SEQUENCE)
    ack = load32(data, row, l4 + tcp.ACKNOWLEDGMENT)
    kind = _classify(record, d, flags, seq, ack)
    if not whole and record.state >= t.PICKED_UP:
        length = max(length, min(after(record.maxend[d], seq), i64(0xFFFF)))
    if kind == INVALID:
        return i64(BAD_FLAGS)
    cell = i64(CELLS[(i64(record.state) * 2 + d) * 9 + kind])
    if cell == DROP:
        return i64(BAD_STATE)
    if cell == REOPEN:
        return i64(AGAIN)
    if cell == IGNORE:
        return i64(PASS)
    early = record.state < t.PICKED_UP
    if kind <= SYN_ACK:
        if not _syn(data, record, d, row, l4, seq, length, ack):
            return i64(OUTSIDE)
    elif kind < RESET:
        if early:
            fits = _in_handshake(record, d, seq, length, ack)
        else:
            fits = in_window(record, d, seq, length, ack)
        if not fits:
            return i64(OUTSIDE)
    elif not _reset_fits(record, d, seq):
        return i64(OUTSIDE)
    if early and cell == t.CLOSED:
        record.scale[0] = 0
        record.scale[1] = 0
    elif early and t.ESTABLISHED <= cell < KEEP:
        _settle(record)
        record.state = t.ESTABLISHED
        s.head[t.EMBRYONIC] -= np.uint64(1)
    if kind >= PLAIN and kind < RESET and record.state != t.CLOSED:
        _note(record, d, seq, length, ack, load16(data, row, l4 + tcp.WINDOW))
    if cell != KEEP:
        set_state(s, number, cell)
    return i64(PASS)


@kernel
def _reset_fits(record: Any, d: Any, seq: Any) -> Any:
    """Whether a reset is in the window (RFC 5961 section 3.2: only its sequence number counts)."""
    if record.state == t.SYN_SENT:
        return True
    o = 1 - d
    early = record.state < t.PICKED_UP
    offered = i64(record.maxwin[o]) << (0 if early else scale(record, o))
    return (after(record.maxend[d], seq) | (after(seq, record.end[d]) + offered)) >= 0
