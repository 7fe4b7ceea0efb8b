# SPDX-License-Identifier: Apache-2.0
"""What tcp4-reset and tcp6-reset share: when a segment is answered, and the reset itself.

RFC 9293 section 3.10.7.1 (a segment to a connection that does not exist), 3.4 (sequence numbers: SYN
and FIN count one each); RFC 1122 sections 3.2.1.3 and 4.2.3.10 (no answer to what came to many).
"""

from __future__ import annotations

from typing import Any

from vforward.graph.node import Labels
from vforward.jit.be import load32, store16, store32
from vforward.jit.kernel import i64, kernel
from vforward.packet import tcp
from vforward.packet.checksum import fold


class Count(Labels):
    """Reasons to say nothing."""

    NOT_TCP = 0, "no TCP segment"
    RESET_TRUNCATED = 1, "without a whole TCP header"
    RESET_ABOUT_FRAGMENT = 2, "a piece of a datagram"
    RESET_ABOUT_RESET = 3, "a reset itself"
    RESET_ABOUT_BROADCAST = 4, "sent to many, by its link or IP destination"
    RESET_BAD_SOURCE = 5, "its source address is none, a group's, or one of ours in the VRF"
    RATE_LIMITED = 6, "too many ICMP errors and resets of late, in all or to this address"


@kernel
def segment_refusal(data: Any, row: Any, l4: Any, end: Any, length: Any) -> Any:
    """Why the segment at l4, of length bytes in all buffers, is not answered; or -1."""
    if l4 + tcp.HEADER > end:
        return i64(Count.RESET_TRUNCATED)
    header = (i64(data[row, l4 + tcp.OFFSET]) >> 4) * 4
    if not tcp.HEADER <= header <= length:
        return i64(Count.RESET_TRUNCATED)
    if i64(data[row, l4 + tcp.FLAGS]) & tcp.RST:
        return i64(Count.RESET_ABOUT_RESET)
    return i64(-1)


@kernel
def write_reset(data: Any, row: Any, l4: Any, length: Any, to: Any, pseudo: Any) -> None:
    """Write the answer to the segment at l4, of length bytes, at to, which may be in front of it.

    pseudo: the sum of the pseudo-header, RFC 9293 section 3.1.
    """
    ports = load32(data, row, l4 + tcp.SOURCE)
    header = (i64(data[row, l4 + tcp.OFFSET]) >> 4) * 4
    flags = i64(data[row, l4 + tcp.FLAGS])
    sequence = load32(data, row, l4 + tcp.ACKNOWLEDGMENT)
    acknowledged = i64(0)
    answer = i64(tcp.RST)
    if not flags & tcp.ACK:
        counted = length - header + (flags & tcp.SYN != 0) + (flags & tcp.FIN != 0)
        acknowledged = (load32(data, row, l4 + tcp.SEQUENCE) + counted) & 0xFFFFFFFF
        sequence = i64(0)
        answer = i64(tcp.RST | tcp.ACK)
    ports = (ports & 0xFFFF) << 16 | ports >> 16
    last = tcp.HEADER // 4 << 28 | answer << 16  # offset, flags, window 0
    checksum = fold(pseudo + ports + sequence + acknowledged + last) ^ 0xFFFF
    store32(data, row, to + tcp.SOURCE, ports)
    store32(data, row, to + tcp.SEQUENCE, sequence)
    store32(data, row, to + tcp.ACKNOWLEDGMENT, acknowledged)
    store32(data, row, to + tcp.OFFSET, last)
    store16(data, row, to + tcp.CHECKSUM, checksum)
    store16(data, row, to + tcp.URGENT, 0)
