# SPDX-License-Identifier: Apache-2.0
"""More who forwards in the middle of benchmarks.peer_lab, and more to measure them with.

DPDK's testpmd with its net_af_packet and net_af_xdp drivers; frames beyond what a socket can send
(benchmarks.xdp_flood); iperf3, ping, and system calls counted by perf.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks import peer_lab, perf, xdp_flood
from benchmarks.peer_lab import LAN_MAC, Lab, Turn, moved
from vforward.control.demo_world import Failed, end, end_with_parent
from vforward.testing import packets

NEAR_MAC = bytes.fromhex("020000000001")
PROGRAM, PACKAGE = "dpdk-testpmd", "dpdk-dev"
MEBIBYTES = 256
IPERF_PORT = 5201
START_S = 10.0
STREAM_S = 60.0


class Calls(NamedTuple):
    """System calls of a process while packets came to h2."""

    calls: int
    packets: int


class Pings(NamedTuple):
    """Round trips, microseconds, and how many were lost."""

    median: float
    p99: float
    lost: int


@contextlib.contextmanager
def testpmd(lab: Lab, driver: str, options: str) -> Iterator[None]:
    """io mode, as fast as it goes: what comes in at lan goes out at wan untouched, and back. Its
    main thread, which sleeps, is on the sender's CPU."""
    log = lab.directory / "testpmd"
    with log.open("wb") as said:
        process = subprocess.Popen(
            lab.m.command(*testpmd_command(lab.sender_cpu, lab.forwarder_cpu, driver, options)),
            stdin=subprocess.PIPE,  # its end ends it
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
    try:
        deadline = time.monotonic() + START_S
        while "Press enter to exit" not in (text := log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = [line for line in text.splitlines() if line.strip()]
                msg = f"{PROGRAM} does not forward: {lines[-1] if lines else 'no message'}"
                raise Failed(msg)
            time.sleep(0.05)
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        end(process)


def testpmd_command(main: int, worker: int, driver: str, options: str) -> list[str]:
    """The command line; main and worker are CPUs."""
    devices = (f"--vdev={driver}{n},iface={name}{options}" for n, name in enumerate(("lan", "wan")))
    return [
        *(
            "stdbuf",
            "-oL",
            PROGRAM,
            "--lcores",
            f"0@{main},1@{worker}",
            "--no-pci",
            "--no-telemetry",
        ),
        *(
            "--no-huge",
            "-m",
            str(MEBIBYTES),
            "--file-prefix",
            f"vforward-veth-{os.getpid()}",
            *devices,
        ),
        *("--", "--nb-cores=1", "--total-num-mbufs=16384", "--burst=64", "--auto-start"),
        "--forward-mode=io",
    ]


def flood(lab: Lab, seconds: float) -> Turn:
    """Let h1 send more than anybody forwards; what came to h2 in so many seconds."""
    command = flood_command(lab)
    start = moved(lab.m, "lan").received
    turn = lab.counted(command, seconds)
    if moved(lab.m, "lan").received == start:
        msg = "no live frames come: GRO is off at lan"
        raise Failed(msg)
    return turn


def flood_command(lab: Lab) -> list[str]:
    """The program that sends more than anybody forwards, for h1."""
    file = lab.directory / "frame"
    file.write_bytes(frame())
    return xdp_flood.command("eth0", file, lab.sender_cpu)


def frame() -> bytes:
    """Flow 0's frame as benchmarks.xdp_flood takes it: like peer_lab.frame's, without UDP checksum."""
    whole = peer_lab.frame(0, LAN_MAC, NEAR_MAC)
    udp = whole[34:40] + bytes(2) + whole[42:]
    ident = xdp_flood.ident(0)
    datagram = packets.ip4("10.8.0.0", "10.9.0.0", packets.PROTO_UDP, udp, ttl=64, ident=ident)
    return packets.eth(LAN_MAC, NEAR_MAC, packets.ETH_IP4, datagram)


def iperf(lab: Lab, address: str, seconds: float) -> float:
    """Bits per second of one TCP connection from h1 to h2, of iperf3's receiving end.

    Its ends run wherever Linux puts them: on one CPU the bridge is faster, ours slower.
    """
    server = subprocess.Popen(
        lab.h2.command("iperf3", "-s", "-1", "-B", address, "-p", str(IPERF_PORT)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=end_with_parent,
    )
    try:
        client = (
            "iperf3",
            "-J",
            "-c",
            address,
            "-p",
            str(IPERF_PORT),
            "-t",
            str(max(1, round(seconds))),
        )
        deadline = time.monotonic() + START_S
        while True:
            said = lab.h1.run(*client, "-O", "0.5", check=False, timeout=STREAM_S)
            with contextlib.suppress(ValueError, KeyError):
                return float(json.loads(said)["end"]["sum_received"]["bits_per_second"])
            if time.monotonic() > deadline or "refused" not in said:
                msg = f"iperf3: {said[-300:]}"
                raise Failed(msg)
            time.sleep(0.05)
    finally:
        end(server)


def calls(lab: Lab, pids: Sequence[int], seconds: float, command: Sequence[str]) -> Calls:
    """System calls of processes, all their threads, while a program of h1 sends."""
    found: list[Calls] = []

    def count() -> None:
        with perf.counting(pids) as counted:
            before = moved(lab.h2).received
            time.sleep(seconds)
            came = moved(lab.h2).received - before
        found.append(Calls(counted.calls, came))

    lab.during(list(command), count)
    return found[0]


def ping(lab: Lab, address: str, times: int, interval: float) -> Pings:
    """Round trips of pings from h1, by its own clock, on the sender's CPU."""
    said = lab.h1.run(
        *pinned(lab), "ping", "-n", "-i", str(interval), "-c", str(times), address, check=False
    )
    waits = sorted(float(word) * 1e3 for word in re.findall(r"time=([\d.]+) ms", said))
    if len(waits) < times // 2:
        msg = f"ping: {said[-300:]}"
        raise Failed(msg)
    return Pings(percentile(waits, 50), percentile(waits, 99), times - len(waits))


def pinned(lab: Lab) -> tuple[str, ...]:
    """What goes before a command that is to run on the sender's CPU."""
    return ("taskset", "-c", str(lab.sender_cpu))


def percentile(figures: list[float], part: float) -> float:
    """The least of sorted figures that is not below so many percent of them."""
    return figures[max(0, math.ceil(len(figures) * part / 100) - 1)]
