# SPDX-License-Identifier: Apache-2.0
"""Routes and frames that the cases share. A frame is 60 bytes: 64 on the wire, with its FCS."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

FRAME_BYTES = 60
DST = 14 + 16
DST6 = 14 + 24
CHECKSUM = 14 + 10
OUR_MAC = bytes.fromhex("020000000001")
THEIR_MAC = bytes.fromhex("020000000099")
SEED = 1


def header_sum(header: bytes) -> int:
    """The sum of the 16-bit words, folded (RFC 1071)."""
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def udp_frame(source: int, destination: int) -> bytes:
    """An Ethernet frame to our MAC with an IPv4 packet of 46 bytes: a UDP datagram of zeros."""
    fields = [0x45, 0, FRAME_BYTES - 14, 0, 0, 64, 17, 0, source, destination]
    header = bytearray(struct.pack(">BBHHHBBHII", *fields))
    header[10:12] = (header_sum(header) ^ 0xFFFF).to_bytes(2, "big")
    head = OUR_MAC + THEIR_MAC + b"\x08\x00" + header
    return head + bytes(FRAME_BYTES - len(head))


def ip6_frame() -> bytes:
    """An Ethernet frame to our MAC with an IPv6 packet of 46 bytes: six of zeros, no next header."""
    header = struct.pack(">IHBB", 6 << 28, FRAME_BYTES - 54, 59, 64)
    source = bytes.fromhex("20010db8000000000000000000000002")
    head = OUR_MAC + THEIR_MAC + b"\x86\xdd" + header + source
    return head + bytes(FRAME_BYTES - len(head))


def random_slash24s(n: int) -> NDArray[np.uint32]:
    """n distinct /24 prefixes, drawn evenly from all that may be forwarded to, in random order."""
    rng = np.random.default_rng(SEED)
    allowed = np.arange(1 << 16, 224 << 16, dtype=np.uint32)
    allowed = allowed[(allowed >> 16) != 127]
    return (rng.choice(allowed, n, replace=False) << np.uint32(8)).astype(np.uint32)
