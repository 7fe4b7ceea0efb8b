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


def _rows() -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """What is done by class: to what the initiator sends, and to what the responder does."""
    k, i, x, r = KEEP, IGNORE, DROP, REOPEN
    both, received, answered, here = t.SYN_BOTH, t.SYN_RECEIVED, t.SYN_ANSWERED, t.ESTABLISHED
    fin_i, fin_r, closing = t.FIN_INITIATOR, t.FIN_RESPONDER, t.CLOSING
    last_i, last_r, wait, over = t.LAST_INITIATOR, t.LAST_RESPONDER, t.TIME_WAIT, t.CLOSED
    return {
        #                   SYN   SYN_NEW SYN_ACK   PLAIN PLAIN_ALL FIN      FIN_ALL RESET EXACT
        t.SYN_SENT:       ((k,    k,      x,        x,    x,        x,       x,      i,    over),
                           (both, both,   received, i,    i,        x,       x,      x,    over)),
        t.SYN_BOTH:       ((i,    i,      answered, x,    x,        x,       x,      k,    over),
                           (i,    i,      received, x,    x,        x,       x,      k,    over)),
        t.SYN_RECEIVED:   ((i,    x,      here,     here, here,     fin_i,   fin_i,  k,    over),
                           (i,    x,      i,        k,    k,        x,       x,      k,    over)),
        t.SYN_ANSWERED:   ((i,    x,      i,        k,    k,        x,       x,      k,    over),
                           (i,    x,      here,     here, here,     fin_r,   fin_r,  k,    over)),
        t.PICKED_UP:      ((r,    r,      x,        k,    k,        k,       k,      k,    over),
                           (r,    r,      x,        here, here,     fin_r,   fin_r,  k,    over)),
        t.ESTABLISHED:    ((i,    i,      i,        k,    k,        fin_i,   fin_i,  k,    over),
                           (i,    i,      i,        k,    k,        fin_r,   fin_r,  k,    over)),
        t.FIN_INITIATOR:  ((i,    i,      i,        k,    k,        k,       k,      k,    over),
                           (i,    i,      i,        k,    k,        closing, last_r, k,    over)),
        t.FIN_RESPONDER:  ((i,    i,      i,        k,    k,        closing, last_i, k,    over),
                           (i,    i,      i,        k,    k,        k,       k,      k,    over)),
        t.CLOSING:        ((i,    i,      i,        k,    last_i,   k,       last_i, over, over),
                           (i,    i,      i,        k,    last_r,   k,       last_r, over, over)),
        t.LAST_INITIATOR: ((i,    i,      i,        k,    k,        k,       k,      over, over),
                           (i,    i,      i,        k,    wait,     k,       wait,   over, over)),
        t.LAST_RESPONDER: ((i,    i,      i,        k,    wait,     k,       wait,   over, over),
                           (i,    i,      i,        k,    k,        k,       k,      over, over)),
        t.TIME_WAIT:      ((r,    r,      i,        k,    k,        k,       k,      k,    over),
                           (x,    r,      i,        k,    k,        k,       k,      k,    over)),
        t.CLOSED:         ((r,    r,      i,        k,    k,        k,       k,      k,    k),
                           (r,    r,      i,        k,    k,        k,       k,      k,    k)),
    }  # fmt: skip


def _table() -> Any:
    """The same by state, direction and class; for a state that there is not: DROP."""
    cells = np.full((16, 2, 9), DROP, np.uint8)
    for state, row in _rows().items():
        cells[state] = row
    return cells.reshape(-1)


CELLS = _table()
