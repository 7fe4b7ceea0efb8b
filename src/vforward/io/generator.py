# SPDX-License-Identifier: Apache-2.0
"""The generator port: UDP packets made by the forwarder itself, for benchmarks.

Packet k belongs to flow i = k mod flows. Flow i differs from flow 0 by

    addresses   src XOR i, dst XOR i: 256 flows stay in the /24 of src and in the /24 of dst
    UDP ports   from 1024 + i mod 32768, to 1024 + i div 32768: no two flows share a pair

and in the two checksums, which are summed per packet from what differs (RFC 1071 section 2 (A):
the order of a sum's terms is free).

    template   u8[max(size, 64)]  flow 0's frame, checksums zero; written by the port, before
    generator  u64[8]             port:   words 2.. below
                                  worker: word 0 packets still to make     word 1 the next flow
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.graph.node import Kind, Node
from vforward.io.null import NULL_TX
from vforward.io.port import Port, RxCount, RxEdge, Tables, default_mac
from vforward.jit.be import store16, store32
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import inline, kernel
from vforward.layout import BUF_ROOM, HEADROOM, NIL, U8, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.memory.chain import begin_chain, scatter
from vforward.memory.pool import Pool, put_one, take, take_one
from vforward.packet.checksum import fold

LEFT, FLOW, FLOWS, SIZE, NUMBER, WHOLE, IP_SUM, UDP_SUM = range(8)

ENDLESS = 2**63 - 1
HEADERS = 64
"""Bytes of each packet that are written when only headers are touched."""
FIRST_PORT = 1024
PORT_BITS = 15
PORTS = 1 << PORT_BITS
IP, UDP, PAYLOAD = 14, 34, 42
IP_CHECKSUM, IP_SRC, IP_DST = IP + 10, IP + 12, IP + 16
UDP_CHECKSUM = UDP + 6
SENDER = bytes.fromhex("00005e005301")
"""The frames' source address: one for documentation (RFC 9542 section 2.1.2)."""


@kernel
def generate(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    pool: U64,
    template: U8,
    generator: U64,
) -> int:
    """The next packets, a full vector of them while packets are left to make."""
    wanted: Any = min(np.int64(idx.size), np.int64(generator[LEFT]))
    if generator[SIZE] > BUF_ROOM:
        n: int = _begin_long(data, meta, idx, pool, template, generator, wanted)
    else:
        n = take(pool, idx, wanted)
        _begin_short(data, meta, idx, template, generator, n)
    if n < wanted:
        count[RxCount.NO_BUFFER] += np.uint64(1)
    _become_flows(data, idx, edge, template, generator, n)
    generator[LEFT] -= np.uint64(n)
    count[RxCount.BYTES] += np.uint64(n) * generator[SIZE]
    return n


@inline
def _begin_short(data: Any, meta: Any, idx: Any, template: Any, generator: Any, n: Any) -> None:
    """Make packets of flow 0, each in its one buffer."""
    size, port = np.int64(generator[SIZE]), np.int64(generator[NUMBER])
    rest = size - HEADERS if generator[WHOLE] else np.int64(0)
    base, source = address(data), address(template)
    for i in range(n):
        row = np.int64(idx[i])
        begin_packet(meta, row, size, port)
        to = byte_address(base, row, HEADROOM)
        copy(to, source, HEADERS)
        if rest > 0:
            copy(to + HEADERS, source + HEADERS, rest)


@kernel
def _begin_long(
    data: Any, meta: Any, idx: Any, pool: Any, template: Any, generator: Any, wanted: Any
) -> Any:
    """Make packets of flow 0, each a chain. Returns how many, fewer when the pool is short."""
    size, port = np.int64(generator[SIZE]), np.int64(generator[NUMBER])
    for i in range(wanted):
        row = take_one(pool)
        if row == NIL:
            return np.int64(i)
        if not begin_chain(meta, pool, row, size, port):
            put_one(pool, row)
            return np.int64(i)
        scatter(data, meta, row, address(template), size if generator[WHOLE] else HEADERS)
        idx[i] = row
    return np.int64(wanted)


@inline
def _become_flows(data: Any, idx: Any, edge: Any, template: Any, generator: Any, n: Any) -> None:
    """Make flow 0's packets the next flows', and set their checksums."""
    src_0, dst_0 = _word(template, IP_SRC), _word(template, IP_DST)
    ip_sum, udp_sum = np.int64(generator[IP_SUM]), np.int64(generator[UDP_SUM])
    flow: Any = np.int64(generator[FLOW])
    flows = np.int64(generator[FLOWS])
    for i in range(n):
        row = np.int64(idx[i])
        src, dst = src_0 ^ flow, dst_0 ^ flow
        source_port, target_port = FIRST_PORT + (flow & PORTS - 1), FIRST_PORT + (flow >> PORT_BITS)
        addresses = (src >> 16) + (src & 0xFFFF) + (dst >> 16) + (dst & 0xFFFF)
        store16(data, row, HEADROOM + IP_CHECKSUM, fold(ip_sum + addresses) ^ 0xFFFF)
        store32(data, row, HEADROOM + IP_SRC, src)
        store32(data, row, HEADROOM + IP_DST, dst)
        store16(data, row, HEADROOM + UDP, source_port)
        store16(data, row, HEADROOM + UDP + 2, target_port)
        udp = fold(udp_sum + addresses + source_port + target_port) ^ 0xFFFF
        if udp_sum:  # with the pseudo-header in it, it is never 0
            store16(data, row, HEADROOM + UDP_CHECKSUM, udp if udp else 0xFFFF)
        edge[i] = RxEdge.NEXT
        flow = flow + 1 if flow + 1 < flows else 0
    generator[FLOW] = np.uint64(flow)


