# SPDX-License-Identifier: Apache-2.0
"""A capture that comes in pieces: into a file, or packet by packet onto the terminal."""

from __future__ import annotations

import json as jsonlib
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vforward.control import dissect
from vforward.control.capture_progress import Progress
from vforward.errors import VforwardError
from vforward.io.pcap_file import FILE_HEADER, RECORD_HEADER

_RECORD = struct.Struct("<IIII")


class Packet(NamedTuple):
    """A record: nanoseconds since 1970, bytes on the wire, and those that were kept."""

    time_ns: int
    size: int
    frame: bytes


def records(pieces: Iterable[bytes]) -> Iterator[Packet]:
    """The packets of a pcap file (little-endian, nanoseconds) as its pieces come."""
    left, skip = b"", FILE_HEADER
    for piece in pieces:
        left += piece
        at = skip
        while at + RECORD_HEADER <= len(left):
            seconds, rest, here, size = _RECORD.unpack_from(left, at)
            end = at + RECORD_HEADER + here
            if end > len(left):
                break
            yield Packet(seconds * 10**9 + rest, size, left[at + RECORD_HEADER : end])
            at = end
        if at > skip or skip == 0:
            left, skip = left[at:], 0


def packets(pieces: Iterable[bytes], *, json: bool) -> None:
    """Print the packets, a line each."""
    for packet in records(pieces):
        text = dissect.frame(packet.frame)
        if json:
            sys.stdout.write(_as_json(packet, text) + "\n")
        else:
            moment = datetime.fromtimestamp(packet.time_ns // 10**9).astimezone()
            micro = packet.time_ns % 10**9 // 1000
            sys.stdout.write(f"{moment:%H:%M:%S}.{micro:06d} {packet.size:5} {text}\n")
        sys.stdout.flush()


def copy(pieces: Iterable[bytes], to: Path) -> None:
    """Write the file as it comes. Raises VforwardError."""
    try:
        with ExitStack() as stack:
            file: BinaryIO = sys.stdout.buffer
            if str(to) != "-":
                file = stack.enter_context(to.open("wb"))
            for piece in pieces:
                file.write(piece)
                file.flush()
    except OSError as error:
        raise VforwardError(f"{to}: {error.strerror}") from error


def summary(progress: Progress) -> str:
    """How a capture ended, in words."""
    parts = [f"{progress.packets:,} packet{'' if progress.packets == 1 else 's'} captured"]
    if progress.unwanted:
        parts.append(f"{progress.unwanted:,} not of the filter")
    if progress.missed:
        parts.append(f"{progress.missed:,} missed: they came faster than they could be taken")
    return "; ".join(parts)


def _as_json(packet: Packet, text: str) -> str:
    row = {"time": packet.time_ns / 1e9, "bytes": packet.size, "text": text}
    return jsonlib.dumps(row | {"data": packet.frame.hex()})
