# SPDX-License-Identifier: Apache-2.0
"""partial: where a checksum that is still to be completed (CSUM_PARTIAL) may stand.

Who completes it writes two bytes at csum_start + csum_off: a port, ip4-fragment, or the kernel that a
frame is handed to, and all of them after this forwarder has judged the packet. Both come from whoever
sent the frame, a virtual machine for one (VIRTIO 1.3 section 5.1.6.2), so they are believed

    at the protocol's own checksum               RFC 9293 section 3.1 (TCP), RFC 768 (UDP), RFC 3828
                                                 (UDP-Lite), RFC 4340 (DCCP), RFC 792, RFC 4443
    behind the headers that are read here        a packet in the packet, a tunnel's; and SCTP's, which is
                                                 a CRC of 32 bits (RFC 9260 section 6.8)

and nowhere else: what was let through as it is must not get another address, port or flag later. What
a receive node is given begins behind the shortest link and network header (io.af_packet_rx), so tags
and MAC addresses are safe, bridged or routed; ip4-input and ip6-input see to the rest.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, inline, kernel
from vforward.layout import CSUM_PARTIAL
from vforward.packet import icmp4, icmp6, ip4, ip6
from vforward.packet.flow_hash import DCCP, TCP, UDP, UDP_LITE

TCP_CHECKSUM, UDP_CHECKSUM = 16, 6
NONE = -1
READ = 8
"""Bytes of a transport header other than TCP's that are read here: ports, or an echo's identifier."""


@inline
def checksum_of(protocol: Any) -> Any:
    """Where a protocol's checksum is in IPv4, bytes from its header's start; NONE if none is known."""
    if protocol == TCP:
        return i64(TCP_CHECKSUM)
    if protocol in (UDP, UDP_LITE, DCCP):
        return i64(UDP_CHECKSUM)
    return i64(icmp4.CHECKSUM) if protocol == ip4.ICMP else i64(NONE)


@inline
def is_partial_at(meta: Any, row: Any, l4: Any, field: Any) -> Any:
    """Whether the checksum of the message at l4, field bytes from there, is still to be completed."""
    flagged = meta[row].flags & CSUM_PARTIAL != 0
    return flagged & (meta[row].csum_start == l4) & (meta[row].csum_off == field)


@kernel
def is_harmful(meta: Any, row: Any, l4: Any, protocol: Any, piece: Any) -> bool:
    """Whether what completes the packet's checksum would write where it must not; see the module.

    l4: where the transport header begins, or, of a piece other than the first, its payload.
    """
    if not meta[row].flags & CSUM_PARTIAL:
        return False
    at = i64(meta[row].csum_start) + i64(meta[row].csum_off)
    if piece:
        return at < l4
    own = i64(icmp6.CHECKSUM) if protocol == ip6.ICMP6 else checksum_of(protocol)
    if is_partial_at(meta, row, l4, own):
        return False
    return protocol == TCP or at < l4 + READ
