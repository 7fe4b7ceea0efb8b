# SPDX-License-Identifier: Apache-2.0
"""Captures: the worker copies whole packets into a ring of private memory, as long as somebody wants them.

    control word CAPTURE   address of the words below, 0: none
    words                  u64[WORDS]; who writes which is said below
    wanted                 u8[256 * 256]  by node: LEAVING, COMING; written before the worker is told
    records                RECORD[n]   worker; those from TAKEN to MADE - 1 are the reader's to read
    bytes                  u8[m]       worker; a packet's are never cut in two by the ring's end

What is copied are the packets that leave some nodes (inputs: as received), and those on their way to
others (as they will be sent, or as the node will find them). The scheduler looks at both behind each
call, in the branch that tracing takes already: without a capture it costs nothing. Where the ring is full a
packet is counted instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.graph import control as c
from vforward.jit.atomics import load_acquire64, store_release64
from vforward.jit.intrinsics import address, cycles, view
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD
from vforward.memory.buffer import packet_bytes
from vforward.memory.chain import gather

WORDS = 16
# written by the reader, before the worker is told
WANTED, SNAP = 0, 1  # address of wanted; bytes of a packet that are copied at most
RECORDS, N_RECORDS, BYTES, N_BYTES = 3, 4, 5, 6
# written by the worker
MADE, END, MISSED = 8, 9, 10  # records so far; bytes so far, gaps included; packets without room
# written by the reader
TAKEN, FREED = 12, 13  # records, bytes that the worker may overwrite
LEAVING, COMING = 1, 2
"""Of a node: its packets are wanted as they leave it, or as they come to it."""
NODES = 1 << 16

RECORD = np.dtype(
    [
        ("clock", np.uint64),
        ("at", np.uint64),  # where its bytes begin, of all bytes so far
        ("total", np.uint32),  # bytes of the packet
        ("length", np.uint32),  # of which were copied
        ("node", np.uint16),  # that it left, or comes to
        ("rx_port", np.uint16),
        ("bare", np.uint32),  # 1: it begins with its IP header
    ]
)
assert RECORD.itemsize == 32


@kernel
def copy_packets(
    control: Any, data: Any, meta: Any, node: Any, following: Any, rows: Any, edges: Any
) -> None:
    """Copy those of a call's packets that are wanted. following: the node's next nodes, by edge."""
    base = i64(load_acquire64(address(control) + 8 * c.CAPTURE))
    if base == 0:
        return
    words = view(base, WORDS, np.uint64)
    wanted = view(i64(words[WANTED]), NODES, np.uint8)
    leaving = i64(wanted[node]) & LEAVING
    for i in range(rows.size):
        edge = i64(edges[i])
        to = i64(following[edge])
        arrives = edge != EDGE_HELD and i64(wanted[to]) & COMING != 0
        if leaving or arrives:
            _copy(words, data, meta, i64(rows[i]), to if arrives else node)


@kernel
def _copy(words: Any, data: Any, meta: Any, row: Any, node: Any) -> None:
    base = words.ctypes.data
    made, end = i64(words[MADE]), i64(words[END])
    taken = i64(load_acquire64(base + 8 * TAKEN))
    freed = i64(load_acquire64(base + 8 * FREED))
    n, size = i64(words[N_RECORDS]), i64(words[N_BYTES])
    total = max(0, packet_bytes(meta, row))
    length = min(total, i64(words[SNAP]))
    at = end % size
    if at + length > size:  # not in two parts
        end += size - at
        at = 0
    if made - taken >= n or end + length - freed > size:
        words[MISSED] += u64(1)
        return
    records = view(i64(words[RECORDS]), n, RECORD)
    record = records[made % n]
    record.clock = cycles()
    record.at = end
    record.total = total
    record.length = gather(data, meta, row, i64(words[BYTES]) + at, length)
    record.node = node
    record.rx_port = meta[row].rx_port
    record.bare = u64(meta[row].off == meta[row].l3)
    words[END] = u64(end + length)
    store_release64(base + 8 * MADE, u64(made + 1))


@kernel
def _load(where: int) -> int:
    return i64(load_acquire64(where))


@kernel
def _store(where: int, value: int) -> None:
    store_release64(where, u64(value))


class Packets(NamedTuple):
    """What a reader takes: records, and a packet's bytes from ``starts[i]`` of ``data`` on, until freed."""

    records: NDArray[Any]
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]


