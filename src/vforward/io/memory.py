# SPDX-License-Identifier: Apache-2.0
"""The memory port: a Python program sends and receives frames, also while a worker runs.

    program  -- send() ------> inbox:  ring of rows -->  memory-rx --> graph
    program  <-- received() -- outbox: ring of rows <--  memory-tx <-- graph

A row in a ring is nobody's until it is popped. The program's side takes buffers from the pool's
shared stack and gives them back there, through a cache that is empty between calls: it keeps none
from the workers.

    wake    u64[4]
    word 0  1: the eventfd was written since the worker read it (program stores 1, worker 0)
    word 1  the eventfd      word 2  address of read(2)     word 3  where the worker reads to
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vforward.errors import PortError
from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io.libc import libc_address
from vforward.io.port import Port, RxCount, RxEdge, Tables, TxEdge, default_mac
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address, call3
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import (
    BUF_ROOM,
    CSUM_PARTIAL,
    EDGE_HELD,
    GSO,
    HEADROOM,
    NIL,
    U32,
    U64,
    Counts,
    Data,
    Edges,
    Meta,
    Rows,
)
from vforward.memory.buffer import packet_bytes
from vforward.memory.chain import LONGEST, fill, gather, length
from vforward.memory.pool import Pool, drain_cache, give_back, put_one, take_one
from vforward.packet.checksum import complete
from vforward.rings.spsc import Ring, pop, push


class TxCount(Labels):
    """Counters of memory-tx."""

    BYTES = 0, "bytes sent", INFO
    RING_FULL = 1, "the program does not fetch what it receives (MemoryPort.received)"


@kernel
def receive(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, inbox: U32, wake: U64
) -> int:
    """What the program has sent since, up to a vector of it."""
    if load_acquire64(address(wake)):
        # The program writes the eventfd before it stores 1: what is read here empties it.
        store_release64(address(wake), u64(0))
        call3(i64(wake[2]), i64(wake[1]), address(wake) + 24, 8)
    n = pop(inbox, idx, idx.size)
    total = i64(0)
    for i in range(n):
        total += packet_bytes(meta, idx[i])
        edge[i] = RxEdge.NEXT
    count[RxCount.BYTES] += u64(total)
    return n


@kernel
def send(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, outbox: U32) -> None:
    """Hand packets to the program; those beyond the ring's room are dropped."""
    total = i64(0)
    for i in range(idx.size):  # before the push: the program may take a row at once
        total += packet_bytes(meta, idx[i])
    n = push(outbox, idx, idx.size)
    for i in range(n):
        edge[i] = EDGE_HELD
    for i in range(n, idx.size):
        total -= packet_bytes(meta, idx[i])
        meta[idx[i]].reason = TxCount.RING_FULL
        edge[i] = TxEdge.DROP
    count[TxCount.RING_FULL] += u64(idx.size - n)
    count[TxCount.BYTES] += u64(total)


RX = Node("memory-rx", receive, RxEdge, RxCount, Kind.INPUT)
TX = Node("memory-tx", send, TxEdge, TxCount)


@dataclass(frozen=True)
class Offload:
    """What a sender leaves to be done, as in virtio_net_hdr.

    The checksum of all from csum_start (bytes from the frame's start; None: it is complete) goes to
    csum_off bytes behind it, where the pseudo-header's sum is now. gso_size: 0 if no super-frame.
    """

    csum_start: int | None = None
    csum_off: int = 0
    gso_type: int = 0
    gso_size: int = 0
    hdr_len: int = 0


@kernel
def _fill(data: Any, meta: Any, pool: Any, rows: Any, blob: Any, lengths: Any, port: int) -> int:
    """Turn the frames in blob into packets. Returns how many, fewer when the pool is short."""
    source = address(blob)
    for i in range(lengths.size):
        row = take_one(pool)
        if row == NIL:
            return i
        if not fill(data, meta, pool, row, source, lengths[i], port):
            put_one(pool, row)
            return i
        rows[i] = row
        source += lengths[i]
    return i64(lengths.size)


@kernel
def _measure(data: Any, meta: Any, rows: Any, lengths: Any) -> None:
    """Finish checksums, and measure."""
    for i in range(rows.size):
        complete(data, meta, i64(rows[i]))
        lengths[i] = length(meta, i64(rows[i]))


@kernel
def _gather(data: Any, meta: Any, rows: Any, lengths: Any, blob: Any) -> None:
    to = address(blob)
    for i in range(rows.size):
        to += gather(data, meta, i64(rows[i]), to, lengths[i])


@kernel
def _signal(wake: Any) -> None:
    store_release64(address(wake), u64(1))


