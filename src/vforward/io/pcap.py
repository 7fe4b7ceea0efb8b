# SPDX-License-Identifier: Apache-2.0
"""The pcap port: packets from one capture file, packets to another. For the format see pcap_file.

The file that is read is mapped, and the worker copies each record into buffers; nobody may shorten
it meanwhile (the system kills who reads beyond the end of a mapped file). Records lead to packets
as fast as the graph takes them: their time stamps are not looked at.

A vector that is sent is gathered in the staging array and written by one system call; its packets
bear the time of that call's beginning. After an error nothing more is written, and close takes off
what is not a whole vector.

    reader  u64[3]  worker: word 0 the next record's offset
                    port:   word 1 not 0: big-endian      word 2 the port's number
    writer  u64[8]  port:   words 0-3 descriptor, addresses of vf_write and clock_gettime, ns per
                            unit of the time stamps' fraction
                    worker: word 4 bytes written and known good     word 5 errno of a failure
                            words 6-7 struct timespec
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import PortError
from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.io import shim
from vforward.io.libc import libc_address
from vforward.io.null import NULL_TX
from vforward.io.pcap_file import (
    FILE_HEADER,
    RECORD_HEADER,
    SNAPLEN,
    Resolution,
    file_format,
    file_header,
    read_frames,
    write_frames,
)
from vforward.io.port import Port, RxEdge, Tables, TxEdge, default_mac
from vforward.jit.intrinsics import address, call2, call3
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.layout import EDGE_HELD, NIL, U8, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.chain import LONGEST, fill, gather, length
from vforward.memory.pool import Pool, put, put_one, take_one
from vforward.packet.checksum import complete

__all__ = ["PcapPort", "read_frames", "write_frames"]

AT, BIG_ENDIAN, NUMBER = 0, 1, 2
DESCRIPTOR, WRITE, CLOCK, NS_PER_UNIT, GOOD, FAILED, TIME = 0, 1, 2, 3, 4, 5, 6
CLOCK_REALTIME = 0
STAGING = 2 * SNAPLEN


class RxCount(Labels):
    """Counters of pcap-rx: what port.RxCount has, and what is wrong with records."""

    BYTES = 0, "bytes received", INFO
    NO_BUFFER = 1, "frames left where they were, since no buffer was free: calls", INFO
    CUT_OFF = 2, "the last record says that it is longer than the file: ignored", INFO
    TOO_LONG = 3, "records of more than 65549 bytes: skipped", INFO


class TxCount(Labels):
    """Counters of pcap-tx."""

    BYTES = 0, "bytes sent", INFO
    WRITE_FAILED = 1, "could not be written to the file"


@inline
def _word(file: Any, at: Any, big_endian: Any) -> Any:
    """The u32 at an offset, i64."""
    a, b = i64(file[at]), i64(file[at + 1])
    c, d = i64(file[at + 2]), i64(file[at + 3])
    little = d << 24 | c << 16 | b << 8 | a
    return a << 24 | b << 16 | c << 8 | d if big_endian else little


@kernel
def receive(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    pool: U64,
    file: U8,
    reader: U64,
) -> int:
    """The file's next records, up to a vector of them."""
    at = i64(reader[AT])
    n = 0
    while n < idx.size and at < file.size:
        left = file.size - at - RECORD_HEADER
        size = _word(file, at + 8, reader[BIG_ENDIAN]) if left >= 0 else i64(0)
        if size > left:
            count[RxCount.CUT_OFF] += u64(1)
            at = i64(file.size)
            break
        if size > LONGEST:
            count[RxCount.TOO_LONG] += u64(1)
            at += RECORD_HEADER + size
            continue
        row = take_one(pool)
        source = address(file) + at + RECORD_HEADER
        if row == NIL or not _filled(data, meta, pool, row, source, size, reader[NUMBER]):
            count[RxCount.NO_BUFFER] += u64(1)
            break
        idx[n] = row
        edge[n] = RxEdge.NEXT
        n += 1
        at += RECORD_HEADER + size
        count[RxCount.BYTES] += u64(size)
    reader[AT] = u64(at)
    return n


@inline
def _filled(data: Any, meta: Any, pool: Any, row: Any, source: Any, n: Any, port: Any) -> Any:
    """As fill; row is given back when the buffers run out."""
    done = fill(data, meta, pool, row, source, n, i64(port))
    if not done:
        put_one(pool, row)
    return done


