# SPDX-License-Identifier: Apache-2.0
"""A process of a service chain: between two rings of an arena, or between two Linux interfaces.

    ring_command(arena, n)      the member between the rings n and n + 1
    wire_command(one, other)    what comes in at one interface goes out at the other

When it is ready it writes READY, its process's number, and over wires how its port sends.
The one ends when the arena's word STOP is set, the other by SIGTERM; both with their parent.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from benchmarks import chain_nodes as nodes
from benchmarks.nodes import DROP
from benchmarks.session import arena
from vforward.control.demo_world import end_with_parent
from vforward.graph.build import Graph
from vforward.graph.worker import Worker
from vforward.io import shim
from vforward.io.af_packet import AfPacketPort
from vforward.io.libc import libc_address
from vforward.layout import VECTOR_MAX
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool

PROGRAM = "import sys; sys.path[:0] = [sys.argv[1]]; from benchmarks.chain_member import {0}; {0}()"
BUFFERS = 8192
READY = "ready"


def _command(function: str, *arguments: str) -> list[str]:
    checkout = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-c", PROGRAM.format(function), checkout, *arguments]


def ring_command(name: str, number: int) -> list[str]:
    """See the module."""
    return _command("on_rings", name, str(number))


def wire_command(one: str, other: str) -> list[str]:
    """See the module."""
    return _command("on_wires", one, other)


def on_rings() -> None:
    """The program between two rings."""
    end_with_parent()
    _, _, name, text = sys.argv
    number = int(text)
    shared = Arena.attach(name)
    data, meta = (shared.open(segment, writable=True) for segment in ("data", "meta"))
    source, sink = (shared.open(f"ring-{n}", writable=True) for n in (number, number + 1))
    words = shared.open("words", writable=True)
    own = shared.open("own", writable=True)[number + 1]
    given = np.zeros(VECTOR_MAX, np.uint32), np.zeros(VECTOR_MAX, np.uint8), np.zeros(1, np.uint64)
    rest = own, libc_address("sched_yield"), *given
    nodes.member(
        data, meta, source, sink, np.ones(1, np.uint64), *rest
    )  # compiles, and ends at once
    print(READY, os.getpid(), flush=True)
    nodes.member(data, meta, source, sink, words, *rest)


def on_wires() -> None:
    """The program between two interfaces. It sleeps when nothing comes."""
    end_with_parent()
    _, _, one, other = sys.argv
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with arena(f"-{one}") as memory:
        graph = Graph(memory, Pool(memory, BUFFERS))
        ports = AfPacketPort(one), AfPacketPort(other)
        graph.add(DROP, "drop")
        graph.add(nodes.FUNCTION)
        try:
            for number, port in enumerate(ports, 1):
                port.open(number, graph.pool)
            graph.add(ports[0].rx()[0], "rx", **ports[0].rx()[1])
            graph.add(ports[1].tx()[0], "tx", **ports[1].tx()[1])
            for name, edge, to in (
                ("rx", "next", nodes.FUNCTION.name),
                (nodes.FUNCTION.name, "next", "tx"),
                (nodes.FUNCTION.name, "drop", "drop"),
                ("tx", "drop", "drop"),
            ):
                graph.wire(name, edge, to)
            worker = Worker(
                graph.build(), descriptors=ports[0].descriptors(),
                poll=shim.address("vf_ppoll"), read=libc_address("read"),
            )  # fmt: skip
            worker.prepare()
            worker.start()
            print(READY, os.getpid(), ports[1].peer(), flush=True)
            stop.wait()
            worker.close()
        finally:
            for port in ports:
                port.close()
