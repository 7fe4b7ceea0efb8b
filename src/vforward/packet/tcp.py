# SPDX-License-Identifier: Apache-2.0
"""TCP (RFC 9293 section 3.1): offsets in bytes from the header's start, flags, options."""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, kernel

SOURCE, DESTINATION, SEQUENCE, ACKNOWLEDGMENT, OFFSET, FLAGS, WINDOW, CHECKSUM, URGENT = (
    0, 2, 4, 8, 12, 13, 14, 16, 18,
)  # fmt: skip
HEADER = 20
"""Bytes of a header without options."""

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << k for k in range(8))

END_OF_OPTIONS, NO_OPERATION, WINDOW_SCALE = 0, 1, 3
"""Kinds of options (RFC 9293 section 3.2, RFC 7323 section 2.2)."""
SCALE_MAX = 14
NO_SCALE = 15
"""The header has no window scale option."""


@kernel
def window_scale(data: Any, row: Any, l4: Any, end: Any) -> Any:
    """The window scale of the header that begins at l4 and ends at end; more than 14 is 14.

    RFC 7323 section 2.3. NO_SCALE where there is no such option, or an option before it is malformed.
    """
    at = i64(l4 + HEADER)
    while at < end:
        kind = data[row, at]
        if kind == END_OF_OPTIONS:
            break
        if kind == NO_OPERATION:
            at += 1
            continue
        if at + 2 > end or data[row, at + 1] < 2 or at + i64(data[row, at + 1]) > end:
            break
        if kind == WINDOW_SCALE and data[row, at + 1] == 3:
            return min(i64(data[row, at + 2]), i64(SCALE_MAX))
        at += i64(data[row, at + 1])
    return i64(NO_SCALE)
