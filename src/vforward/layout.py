# SPDX-License-Identifier: Apache-2.0
"""The only truth about memory layout: buffer geometry, the meta record, array types of kernels.

A *buffer* is one row of ``data u8[n, BUF_STRIDE]`` and one record of ``meta META[n]``; its row number
is how everybody refers to it. A packet is one buffer, or a chain of them linked by ``meta.next``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

LAYOUT_VERSION = 2

VECTOR_MAX = 256
"""Most packets a node is given in one call."""

BUF_STRIDE = 2112
"""Bytes from one buffer to the next. 33 cache lines: an odd number, so that the headers of a vector
spread over all sets of a cache (with 2048 they would fall into two sets of 64)."""

HEADROOM = 138
"""Bytes kept free before a received frame, for encapsulation and for ICMP errors built in place. Chosen
so that the IPv4 header of an untagged frame and the 24 bytes before it share one cache line."""

BUF_ROOM = BUF_STRIDE - HEADROOM
"""Bytes of frame that the first buffer of a packet holds; chained buffers are filled alike."""

NIL = 0xFFFFFFFF
"""No buffer: the end of a chain, an empty slot."""

EDGE_MAX = 192
"""Edges a node may declare itself: 0..191."""
EDGE_ARC = 192
"""First of the edges through which a packet goes on along a feature arc (see graph.arcs)."""
ARC_BITS = 63
"""Bits of a feature mask: features 0..61, and bit 62 that is always set and means the arc's end."""
EDGE_HELD = 255
"""The packet goes nowhere: the node keeps it, or has freed or sent it."""

# meta.flags
TRACED = 1 << 0
CHAINED = 1 << 1
LINK_BROADCAST = 1 << 2
"""Received with a broadcast or multicast destination MAC."""
SELF_MADE = 1 << 3
"""Made by this router: its TTL is not ours to decrement."""
CSUM_PARTIAL = 1 << 4
"""The L4 checksum is still to be completed from csum_start on, at csum_start + csum_off."""
CSUM_VALID = 1 << 5
GSO = 1 << 6
"""A super-frame: gso_type and gso_size say how a segmenter would cut it."""
PORTS_KNOWN = 1 << 7
"""A fragment whose datagram's ports are known: meta.hash is source port << 16 | destination port."""
TRANSLATED = 1 << 8
"""NAT has changed its addresses or ports: the source may be one of ours."""

META = np.dtype(
    [
        ("off", np.uint16),  # first byte of the packet in this buffer, from the buffer's start
        ("end", np.uint16),  # just behind its last byte in this buffer, from the buffer's start
        ("l3", np.uint16),  # network header, from the buffer's start
        ("l4", np.uint16),  # transport header, from the buffer's start
        ("flags", np.uint32),
        ("rest", np.uint32),  # bytes in the buffers that follow in the chain
        ("next", np.uint32),  # row of the chain's next buffer, or NIL
        ("rx_port", np.uint16),
        ("tx_port", np.uint16),
        ("features", np.uint64),  # features still to visit on the current arc
        ("hash", np.uint32),
        ("adjacency", np.uint32),
        ("treatment", np.uint16),  # what is done to it after it was let through; 0: nothing
        ("gso_size", np.uint16),  # bytes of payload per segment
        ("gso_type", np.uint8),  # as in virtio_net_hdr
        ("reason", np.uint8),  # counter (of the node that dropped it) that says why
        ("hdr_len", np.uint16),  # bytes of headers that every segment repeats
        ("csum_start", np.uint16),  # from the buffer's start
        ("csum_off", np.uint16),  # from csum_start
        ("spare", np.uint16),
        ("trace", np.uint16),  # number of the packet in the trace
        ("scratch", np.uint64),  # between neighbors: who writes it says so
    ]
)
assert META.itemsize == 64, "meta is one cache line"


@dataclass(frozen=True)
class ArrayOf:
    """How a kernel's parameter looks: the dtype, and the fixed second dimension if it has two."""

    dtype: Any
    inner: int = 0


# The annotations of kernel parameters. The engine reads them to build the kernel's C entry.
Data = Annotated[NDArray[np.uint8], ArrayOf(np.uint8, BUF_STRIDE)]
Meta = Annotated[NDArray[Any], ArrayOf(META)]
Rows = Annotated[NDArray[np.uint32], ArrayOf(np.uint32)]
Edges = Annotated[NDArray[np.uint8], ArrayOf(np.uint8)]
Counts = Annotated[NDArray[np.uint64], ArrayOf(np.uint64)]
U8 = Annotated[NDArray[np.uint8], ArrayOf(np.uint8)]
U16 = Annotated[NDArray[np.uint16], ArrayOf(np.uint16)]
U32 = Annotated[NDArray[np.uint32], ArrayOf(np.uint32)]
U64 = Annotated[NDArray[np.uint64], ArrayOf(np.uint64)]
