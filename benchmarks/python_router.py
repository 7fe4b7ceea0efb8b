# SPDX-License-Identifier: Apache-2.0
"""The IPv4 path as one would write it in Python without a compiler: a function, a packet, a dict.

It does the work of the five nodes of ip4-path, in their order, on a bytearray; no trick is spared
that keeps it readable: one struct call reads the header, dicts find the route, the checksum is
patched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

ETHERNET = struct.Struct(">6s6sH")
HEADER = struct.Struct(">BBHHHBBHII")
WORDS = struct.Struct(">10H")
U16 = struct.Struct(">H")
IP4 = 0x0800


@dataclass(frozen=True, slots=True)
class Neighbor:
    """What a route leads to."""

    ethernet: bytes
    port: int
    mtu: int


class Router:
    """A port's MAC and routes; counts what it drops."""

    def __init__(self, mac: bytes, routes: Iterable[tuple[int, int, Neighbor]]) -> None:
        self.mac = mac
        self.drops: dict[str, int] = {}
        tables: dict[int, dict[int, Neighbor]] = {}
        for prefix, length, neighbor in routes:
            tables.setdefault(length, {})[prefix >> (32 - length)] = neighbor
        self._tables = [(32 - length, tables[length]) for length in sorted(tables, reverse=True)]

    def forward(self, frame: bytearray) -> int | None:
        """Rewrite the frame for its next hop. Returns the port it leaves by, None if dropped."""
        if len(frame) < 14:
            return self._drop("truncated")
        mac, _, kind = ETHERNET.unpack_from(frame)
        if kind != IP4 or mac != self.mac:
            return self._drop("not for us")
        if len(frame) < 34:
            return self._drop("truncated")
        first, _, length, _, _, ttl, _, checksum, src, dst = HEADER.unpack_from(frame, 14)
        if first != 0x45 or not 20 <= length <= len(frame) - 14:
            return self._drop("bad header")
        total = sum(WORDS.unpack_from(frame, 14))
        if (total & 0xFFFF) + (total >> 16) != 0xFFFF:
            return self._drop("bad checksum")
        if src >> 24 in (0, 127) or src >> 29 == 7 or dst >> 24 in (0, 127):
            return self._drop("martian")
        neighbor = self._lookup(dst)
        if neighbor is None:
            return self._drop("no route")
        if ttl <= 1:
            return self._drop("expired")
        if length > neighbor.mtu:
            return self._drop("too big")
        checksum += 0x100
        frame[22] = ttl - 1
        U16.pack_into(frame, 24, (checksum & 0xFFFF) + (checksum >= 0xFFFF) & 0xFFFF)
        frame[:14] = neighbor.ethernet
        del frame[14 + length :]
        return neighbor.port

    def _lookup(self, dst: int) -> Neighbor | None:
        for shift, table in self._tables:
            found = table.get(dst >> shift)
            if found is not None:
                return found
        return None

    def _drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1
