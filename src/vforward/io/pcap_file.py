# SPDX-License-Identifier: Apache-2.0
"""The classic pcap file, read and written by plain Python.

    file    magic u32, version u16 u16, zone i32, accuracy u32, longest frame u32, link type u32
    record  seconds u32, fraction u32, bytes here u32, bytes on the wire u32, the frame

The magic is 0xa1b2c3d4 (fraction in microseconds) or 0xa1b23c4d (nanoseconds) in the byte order of
all the words. Source: draft-ietf-opsawg-pcap, sections 4 and 5; pcap-savefile(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from vforward.errors import PortError

FILE_HEADER, RECORD_HEADER = 24, 16
ETHERNET = 1
SNAPLEN = 262144
"""Bytes of a frame that are written at most."""

MAGIC_US, MAGIC_NS, MAGIC_PCAPNG = 0xA1B2C3D4, 0xA1B23C4D, 0x0A0D0D0A

ByteOrder = Literal["little", "big"]
Resolution = Literal["ns", "us"]


class Format(NamedTuple):
    """What a file's header says."""

    byteorder: ByteOrder
    resolution: Resolution


def file_format(head: bytes, where: str) -> Format:
    """Read a file's first FILE_HEADER bytes. Raises PortError, naming what is wrong."""
    if len(head) < FILE_HEADER:
        msg = f"{where}: {len(head)} bytes, shorter than the header of a pcap file"
        raise PortError(msg)
    orders: tuple[ByteOrder, ...] = ("little", "big")
    for order in orders:
        magic = int.from_bytes(head[:4], order)
        if magic in (MAGIC_US, MAGIC_NS):
            link = int.from_bytes(head[20:24], order)
            if link != ETHERNET:
                msg = f"{where}: link type {link}; only Ethernet (1) can be read"
                raise PortError(msg)
            return Format(order, "us" if magic == MAGIC_US else "ns")
    if int.from_bytes(head[:4], "big") == MAGIC_PCAPNG:
        msg = f"{where}: a pcapng file; convert it: editcap -F pcap {where} {where}.pcap"
    else:
        msg = f"{where}: not a pcap file (it begins with {head[:4].hex()})"
    raise PortError(msg)


def file_header(resolution: Resolution = "ns", byteorder: ByteOrder = "little") -> bytes:
    """The header of an Ethernet file."""
    magic = MAGIC_NS if resolution == "ns" else MAGIC_US
    mark = "<" if byteorder == "little" else ">"
    return struct.pack(mark + "IHHiIII", magic, 2, 4, 0, 0, SNAPLEN, ETHERNET)


def read_frames(path: Path | str) -> list[bytes]:
    """All frames of a file; a last record that is cut off is left out.

    Raises PortError when it cannot be read or is no Ethernet pcap file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise PortError(msg) from error
    order = file_format(content[:FILE_HEADER], str(path)).byteorder
    frames, at = [], FILE_HEADER
    while at + RECORD_HEADER <= len(content):
        end = at + RECORD_HEADER + int.from_bytes(content[at + 8 : at + 12], order)
        if end > len(content):
            break
        frames.append(content[at + RECORD_HEADER : end])
        at = end
    return frames


def write_frames(
    path: Path | str,
    frames: Iterable[bytes],
    *,
    resolution: Resolution = "ns",
    byteorder: ByteOrder = "little",
    times_ns: Iterable[int] | None = None,
) -> None:
    """Write a file of frames, at the given times (ns since 1970), or one second apart from 0 on."""
    mark = struct.Struct("<IIII" if byteorder == "little" else ">IIII")
    parts = [file_header(resolution, byteorder)]
    given = list(frames)
    times = [i * 10**9 for i in range(len(given))] if times_ns is None else list(times_ns)
    for frame, time in zip(given, times, strict=True):
        fraction = time % 10**9 // (1 if resolution == "ns" else 1000)
        parts += [mark.pack(time // 10**9, fraction, len(frame), len(frame)), bytes(frame)]
    Path(path).write_bytes(b"".join(parts))
