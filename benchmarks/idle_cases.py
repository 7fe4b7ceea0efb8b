# SPDX-License-Identifier: Apache-2.0
"""An idle daemon: what it costs, and how soon it is awake: `vforward run` with two AF_PACKET ports on veth.

idle-cpu       processor time of the process, all its threads, by its own clock (clock_getcpuclockid(3)),
               which counts to the nanosecond what /proc/PID/stat samples
memory-idle    RssAnon + RssFile + RssShmem of /proc/PID/status: also what it shares with others; of TIMES
               daemons one after the other
wake-latency   h1 sends a frame when the worker has slept for a while; h2's kernel says when it came there

The frame's way takes in two runs through veth, the sender's and the forwarder's system calls, and the
wake-up of the CPU where it was idle. The program at h2, which has to be woken too, is told of beside.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peer_lab
from benchmarks.harness import LEAST, missing, repeat, row, whole
from benchmarks.peer_lab import LAN, LAN_MAC, NEXT_MAC, SIZE, WAN, WAN_MAC, Lab
from benchmarks.session import Session
from benchmarks.veth_cases import impossible
from vforward.control import observe
from vforward.control.demo_world import Failed
from vforward.graph import control as c

CONFIG = peer_lab.router_of(["10.9.0.0/16"])
NAME = "peer"
"""The forwarder's: the lab calls its file so."""
SETTLE_S = 3.0
"""From its start until nothing of that is under way: the API's server has loaded its framework."""
TIMES = LEAST
SECONDS = 3.0
PACKETS = 100
IDLE_S = 0.03
PATIENCE_S = 5.0
SO_TIMESTAMPNS = 35
NEAR_MAC = bytes.fromhex("020000000001")
RSS = ("RssAnon", "RssFile", "RssShmem")


def idle_cpu(session: Session) -> Iterator[dict[str, Any]]:
    """Percent of a core, the median of TIMES times SECONDS."""
    case, unit = "idle-cpu", "% of a core"
    if why := impossible(flood=False, program="", package=""):
        yield missing(case, unit, session.gauge, why)
        return
    with _daemon() as (_, pid):

        def run() -> list[float]:
            spent, begin = _spent(pid), time.perf_counter()
            time.sleep(SECONDS)
            return [100 * (_spent(pid) - spent) / (time.perf_counter() - begin)]

        session.progress(case, 0, TIMES)
        found = repeat(run, session.gauge, TIMES, lambda n: session.progress(case, n, TIMES))
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    yield row(
        case, found, unit, vector=256, packets=0, touched=0, seconds=TIMES * SECONDS,
        threads=threads, what=f"{TIMES} times {SECONDS:g} s, {threads} threads",
    )  # fmt: skip


def memory_idle(session: Session) -> Iterator[dict[str, Any]]:
    """Resident memory with tables of the default sizes, once all is loaded."""
    case, unit = "memory-idle", "MiB"
    if why := impossible(flood=False, program="", package=""):
        yield missing(case, unit, session.gauge, why)
        return
    every = []
    for n in range(TIMES):
        session.progress(case, n, TIMES)
        with _daemon() as (_, pid):
            every.append(_resident(pid))
    found = whole([sum(parts) for parts in every], session.gauge, disturbed=False)
    middle = np.median(every, axis=0)
    named = {name: round(float(part), 1) for name, part in zip(RSS, middle, strict=True)}
    said = ", ".join(f"{name} {part:g}" for name, part in named.items())
    yield row(
        case, found, unit, vector=256, packets=0, touched=0, what=f"{said}, medians", **named
    )  # fmt: skip


