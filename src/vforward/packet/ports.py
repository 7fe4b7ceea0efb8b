# SPDX-License-Identifier: Apache-2.0
"""The ports by which a session tells its packets apart, as source port << 16 | destination port.

TCP, UDP, DCCP, SCTP and UDP-Lite have ports. In an ICMP or ICMPv6 echo the identifier stands for the
asker's port and 0 for the answerer's, so a request and its reply are a flow's two directions, and two
hosts that ping each other with one identifier are two flows. Everything else has ports 0 and 0, and
is told apart by its addresses and protocol.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16, load32
from vforward.jit.kernel import i64, inline
from vforward.packet import icmp4, icmp6
from vforward.packet.flow_hash import has_ports

NONE = -1
"""No answer: the packet is too short for its protocol, or an ICMP message that belongs to no flow."""
ICMP, ICMP6 = 1, 58


@inline
def of_echo(kind: Any, ident: Any, ask: Any, answer: Any) -> Any:
    """The ports of an ICMP message of a type, or NONE if it is no echo."""
    if kind == ask:
        return i64(ident) << 16
    return i64(ident) if kind == answer else i64(NONE)


@inline
def load(data: Any, row: Any, l4: Any, protocol: Any, end: Any) -> Any:
    """The ports of the message at l4, of which bytes up to end are in the buffer, i64; or NONE."""
    if has_ports(protocol):
        return load32(data, row, l4) if l4 + 8 <= end else i64(NONE)
    if protocol in (ICMP, ICMP6):
        if l4 + 8 > end:
            return i64(NONE)
        kind, ident = i64(data[row, l4]), load16(data, row, l4 + 4)
        if protocol == ICMP:
            return of_echo(kind, ident, icmp4.ECHO, icmp4.ECHO_REPLY)
        return of_echo(kind, ident, icmp6.ECHO, icmp6.ECHO_REPLY)
    return i64(0)