@inline
def _word(template: Any, at: Any) -> Any:
    high = np.int64(template[at]) << 24 | np.int64(template[at + 1]) << 16
    return high | np.int64(template[at + 2]) << 8 | np.int64(template[at + 3])


RX = Node("generator-rx", generate, RxEdge, RxCount, Kind.INPUT)


class GeneratorPort(Port):
    """A port that makes UDP packets. What is sent to it is swallowed and counted.

    count: packets to make, None for no end. size: of a frame, without FCS. flows: see the module.
    src, dst: of flow 0. dst_mac: None for the port's own. touch: see touched.
    """

    kind = "generator"

    def __init__(
        self,
        *,
        count: int | None = None,
        size: int = 60,
        flows: int = 256,
        src: IPv4Address | str = "10.0.1.2",
        dst: IPv4Address | str = "10.0.2.2",
        dst_mac: bytes | None = None,
        touch: Literal["headers", "whole"] = "whole",
        mac: bytes | None = None,
        mtu: int = 1500,
    ) -> None:
        for name, value, low, high in (
            ("count", 1 if count is None else count, 1, ENDLESS),
            ("size", size, 60, 9000),
            ("flows", flows, 1, 1 << 20),
        ):
            if not low <= value <= high:
                msg = f"generator port: {name} {value}; allowed: {low} to {high}"
                raise PortError(msg)
        self._given = mac
        self.mtu = mtu
        self._count = ENDLESS if count is None else count
        self._size, self._flows = size, flows
        self._src, self._dst = IPv4Address(src), IPv4Address(dst)
        self._dst_mac = dst_mac
        self._touch = touch
        self._whole = touch == "whole" or size <= HEADERS

    @property
    def touched(self) -> str:
        """What is written of each packet: to be told beside any result measured with it."""
        if self._whole:
            return f"all {self._size} bytes of each packet are written"
        return (
            f"the first {HEADERS} of {self._size} bytes of each packet are written; "
            "the others are what the buffer held, and the UDP checksum is 0 (none)"
        )

    def open(self, number: int, pool: Pool) -> None:
        """Make ready to begin, with flow 0."""
        self.mac = self._given or default_mac(number)
        self._template = np.frombuffer(self._frame() + bytes(HEADERS), np.uint8).copy()
        head = self._template[:PAYLOAD].tobytes()
        udp = 17 + 2 * (self._size - UDP) + _sum(self._template[PAYLOAD : self._size].tobytes())
        self._words: NDArray[np.uint64] = np.zeros(8, np.uint64)
        self._words[[LEFT, FLOWS, SIZE]] = self._count, self._flows, self._size
        self._words[[NUMBER, WHOLE]] = number, self._whole
        self._words[IP_SUM] = _sum(head[IP:IP_SRC])
        self._words[UDP_SUM] = udp if self._whole else 0

    def rx(self) -> tuple[Node, Tables]:
        """The node that makes packets."""
        return RX, {"template": self._template, "generator": self._words}

    def tx(self) -> tuple[Node, Tables]:
        """The node that swallows."""
        return NULL_TX, {}

    def senders(self) -> tuple[Node, list[Tables]]:
        """Every worker swallows for itself."""
        return NULL_TX, [{}] * self.workers

    def close(self) -> None:
        """Nothing to close."""

    def _frame(self) -> bytes:
        """Flow 0's frame with checksums, and ports, of zero."""
        length = (self._size - IP).to_bytes(2, "big")
        ip = b"\x45\0" + length + bytes(4) + b"\x40\x11\0\0" + self._src.packed + self._dst.packed
        udp = bytes(4) + (self._size - UDP).to_bytes(2, "big") + bytes(2)
        payload = bytes(i & 0xFF for i in range(self._size - PAYLOAD))
        return (self._dst_mac or self.mac) + SENDER + b"\x08\0" + ip + udp + payload


def _sum(text: bytes) -> int:
    """The sum of 16-bit words, not folded; an odd last byte is a high one."""
    padded = text + bytes(len(text) % 2)
    return sum(padded[::2]) * 256 + sum(padded[1::2])
