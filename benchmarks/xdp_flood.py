# SPDX-License-Identifier: Apache-2.0
"""A program that sends frames faster than sockets can: the kernel's XDP test run with live frames.

    command(...)     its command line
    SIGTERM          ends it

A packet socket's sender is slower than what it is to measure: most forwarders keep up, and all look
alike. Here an XDP program runs for each frame of a BPF_PROG_TEST_RUN (Linux 5.18 on; root), gives it
the flow's number and redirects it to the interface. So a frame costs one CPU some 500 clocks, and
the forwarder's receiving, which on veth runs on the sender's CPU too, comes on top for all alike.

The other end of the pair must have GRO on: without NAPI a veth takes no such frames.

Sources: linux/bpf.h, bpf/bpf_prog_run.rst, bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import socket
import struct
import sys
from pathlib import Path

from vforward.control.demo_world import end_with_parent

PROGRAM = "import sys; sys.path[:0] = [sys.argv[1]]; from benchmarks.xdp_flood import main; main()"
FLOWS = 256
BATCH = 64
"""Frames that the kernel makes before it sends them; a veth's queue for them has 256 places."""
REPEAT = 1 << 20
"""Frames of one call. Each call makes pages for its frames and gives them back: some milliseconds."""

BPF = {"x86_64": 321, "aarch64": 280}
"""Number of the system call."""
PROG_LOAD, PROG_TEST_RUN = 5, 10
PROG_TYPE_XDP, XDP_DROP = 6, 1
LIVE_FRAMES = 1 << 1
GET_PRANDOM_U32, REDIRECT = 7, 23

# Bytes of an untagged Ethernet, IPv4 and UDP frame.
IDENT, TTL, SRC, DST, SRC_PORT = 18, 22, 29, 33, 35
HEADERS = 42
IDENT_BASE = 0x8000


def command(interface: str, frame: Path, cpu: int) -> list[str]:
    """Send frames like the file's to an interface, from a CPU."""
    checkout = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-c", PROGRAM, checkout, interface, str(frame), str(cpu)]


def ident(flow: int) -> int:
    """The identification of a flow's frame, by which all flows' headers have one checksum."""
    return IDENT_BASE - 2 * flow - ((flow & 15) << 8)


def program(ifindex: int, frame: bytes) -> bytes:
    """The XDP program's instructions. A frame gets the number n of a random flow: source address
    x.x.x.n, destination x.x.(n & 15).n, n as the low byte of its source port, and `ident`, so that the
    header's checksum stays right. MACs, TTL and checksum are those of the frame again: the kernel takes
    a page anew as it was left, by its router with another MAC and TTL.
    """
    r0, r1, r2, r3, r4, r7 = 0, 1, 2, 3, 4, 7
    made = [
        _op(0x61, r7, r1, 0),  # r7 = ctx->data
        _op(0x61, r3, r1, 4),  # r3 = ctx->data_end
        _op(0xBF, r2, r7),
        _op(0x07, r2, value=HEADERS),
        _op(0x2D, r2, r3, -1),  # if r2 > r3: drop; the distance is set below
        _op(0x85, value=GET_PRANDOM_U32),
        _op(0x57, r0, value=FLOWS - 1),
        _op(0xBF, r4, r0),
        _op(0x57, r4, value=15),
        _op(0xB7, r3, value=IDENT_BASE),
        _op(0x1F, r3, r0),
        _op(0x1F, r3, r0),
        *(_op(0x62, r7, 0, at, _word(frame, at)) for at in (0, 4, 8, TTL)),
        *(_op(0x73, r7, r0, at) for at in (SRC, DST, SRC_PORT)),
        _op(0x73, r7, r4, DST - 1),
        _op(0x67, r4, value=8),
        _op(0x1F, r3, r4),
        _op(0xDC, r3, value=16),  # to network order
        _op(0x6B, r7, r3, IDENT),
        _op(0xB7, r1, value=ifindex),
        _op(0xB7, r2, value=0),
        _op(0x85, value=REDIRECT),
        _op(0x95),
    ]
    made[4] = _op(0x2D, r2, r3, len(made) - 5)
    return b"".join([*made, _op(0xB7, r0, value=XDP_DROP), _op(0x95)])


def _word(frame: bytes, at: int) -> int:
    """Four bytes as a number that is stored as they are."""
    return struct.unpack_from("=i", frame, at)[0]


def _op(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, value)


def available() -> str:
    """Why there are no live frames here; empty if there are."""
    if platform.machine() not in BPF:
        return f"no number of bpf(2) is known for {platform.machine()}"
    try:
        os.close(load(program(1, bytes(HEADERS))))
    except OSError as error:
        return f"XDP programs cannot be loaded: {error}"
    return ""


def load(instructions: bytes) -> int:
    """Load an XDP program. Returns its descriptor. Raises OSError."""
    code, licence = ctypes.create_string_buffer(instructions), ctypes.create_string_buffer(b"GPL")
    where = ctypes.addressof(code), ctypes.addressof(licence)
    return _bpf(
        PROG_LOAD,
        struct.pack("=IIQQ24x", PROG_TYPE_XDP, len(instructions) // 8, *where) + bytes(80),
    )


def _bpf(call: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = ctypes.create_string_buffer(attributes, len(attributes))
    result = libc.syscall(BPF[platform.machine()], call, given, len(attributes))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf(2): {os.strerror(error)}")
    return int(result)


def main() -> None:
    """The program."""
    end_with_parent()
    _, _, interface, file, cpu = sys.argv
    os.sched_setaffinity(0, {int(cpu)})
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    wanted = Path(file).read_bytes()
    loaded = load(program(socket.if_nametoindex(interface), wanted))
    frame = ctypes.create_string_buffer(wanted)
    size = len(wanted)
    run = struct.pack(
        "=IIIIQQIIIIQQIII4x", loaded, 0, size, 0, ctypes.addressof(frame), 0, REPEAT, 0, 0, 0,
        0, 0, LIVE_FRAMES, 0, BATCH,
    )  # fmt: skip
    while not stopped:
        with contextlib.suppress(InterruptedError):
            _bpf(PROG_TEST_RUN, run)