@kernel
def send(
    data: Data,
    meta: Meta,
    idx: Rows,
    edge: Edges,
    count: Counts,
    pool: U64,
    staging: U8,
    writer: U64,
) -> None:
    """Write packets as records, as many at once as the staging array holds."""
    call2(i64(writer[CLOCK]), CLOCK_REALTIME, address(writer) + 8 * TIME)
    first = 0
    used = i64(0)
    for i in range(idx.size):
        row = i64(idx[i])
        complete(data, meta, row)
        whole = i64(length(meta, row))
        here = min(whole, SNAPLEN)
        if used + RECORD_HEADER + here > staging.size:
            _write_out(meta, idx, edge, count, pool, staging, writer, first, i, used)
            first = i
            used = i64(0)
        _store_word(staging, used, i64(writer[TIME]))
        _store_word(staging, used + 4, i64(writer[TIME + 1] // writer[NS_PER_UNIT]))
        _store_word(staging, used + 8, here)
        _store_word(staging, used + 12, whole)
        gather(data, meta, row, address(staging) + used + RECORD_HEADER, here)
        used += RECORD_HEADER + here
    _write_out(meta, idx, edge, count, pool, staging, writer, first, idx.size, used)


@inline
def _store_word(staging: Any, at: Any, value: Any) -> None:
    for i in range(4):
        staging[at + i] = value >> 8 * i & 0xFF


@kernel
def _write_out(
    meta: Any,
    idx: Any,
    edge: Any,
    count: Any,
    pool: Any,
    staging: Any,
    writer: Any,
    first: Any,
    end: Any,
    used: Any,
) -> None:
    """Write what is staged: the packets idx[first:end]. All of them are sent, or none is."""
    if writer[FAILED] == 0:
        done = call3(i64(writer[WRITE]), i64(writer[DESCRIPTOR]), address(staging), used)
        if done == used:
            writer[GOOD] += u64(used)
            count[TxCount.BYTES] += u64(used - RECORD_HEADER * (end - first))
            for i in range(first, end):
                edge[i] = EDGE_HELD
            put(pool, meta, idx[first:], end - first)
            return
        writer[FAILED] = u64(-done)
    for i in range(first, end):
        meta[idx[i]].reason = TxCount.WRITE_FAILED
        edge[i] = TxEdge.DROP
    count[TxCount.WRITE_FAILED] += u64(end - first)


RX = Node("pcap-rx", receive, RxEdge, RxCount, Kind.INPUT)
TX = Node("pcap-tx", send, TxEdge, TxCount)


def _at_once(path: str, flags: int) -> int:
    """Open a file; a named pipe is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


class PcapPort(Port):
    """A port on capture files. What is sent to one that does not write is swallowed.

    read, write: paths; write is made anew. resolution: of the time stamps written. Writing needs
    the shim: open raises ShimMissing without.
    """

    kind = "pcap"

    def __init__(
        self,
        *,
        read: Path | str | None = None,
        write: Path | str | None = None,
        resolution: Resolution = "ns",
        mac: bytes | None = None,
        mtu: int = 1500,
    ) -> None:
        self._given = mac
        self.mtu = mtu
        self._read = None if read is None else Path(read)
        self._write = None if write is None else Path(write)
        self._resolution: Resolution = resolution
        self._file: NDArray[np.uint8] | None = None
        self._reader = np.zeros(3, np.uint64)
        self._writer = np.zeros(8, np.uint64)
        self._descriptor = -1

    def open(self, number: int, pool: Pool) -> None:
        """Map the one file and begin the other. Raises PortError, ShimMissing."""
        self.mac = self._given or default_mac(number)
        if self._read is not None:
            self._open_read(self._read, number)
        if self._write is not None:
            self._open_write(self._write)

    def rx(self) -> tuple[Node, Tables] | None:
        """The node that reads, if a file to read was given."""
        if self._file is None:
            return None
        return RX, {"file": self._file, "reader": self._reader}

    def tx(self) -> tuple[Node, Tables]:
        """The node that writes, or swallows if no file to write was given."""
        if self._write is None:
            return NULL_TX, {}
        return TX, {"staging": np.zeros(STAGING, np.uint8), "writer": self._writer}

    def peer(self) -> str:
        """Why nothing more is written, where that is so."""
        failed = int(self._writer[FAILED])
        return f"{self._write}: {os.strerror(failed)}; nothing more is written" if failed else ""

    def close(self) -> None:
        """Unmap the one file and end the other with its last whole vector."""
        self._file = None
        if self._descriptor >= 0:
            if self._writer[FAILED]:
                os.ftruncate(self._descriptor, int(self._writer[GOOD]))
            os.close(self._descriptor)
            self._descriptor = -1

    def _open_read(self, path: Path, number: int) -> None:
        try:
            if self._write is not None and self._write.exists() and self._write.samefile(path):
                msg = f"{path}: cannot be read and written at once; write to another file"
                raise PortError(msg)
            with open(path, "rb", opener=_at_once) as file:
                head = file.read(FILE_HEADER)
                order = file_format(head, str(path)).byteorder
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            msg = f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
            raise PortError(msg) from error
        self._file = np.frombuffer(mapped, np.uint8)
        self._reader[:] = FILE_HEADER, order == "big", number

    def _open_write(self, path: Path) -> None:
        write = shim.address("vf_write")
        header = file_header(self._resolution)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o644)
            os.write(self._descriptor, header)
        except OSError as error:
            msg = f"{path}: cannot be written: {error.strerror}"
            raise PortError(msg) from error
        unit = 1 if self._resolution == "ns" else 1000
        words = (self._descriptor, write, libc_address("clock_gettime"), unit, len(header), 0, 0, 0)
        self._writer[:] = words
