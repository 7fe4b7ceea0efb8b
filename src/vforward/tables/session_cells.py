# SPDX-License-Identifier: Apache-2.0
"""session_cells: what is done about a TCP segment, by its connection's state, its direction and class.

RFC 9293 section 3.10.7, RFC 5382 section 5, RFC 5961 sections 3.2 and 4.2, RFC 1122 section 4.2.2.13.
tests/oracles/tcp.py has every cell once more, with the reasons.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.packet import tcp
from vforward.tables import session as t

SYN, SYN_NEW, SYN_ACK, PLAIN, PLAIN_ALL, FIN, FIN_ALL, RESET, RESET_EXACT, INVALID = range(10)
"""Classes of segments. SYN_NEW: a SYN beyond all that its sender has sent. _ALL: it acknowledges all
that the other has sent. RESET_EXACT: a reset that the receiver has to believe."""

KEEP, IGNORE, DROP, REOPEN = 16, 17, 18, 19
"""What is done, besides going to a state. KEEP: take note of the numbers. IGNORE: let it pass."""

CLASS = np.full(64, INVALID, np.uint8)
"""By the six low flags. PSH and URG make no difference."""
for _flags in range(64):
    _what = _flags & ~(tcp.PSH | tcp.URG)
    if _what == tcp.SYN:
        CLASS[_flags] = SYN
    elif _what == tcp.SYN | tcp.ACK:
        CLASS[_flags] = SYN_ACK
    elif _what == tcp.ACK:
        CLASS[_flags] = PLAIN
    elif _what == tcp.FIN | tcp.ACK:
        CLASS[_flags] = FIN
    elif _what in (tcp.RST, tcp.RST | tcp.ACK):
        CLASS[_flags] = RESET


def _table() -> Any:
    """What is done, by state, direction and class."""
    cells = np.full((16, 2, 9), DROP, np.uint8)

    def rows(state: int, initiator: list[int], responder: list[int]) -> None:
        cells[state] = initiator, responder

    k, i, x, r = KEEP, IGNORE, DROP, REOPEN
    over = t.CLOSED
    #    SYN SYN_NEW SYN_ACK PLAIN PLAIN_ALL FIN FIN_ALL RESET RESET_EXACT
    rows(
        t.SYN_SENT,
        [k, k, x, x, x, x, x, i, over],
        [t.SYN_BOTH, t.SYN_BOTH, t.SYN_RECEIVED, i, i, x, x, x, over],
    )
    rows(
        t.SYN_BOTH,
        [i, i, t.SYN_ANSWERED, x, x, x, x, k, over],
        [i, i, t.SYN_RECEIVED, x, x, x, x, k, over],
    )
    rows(
        t.SYN_RECEIVED,
        [
            i,
            x,
            t.ESTABLISHED,
            t.ESTABLISHED,
            t.ESTABLISHED,
            t.FIN_INITIATOR,
            t.FIN_INITIATOR,
            k,
            over,
        ],
        [i, x, i, k, k, x, x, k, over],
    )
    rows(
        t.SYN_ANSWERED,
        [i, x, i, k, k, x, x, k, over],
        [
            i,
            x,
            t.ESTABLISHED,
            t.ESTABLISHED,
            t.ESTABLISHED,
            t.FIN_RESPONDER,
            t.FIN_RESPONDER,
            k,
            over,
        ],
    )
    rows(
        t.PICKED_UP,
        [r, r, x, k, k, k, k, k, over],
        [r, r, x, t.ESTABLISHED, t.ESTABLISHED, t.FIN_RESPONDER, t.FIN_RESPONDER, k, over],
    )
    rows(
        t.ESTABLISHED,
        [i, i, i, k, k, t.FIN_INITIATOR, t.FIN_INITIATOR, k, over],
        [i, i, i, k, k, t.FIN_RESPONDER, t.FIN_RESPONDER, k, over],
    )
    rows(
        t.FIN_INITIATOR,
        [i, i, i, k, k, k, k, k, over],
        [i, i, i, k, k, t.CLOSING, t.LAST_RESPONDER, k, over],
    )
    rows(
        t.FIN_RESPONDER,
        [i, i, i, k, k, t.CLOSING, t.LAST_INITIATOR, k, over],
        [i, i, i, k, k, k, k, k, over],
    )
    rows(
        t.CLOSING,
        [i, i, i, k, t.LAST_INITIATOR, k, t.LAST_INITIATOR, k, over],
        [i, i, i, k, t.LAST_RESPONDER, k, t.LAST_RESPONDER, k, over],
    )
    rows(
        t.LAST_INITIATOR,
        [i, i, i, k, k, k, k, k, over],
        [i, i, i, k, t.TIME_WAIT, k, t.TIME_WAIT, k, over],
    )
    rows(
        t.LAST_RESPONDER,
        [i, i, i, k, t.TIME_WAIT, k, t.TIME_WAIT, k, over],
        [i, i, i, k, k, k, k, k, over],
    )
    rows(t.TIME_WAIT, [r, r, i, k, k, k, k, k, over], [x, r, i, k, k, k, k, k, over])
    rows(t.CLOSED, [r, r, i, k, k, k, k, k, k], [r, r, i, k, k, k, k, k, k])
    return cells.reshape(-1)


CELLS = _table()
