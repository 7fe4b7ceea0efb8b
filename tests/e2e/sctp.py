# SPDX-License-Identifier: Apache-2.0
"""SCTP packets, of any size, that Linux cuts into pieces and puts together, without its SCTP.

RFC 9260 section 3 (the common header, a DATA chunk) and appendix A (CRC32c, in Intel's byte order). Sent
by raw sockets, as the kernel here may have no SCTP; it fragments what is longer than the MTU.
"""

import contextlib
import hashlib
import socket
import struct

import numpy as np

from e2e.lab import LONG, family_of

PROTOCOL = 132
HEADER = struct.Struct("!HHI4s")  # source, destination, verification tag, checksum
CHUNK = struct.Struct(
    "!BBHIHHI"
)  # type, flags, length, TSN, stream, number in it, payload protocol
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, DONT = 10, 23, 0
RCVBUFFORCE = 33
LONGEST_CHUNK = 65535
LONGEST4 = 65535 - 20
"""Bytes that an IPv4 packet may carry."""


def _table():
    found = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        found.append(n)
    return found


TABLE = _table()


def crc32c(data):
    """As the header has it, 4 bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def packet(size, tag):
    """An SCTP packet of so many bytes, with one DATA chunk."""
    content = np.random.default_rng(size + tag).bytes(size - HEADER.size - CHUNK.size)
    chunk = CHUNK.pack(0, 3, min(size - HEADER.size, LONGEST_CHUNK), tag, 0, 0, 0) + content
    blank = HEADER.pack(5000, 5001, tag, bytes(4)) + chunk
    return HEADER.pack(5000, 5001, tag, crc32c(blank)) + chunk


def is_whole(data):
    """Whether its checksum is right."""
    return data[8:12] == crc32c(data[:8] + bytes(4) + data[12:])


def sctp(sender, receiver, to, sizes):
    """Send packets of such sizes, one after the other; asserts that they arrive unchanged."""
    family = family_of(to)
    with contextlib.ExitStack() as stack:
        ends = []
        for host in (sender, receiver):
            with host.inside():
                made = stack.enter_context(socket.socket(family, socket.SOCK_RAW, PROTOCOL))
            made.settimeout(LONG)
            made.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 1 << 22)
            ends.append(made)
        out, back = ends
        if family == socket.AF_INET:
            out.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DONT)
        else:
            out.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, DONT)
        for tag, size in enumerate(sizes, 1):
            sent = packet(size, tag)
            assert out.sendto(sent, (to, 0)) == size
            got = back.recv(1 << 17)
            if family == socket.AF_INET:  # with its header
                assert len(got) == int.from_bytes(got[2:4], "big")
                got = got[(got[0] & 15) * 4 :]
            assert is_whole(got)
            assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
