# SPDX-License-Identifier: Apache-2.0
"""The two ends of a test by RFC 2544: a node that sends at a rate, and one that checks what comes.

bench-source   sends UDP datagrams of FLOWS flows, one every so many clocks; each has its number, the clock,
               and a UDP checksum over all of it. It never sends more than BURST at once: what it is late
               with by more than that is not made up for.
bench-check    verifies length and UDP checksum, looks whether the number has come before, and in what order
               (RFC 4737: reordered is what comes after a higher number), and notes how long it took.

A frame: Ethernet, IPv4 without options, UDP from FIRST_PORT + flow to PORT; the number and the clock, 8
bytes each in network order; then what fills it up, byte k of the frame being k & 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.graph.node import MORE, Kind, Labels, Node
from vforward.jit.be import load16, load64, store16, store64
from vforward.jit.intrinsics import address, copy, cycles
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import CHAINED, HEADROOM, U8, U32, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.memory.pool import take
from vforward.packet import ip4
from vforward.packet.checksum import fold, sum_bytes
from vforward.testing import packets

PORT, FIRST_PORT = 9, 1024
FLOWS = 256
TTL = 64
BURST = 32
ROOM = 1536
"""Bytes of a template."""
IP, UDP = 14, 34
SOURCE_PORT, TARGET_PORT, UDP_LENGTH, UDP_SUM = 34, 36, 38, 40
NUMBER, CLOCK, FILL = 42, 50, 58
LEAST = 60
"""Bytes of the shortest frame, without FCS."""
FRACTION = 16
"""Bits of GAP and NEXT behind the point."""
LEFT, NEXT, GAP, SENT, START, LAST, GRACE, PLACE, BASE = range(9)
"""Words of bench-source: packets still to send; clocks from START when the next one is due, and from
one to the next, both << FRACTION; packets sent; clocks of the test's start and of the last packet sent;
for how many clocks after that to wait for what has not come; its place in the pattern; the first number."""
SOURCE_WORDS = 16
RECEIVED, DUPLICATED, REORDERED, CORRUPTED, OTHER, HIGHEST, FIRST = range(7)
"""Words of bench-check. OTHER: frames that are none of the test's, or of an earlier one. HIGHEST: number,
and 1 more; FIRST: the first number."""
CHECK_WORDS = 8


class Out(Labels):
    """The one way out."""

    NEXT = 0, "every packet"


@kernel
def source(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64,
    templates: U8, lengths: U32, sums: U32, pattern: U32, source_words: U64, check_words: U64,
) -> int:  # fmt: skip
    """templates u8[n * ROOM], lengths and sums u32[n]: the sum of what the UDP checksum covers, with
    number, clock and source port 0. pattern: templates one after the other, over and over. check_words:
    bench-check's; when all that was sent has come there is no more to wait for."""
    w = source_words
    now = cycles()
    if w[LEFT] == u64(0):
        waiting = check_words[RECEIVED] < w[SENT] and now - w[LAST] < w[GRACE]
        return MORE if waiting else 0
    at = (now - w[START]) << u64(FRACTION)
    if at < w[NEXT]:
        return MORE
    late = i64((at - w[NEXT]) // w[GAP]) + 1
    if late > BURST:  # the machine was elsewhere: go on from here
        w[NEXT] = at - w[GAP] * u64(BURST - 1)
        late = BURST
    n = take(pool, idx, min(min(late, i64(w[LEFT])), idx.size))
    place = i64(w[PLACE])
    for i in range(n):
        row = i64(idx[i])
        which = i64(pattern[place])
        place = place + 1 if place + 1 < pattern.size else 0
        size = i64(lengths[which])
        copy(byte_address(address(data), row, HEADROOM), address(templates) + which * ROOM, size)
        begin_packet(meta, row, size, 0)
        number = w[BASE] + w[SENT] + u64(i)
        _stamp(data, row, number, cycles(), i64(sums[which]))
        edge[i] = Out.NEXT
    w[PLACE] = place
    w[SENT] += u64(n)
    w[LEFT] -= u64(n)
    w[NEXT] += w[GAP] * u64(n)
    w[LAST] = now
    return n if n else MORE


@inline
def _stamp(data: Any, row: Any, number: Any, clock: Any, total: Any) -> None:
    port = FIRST_PORT + (i64(number) & FLOWS - 1)
    store16(data, row, HEADROOM + SOURCE_PORT, port)
    store64(data, row, HEADROOM + NUMBER, number)
    store64(data, row, HEADROOM + CLOCK, clock)
    low, shift = u64(0xFFFFFFFF), u64(32)
    total += (
        port + i64(number >> shift) + i64(number & low) + i64(clock >> shift) + i64(clock & low)
    )
    checksum = fold(total) ^ 0xFFFF
    store16(data, row, HEADROOM + UDP_SUM, checksum if checksum else 0xFFFF)


@kernel
def check(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, seen: U64, waits: U32,
    check_words: U64,
) -> None:  # fmt: skip
    """seen u64[]: a bit for each number that can come. waits u32[]: clocks that each took that came
    for the first time, as they come."""
    w = check_words
    now = cycles()
    for i in range(idx.size):
        row = i64(idx[i])
        edge[i] = Out.NEXT
        off, end = i64(meta[row].off), i64(meta[row].end)
        if not _is_ours(data, meta, row, off, end):
            w[OTHER] += u64(1)
            continue
        if not _is_whole(data, row, off, end):
            w[CORRUPTED] += u64(1)
            continue
        number = load64(data, row, off + NUMBER) - w[FIRST]
        if number >= u64(64 * seen.size):
            w[OTHER] += u64(1)
            continue
        word, bit = i64(number >> u64(6)), u64(1) << (number & u64(63))
        if seen[word] & bit:
            w[DUPLICATED] += u64(1)
            continue
        seen[word] |= bit
        if number < w[HIGHEST]:
            w[REORDERED] += u64(1)
        else:
            w[HIGHEST] = number + u64(1)
        took = i64(now - load64(data, row, off + CLOCK))
        waits[i64(w[RECEIVED])] = max(0, min(took, 0xFFFFFFFF))
        w[RECEIVED] += u64(1)


@inline
def _is_ours(data: Any, meta: Any, row: Any, off: Any, end: Any) -> bool:
    """Whether it is a datagram to PORT, in one buffer and without IP options."""
    if meta[row].flags & CHAINED or end - off < LEAST:
        return False
    kind, ports = load16(data, row, off + 12), load16(data, row, off + TARGET_PORT)
    return kind == 0x0800 and data[row, off + 23] == ip4.UDP and ports == PORT


@inline
def _is_whole(data: Any, row: Any, off: Any, end: Any) -> bool:
    """Whether the datagram has the frame's length and its checksum, which is there."""
    n = load16(data, row, off + UDP_LENGTH)
    if n != end - off - UDP or load16(data, row, off + 16) != n + UDP - IP:
        return False
    total = sum_bytes(data, row, off + 26, 8) + ip4.UDP + n
    return (
        load16(data, row, off + UDP_SUM) != 0
        and fold(total + sum_bytes(data, row, off + UDP, n)) == 0xFFFF
    )


SOURCE = Node("bench-source", source, Out, kind=Kind.INPUT)
CHECK = Node("bench-check", check, Out)


def templates(
    sizes: Sequence[int], dst: bytes, src: bytes, source_ip: str, target_ip: str
) -> dict[str, NDArray[Any]]:
    """Tables of bench-source: templates, lengths and sums of frames of so many bytes, without FCS."""
    made = np.zeros((len(sizes), ROOM), np.uint8)
    sums = []
    for k, size in enumerate(sizes):
        fill = bytes(at & 0xFF for at in range(FILL, size))
        udp = bytearray(packets.udp(source_ip, target_ip, 0, PORT, bytes(16) + fill))
        udp[6:8] = bytes(2)
        datagram = packets.ip4(source_ip, target_ip, packets.PROTO_UDP, bytes(udp), ttl=TTL)
        frame = packets.eth(dst, src, packets.ETH_IP4, datagram)
        made[k, :size] = np.frombuffer(frame, np.uint8)
        pseudo = frame[26:34] + bytes([0, packets.PROTO_UDP]) + len(udp).to_bytes(2, "big")
        text = pseudo + bytes(udp) + bytes(len(udp) & 1)
        sums.append(sum(text[::2]) * 256 + sum(text[1::2]))
    return {
        "templates": made.reshape(-1),
        "lengths": np.array(sizes, np.uint32),
        "sums": np.array(sums, np.uint32),
    }
