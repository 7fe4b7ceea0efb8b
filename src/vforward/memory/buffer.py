# SPDX-License-Identifier: Apache-2.0
"""Helpers of kernels that fill or walk buffers."""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, inline
from vforward.layout import BUF_STRIDE, HEADROOM, NIL


@inline
def begin_packet(meta: Any, row: Any, length: Any, port: Any) -> None:
    """A freshly taken buffer becomes a packet of length bytes (in this buffer) from a port."""
    record = meta[row]
    record.off = HEADROOM
    record.end = HEADROOM + length
    record.l3 = HEADROOM
    record.l4 = HEADROOM
    record.flags = 0
    record.rest = 0
    record.next = NIL
    record.rx_port = port
    record.tx_port = 0
    record.treatment = 0
    record.gso_type = 0
    record.gso_size = 0
    record.hdr_len = 0
    record.csum_start = 0
    record.csum_off = 0
    record.reason = 0


@inline
def byte_address(base: Any, row: Any, off: Any) -> Any:
    """Address of data[row, off], base being the address of data: for memcpy and iovecs."""
    return i64(base) + i64(row) * BUF_STRIDE + i64(off)


@inline
def buffer_bytes(meta: Any, row: Any) -> Any:
    """Bytes of the packet in this buffer."""
    return i64(meta[row].end) - i64(meta[row].off)


@inline
def sound(meta: Any, row: Any) -> bool:
    """Whether the record says of its own buffer what a buffer can: of it alone, not of a chain."""
    return i64(meta[row].off) <= i64(meta[row].end) <= BUF_STRIDE


@inline
def packet_bytes(meta: Any, row: Any) -> Any:
    """Bytes of the packet whose first buffer this is."""
    return buffer_bytes(meta, row) + i64(meta[row].rest)
