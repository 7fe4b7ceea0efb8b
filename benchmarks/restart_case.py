# SPDX-License-Identifier: Apache-2.0
"""restart-warm: from kill -9 of a daemon to the first packet that the next one has forwarded.

    h1 eth0 --- lan0 [ vforward run: firewall, masquerade ] wan0 --- eth0 h2

A program starts the daemon again as soon as it has ended, as a supervisor does (systemd's Restart=always
with RestartSec=0). h1 sends a datagram each millisecond, all of one flow; each says when it was sent. The
time ends when one that was sent after the kill has come to h2: so what was under way then counts for
nothing. All figures go by CLOCK_MONOTONIC; the value is the 95th percentile of so many kills.

    restart-standby   where a second daemon stands by (vforward run --standby): the program keeps two
    restart-warm      one daemon, started anew
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import missing, repeat, row
from benchmarks.peer_lab import MEMORY
from benchmarks.session import Session
from vforward.control.demo_world import (
    H1,
    H2,
    LAN,
    WAN,
    Failed,
    end,
    end_with_parent,
    may_use_interfaces,
    wire,
)
from vforward.layout import VECTOR_MAX
from vforward.testing.namespaces import Namespace, namespaces

CASE = "restart-warm"
KILLS = 20
PORT = 6000
EVERY_S = 0.001
PATIENCE_S = 900.0
SETTLE_S = 0.5
"""A daemon that has just come back is killed so much later: it is published, and forwards for a while."""
CONFIG = f"""\
[ports.lan]
type = "af_packet"
interface = "lan0"
address = "{LAN}/24"

[ports.wan]
type = "af_packet"
interface = "wan0"
address = "{WAN}/24"

[firewall]
default = "deny"

[[rules]]
name = "out"
action = "permit"
in = "lan"

[[nat]]
type = "masquerade"
out = "wan"
"""
LOOP = """\
import ctypes, signal, subprocess, sys, threading
libc = ctypes.CDLL(None)
def keep():
    while True:
        end = lambda: libc.prctl(1, signal.SIGTERM)
        subprocess.Popen(sys.argv[2:], stdout=sys.stderr, preexec_fn=end).wait()
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=keep).start()
keep()
"""
"""A supervisor of so many. They end with it."""
DAEMON = [sys.executable, "-c", "from vforward.control.main import main; main()", "run"]
STANDING = "standing by"
CASES = {"restart-standby": 2, CASE: 1}
"""How many processes there are."""


def restart_warm(session: Session) -> Iterator[dict[str, Any]]:
    """Seconds."""
    if not may_use_interfaces():
        yield missing(CASE, "s", session.gauge, "it needs root, or user namespaces")
        return
    for case, processes in CASES.items():
        with namespaces("h1", "router", "h2") as (h1, router, h2):
            wire(h1, router, h2)
            with _supervised(router, processes) as daemons, _stream(h1, h2) as stream:
                stream.first_after(time.monotonic())
                yield _row(session, case, daemons, stream)


def _row(session: Session, case: str, daemons: _Daemons, stream: _Stream) -> dict[str, Any]:
    times: list[float] = []

    def one() -> list[float]:
        daemons.settle()
        moment = time.monotonic()
        os.kill(daemons.pid(), signal.SIGKILL)
        times.append(stream.first_after(moment))
        return times[-1:]

    session.progress(case, 0, KILLS)
    found = repeat(one, session.gauge, KILLS, lambda n: session.progress(case, n, KILLS))
    flows = len(stream.sources)
    p95, middle = (float(np.percentile(times, share)) for share in (95, 50))
    note = f"p95; the median is {middle:.2f} s, the longest {max(times):.2f} s"
    if flows > 1:
        note += f"; NAT gave {flows} ports to one flow"
    return row(
        case, replace(found, value=p95), "s", vector=VECTOR_MAX, packets=1, touched=0, what=note,
        median_s=round(middle, 3), longest_s=round(max(times), 3), nat_ports=flows,
    )  # fmt: skip


class _Daemons:
    """The process that forwards, and the one that stands by, if there is one."""

    def __init__(self, arena: Path, said: Any, processes: int) -> None:
        self._arena, self._spare = arena, processes > 1
        self._due = processes if self._spare else 0
        self._standing = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._read, args=(said,), daemon=True)
        self._thread.start()

    def pid(self) -> int:
        """Of the one that forwards."""
        return int(json.loads((self._arena / "forwarder.json").read_text())["pid"])

    def settle(self) -> None:
        """Return when it has forwarded for a while, and the other stands by. Raises Failed."""
        for _ in range(self._due):
            if not self._standing.acquire(timeout=PATIENCE_S):
                raise Failed("nobody stands by")
        self._due = 1 if self._spare else 0  # from now on one is started for each that is killed
        time.sleep(SETTLE_S)

    def join(self) -> None:
        """Return when all have ended, and let go of what they say."""
        self._thread.join(PATIENCE_S)

    def _read(self, said: Any) -> None:
        for line in said:  # what the daemons say is among it
            if line.startswith(STANDING):
                self._standing.release()


@contextlib.contextmanager
def _supervised(router: Namespace, processes: int) -> Iterator[_Daemons]:
    with tempfile.TemporaryDirectory(prefix="vforward-bench-", dir=MEMORY) as directory:
        file = Path(directory) / "restart.toml"
        file.write_text(CONFIG)
        environment = f"VFORWARD_RUNTIME_DIR={directory}/run"
        spare = ["--standby"] if processes > 1 else []
        command = ("env", environment, sys.executable, "-c", LOOP, str(processes), *DAEMON)
        process = subprocess.Popen(
            router.command(*command, str(file), *spare), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
        )  # fmt: skip
        daemons = _Daemons(Path(directory) / "run" / "restart", process.stderr, processes)
        try:
            yield daemons
        finally:
            end(process)
            daemons.join()
            assert process.stderr is not None
            process.stderr.close()


class _Stream:
    """Datagrams from h1 to h2, one in EVERY_S, and when they came."""

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self.sources: set[Any] = set()
        self._sender, self._receiver = sender, receiver
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._stopping.wait(EVERY_S):
            with contextlib.suppress(OSError):  # while nobody answers its ARP
                self._sender.send(struct.pack("d", time.monotonic()))

    def first_after(self, moment: float) -> float:
        """Seconds from a moment until one that was sent after it has come. Raises Failed."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                data, source = self._receiver.recvfrom(64)
                now = time.monotonic()
                self.sources.add(source)
                if struct.unpack("d", data)[0] > moment:
                    return now - moment
        msg = f"nothing was forwarded for {PATIENCE_S:.0f} s"
        raise Failed(msg)

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()
        self._thread.join()


@contextlib.contextmanager
def _stream(h1: Namespace, h2: Namespace) -> Iterator[_Stream]:
    with contextlib.ExitStack() as stack:
        with h1.inside():
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with h2.inside():
            receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender.bind((H1, PORT))
        sender.connect((H2, PORT))
        receiver.bind((H2, PORT))
        receiver.settimeout(1.0)
        stream = _Stream(sender, receiver)
        stack.callback(stream.stop)
        yield stream