class CaptureRing:
    """The ring of one worker, as its reader has it. One thread.

    leaving, coming: numbers of nodes. snap: bytes of a packet that are kept. size: bytes of the ring;
    spare: behind its end, so that a reader may look that far beyond a packet.
    """

    def __init__(
        self,
        leaving: Iterable[int],
        coming: Iterable[int],
        *,
        snap: int = 65549,
        packets: int = 16384,
        size: int = 8 << 20,
        spare: int = 0,
    ) -> None:
        self._records = np.zeros(packets, RECORD)
        self._size, self._bytes = size, np.zeros(size + spare, np.uint8)
        self._words = np.zeros(WORDS, np.uint64)
        self._wanted = _wanted(leaving, coming)
        self._next = self._wanted, np.zeros(1, np.uint64)
        for word, value in (
            (WANTED, self._wanted.ctypes.data),
            (SNAP, min(snap, size)),
            (RECORDS, self._records.ctypes.data),
            (N_RECORDS, packets),
            (BYTES, self._bytes.ctypes.data),
            (N_BYTES, size),
        ):
            self._words[word] = value

    @property
    def missed(self) -> int:
        """Packets for which there was no room."""
        return int(self._words[MISSED])

    def begin(self, control: NDArray[np.uint64]) -> None:
        """Have the worker of that control block copy packets, from its next call on."""
        _store(control.ctypes.data + 8 * c.CAPTURE, self._words.ctypes.data)
        c.watch(control, c.CAPTURES, on=True)

    @staticmethod
    def end(control: NDArray[np.uint64]) -> None:
        """Have it copy no more. The ring must live on until the worker has passed a quiet point."""
        c.watch(control, c.CAPTURES, on=False)
        control[c.CAPTURE] = 0

    def follow(self, leaving: Iterable[int], coming: Iterable[int]) -> list[tuple[int, int, int]]:
        """What is to be stored (graph.exchange.move) when nodes get other numbers: these are wanted."""
        if int(self._words[WANTED]) == self._next[0].ctypes.data:
            self._wanted = self._next[0]
        made = _wanted(leaving, coming)
        self._next = made, np.array([made.ctypes.data], np.uint64)
        return [(self._words.ctypes.data + 8 * WANTED, self._next[1].ctypes.data, 1)]

    def waiting(self, most: int = 4096) -> Packets:
        """The packets that wait, at most so many; free gives their room back."""
        made = _load(self._words.ctypes.data + 8 * MADE)
        taken = int(self._words[TAKEN])
        numbers = np.arange(taken, min(made, taken + most)) % self._records.size
        records = self._records[numbers]
        return Packets(
            records, self._bytes, (records["at"] % np.uint64(self._size)).astype(np.int64)
        )

    def free(self, packets: Packets) -> None:
        """Give back the room of what waiting returned."""
        records = packets.records
        if records.size:
            base = self._words.ctypes.data
            last = records[-1]
            _store(base + 8 * FREED, int(last["at"]) + int(last["length"]))
            _store(base + 8 * TAKEN, int(self._words[TAKEN]) + records.size)


def _wanted(leaving: Iterable[int], coming: Iterable[int]) -> NDArray[np.uint8]:
    made = np.zeros(NODES, np.uint8)
    for nodes, how in ((leaving, LEAVING), (coming, COMING)):
        made[list(nodes)] |= how
    return made