def wake_latency(session: Session) -> Iterator[dict[str, Any]]:
    """Microseconds, the 99th percentile; the median of TIMES rounds of PACKETS frames.

    pooled_us: that of all rounds' frames together, in which a round that was slow counts in full.
    """
    case, unit = "wake-latency", "us"
    if why := impossible(flood=False, program="", package=""):
        yield missing(case, unit, session.gauge, why)
        return
    waits: list[list[tuple[float, float]]] = []
    with _daemon() as (where, _), _ends(where) as (sender, receiver):

        def run() -> list[float]:
            with observe.attach(NAME) as view:
                control = view.arena.open("control")
                waits.append([_one(sender, receiver, control, n % 256) for n in range(PACKETS)])
            return [float(np.percentile([came for came, _ in waits[-1]], 99))]

        session.progress(case, 0, TIMES)
        found = repeat(run, session.gauge, TIMES, lambda n: session.progress(case, n, TIMES))
    every = np.array([wait for part in waits for wait in part])
    middle, (pooled, program) = float(np.median(every[:, 0])), np.percentile(every, 99, axis=0)
    yield row(
        case, found, unit, vector=1, packets=PACKETS, touched=SIZE, median_us=round(middle, 1),
        pooled_us=round(float(pooled), 1), program_us=round(float(program), 1),
        what=f"p99, {pooled:.0f} us of all {len(every)}; the median is {middle:.0f} us; p99 of a program "
        f"at the other end {program:.0f} us",
    )  # fmt: skip


@contextlib.contextmanager
def _daemon() -> Iterator[tuple[Lab, int]]:
    """An idle daemon in the middle of a lab: its process's number."""
    with peer_lab.lab() as where, _runtime(where.directory / "run"):
        where.hosts(("10.1.0.2", LAN), ("10.2.0.2", WAN))
        with where.ours(CONFIG) as pid:
            there = [peer_lab.frame(n, LAN_MAC, NEAR_MAC) for n in range(peer_lab.FLOWS)]
            wanted = [peer_lab.frame(n, NEXT_MAC, WAN_MAC, peer_lab.TTL - 1) for n in range(256)]
            where.probe(there, wanted, [])
            time.sleep(SETTLE_S)
            yield where, pid


@contextlib.contextmanager
def _runtime(directory: Path) -> Iterator[None]:
    """Where the lab's daemon has its arena, for us to look into."""
    before = os.environ.get("VFORWARD_RUNTIME_DIR")
    os.environ["VFORWARD_RUNTIME_DIR"] = str(directory)
    try:
        yield
    finally:
        os.environ.pop("VFORWARD_RUNTIME_DIR")
        if before is not None:
            os.environ["VFORWARD_RUNTIME_DIR"] = before


@contextlib.contextmanager
def _ends(where: Lab) -> Iterator[tuple[socket.socket, socket.socket]]:
    with where._packet_socket(where.h1) as sender, where._packet_socket(where.h2) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.settimeout(PATIENCE_S)
        yield sender, receiver


def _one(
    sender: socket.socket, receiver: socket.socket, control: Any, number: int
) -> tuple[float, float]:
    """Microseconds from before a frame is sent until it is at h2, and until its program has it."""
    _await_sleep(control)
    frame = peer_lab.frame(number, LAN_MAC, NEAR_MAC)
    begin = time.time_ns()
    sender.send(frame)
    came, told, _, _ = receiver.recvmsg(2048, 256)
    end = time.time_ns()
    if came != peer_lab.frame(number, NEXT_MAC, WAN_MAC, peer_lab.TTL - 1):
        msg = f"another frame came than was sent: {came.hex()}"
        raise Failed(msg)
    stamps = [data for level, kind, data in told if (level, kind) == (socket.SOL_SOCKET, 35)]
    seconds, nanoseconds = struct.unpack("=qq", stamps[0])
    return (seconds * 10**9 + nanoseconds - begin) / 1e3, (end - begin) / 1e3


def _await_sleep(control: Any) -> None:
    """Return when the worker has slept, and again for a while."""
    slept, deadline = int(control[c.SLEEPS]), time.monotonic() + PATIENCE_S
    while int(control[c.SLEEPS]) < slept + 1:
        if time.monotonic() > deadline:
            msg = "the worker does not sleep"
            raise Failed(msg)
        time.sleep(IDLE_S)


def _spent(pid: int) -> float:
    """Seconds of processor time of a process, all threads: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)."""
    return time.clock_gettime(~pid << 3 | 2)


def _resident(pid: int) -> list[float]:
    """MiB of each of RSS."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return [int(told[name].split()[0]) / 1024 for name in RSS]