def _check(offload: Offload, frames: list[bytes]) -> None:
    """Raise PortError for what meta cannot hold, or complete cannot do to one of the frames."""
    for name, most in (("gso_size", 0xFFFF), ("gso_type", 0xFF), ("hdr_len", 0xFFFF)):
        value = getattr(offload, name)
        if not 0 <= value <= most:
            msg = f"offload: {name} is {value}; allowed: 0 to {most}"
            raise PortError(msg)
    start, off = offload.csum_start, offload.csum_off
    if start is None:
        return
    for i, frame in enumerate(frames):
        room = min(len(frame), BUF_ROOM)
        if start < 0 or off < 0 or start + off + 2 > room:
            msg = (
                f"offload: csum_start {start}, csum_off {off}: the checksum must lie in the first "
                f"{room} bytes of frame {i}"
            )
            raise PortError(msg)


def _apply(meta: Any, rows: Any, offload: Offload) -> None:
    flags = GSO if offload.gso_size else 0
    if offload.csum_start is not None:
        flags |= CSUM_PARTIAL
        meta["csum_start"][rows] = HEADROOM + offload.csum_start
        meta["csum_off"][rows] = offload.csum_off
    meta["flags"][rows] |= flags
    for name in ("gso_type", "gso_size", "hdr_len"):
        meta[name][rows] = getattr(offload, name)


class MemoryPort(Port):
    """A port for programs and tests.

    room: how many packets may wait in each direction (rounded up to a power of two). send and
    received may be called by any thread, while a worker runs or while none does.
    """

    kind = "memory"

    def __init__(self, *, mac: bytes | None = None, mtu: int = 1500, room: int = 4096) -> None:
        self._given = mac
        self.mtu = mtu
        self._inbox = Ring.make(room)
        self._outbox = Ring.make(room)
        self._wake = np.zeros(4, np.uint64)
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._event = -1

    def open(self, number: int, pool: Pool) -> None:
        """Take buffers from this pool from now on."""
        self.mac = self._given or default_mac(number)
        self._number = number
        self._pool = pool
        self._cache = pool.cache()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake[1:3] = self._event, libc_address("read")

    def rx(self) -> tuple[Node, Tables]:
        """The node that receives what the program sends."""
        return RX, {"inbox": self._inbox.array, "wake": self._wake}

    def tx(self) -> tuple[Node, Tables]:
        """The node that sends what the program receives."""
        return TX, {"outbox": self._outbox.array}

    def descriptors(self) -> list[int]:
        """An eventfd that is readable when the program has sent something."""
        return [self._event]

    def send(self, frames: Iterable[bytes], offload: Offload | None = None) -> int:
        """Hand frames to the forwarder: the first so many that fit. Returns how many.

        Fewer than given when room packets wait already or no buffer is free; send the others
        again later. offload applies to each of them. Raises PortError for a frame that is longer
        than 65549 bytes and for an offload that one cannot have (its checksum must lie in the
        frame's first buffer), before any is sent, and when the port is not open.
        """
        given = list(frames)
        for i, frame in enumerate(given):
            if len(frame) > LONGEST:
                msg = f"frame {i}: {len(frame)} bytes; at most {LONGEST} can be sent"
                raise PortError(msg)
        if offload is not None:
            _check(offload, given)
        with self._lock:
            pool = self._open_pool()
            given = given[: self._inbox.free_slots()]
            blob = np.frombuffer(b"".join(given) or b"\0", np.uint8)
            lengths = np.array([len(frame) for frame in given], np.int64)
            rows = np.zeros(len(given), np.uint32)
            n = _fill(pool.data, pool.meta, self._cache, rows, blob, lengths, self._number)
            rows = rows[: int(n)]
            drain_cache(self._cache)
            if offload is not None:
                _apply(pool.meta, rows, offload)
            self._inbox.push(rows)
            if rows.size:
                os.eventfd_write(self._event, 1)
                _signal(self._wake)
            return int(rows.size)

    def received(self) -> list[bytes]:
        """Take what the forwarder has sent to this port, oldest first, checksums completed."""
        with self._lock:
            pool = self._open_pool()
            rows = self._outbox.pop(self._outbox.used_slots())
            lengths = np.zeros(rows.size, np.int64)
            _measure(pool.data, pool.meta, rows, lengths)
            blob = np.zeros(int(lengths.sum()), np.uint8)
            _gather(pool.data, pool.meta, rows, lengths, blob)
            give_back(self._cache, pool.meta, rows)
        ends = np.cumsum(lengths)
        whole = blob.tobytes()
        return [
            whole[end - n : end] for end, n in zip(ends.tolist(), lengths.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Give back the buffers that wait in both directions."""
        with self._lock:
            if self._pool is None:
                return
            for ring in (self._inbox, self._outbox):
                give_back(self._cache, self._pool.meta, ring.pop(ring.used_slots()))
            os.close(self._event)
            self._pool, self._event = None, -1

    def _open_pool(self) -> Pool:
        if self._pool is None:
            msg = "memory port: not open; add it to a forwarder and start that first"
            raise PortError(msg)
        return self._pool
