# SPDX-License-Identifier: Apache-2.0
"""chain: a service chain of 1 to 8 functions, in one process, in processes and over interfaces.

    chain-process-N     all of them nodes of one graph
    chain-rings-N       each a process; rows of shared buffers go from ring to ring
    chain-wires-N       each a process between two veth pairs, with packet sockets as a forwarder has
    chain               packets per second with 8 functions, in one process over the others

The function is the same compiled code everywhere (benchmarks.chain_nodes). A row has packets per second,
and for each packet that went the whole way the ``copies`` of its bytes and system ``calls``. Each way's
source writes every byte of each packet, and its end looks at what has come: order, place and TTL with the
rings, TTL in one process, whole frames (of a probe) over wires. All processes share all CPUs.

Calls are counted by perf in all ways, RUNS times apart from the rates, of the processes that the functions
are in: with one process and with rings of the one that sends, too. Over rings they are sched_yield, where a
process has nothing to do. Copies are not measured: they are counted in the code. With one process and with
rings it makes none. Over wires they are those of io.af_packet: the sender's; and for each member the
kernel's into the ring, the one from there, and the kernel's out of the member's buffer (by AF_XDP there is
one more between).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import chain_member, chain_nodes, graphs, perf, veth_lab
from benchmarks.frames import FRAME_BYTES, udp_frame
from benchmarks.harness import LEAST, Measured, clock, missing, repeat, row, tsc_hz, whole
from benchmarks.loads import PASSED, WIRES
from benchmarks.peer_lab import TTL, frame, lab
from benchmarks.plot import plot_chain
from benchmarks.ratios import of_medians
from benchmarks.session import Session, arena
from benchmarks.veth_cases import FLOWS, impossible
from vforward.control.demo_world import Failed, end, end_with_parent
from vforward.io.libc import libc_address
from vforward.layout import HEADROOM, VECTOR_MAX
from vforward.memory.pool import Pool
from vforward.rings.spsc import items_for
from vforward.testing.namespaces import veth

CASE = "chain"
FUNCTIONS = tuple(range(1, 9))
WAYS = ("process", "rings", "wires")
UNIT = "packets/s"
RUNS = LEAST
PACKETS = 1 << 16
"""Of a run with rings."""
VECTORS = 16
"""Of a run in one process."""
COUNTED = 1 << 20
"""Packets of a count of system calls in one process and with rings."""
BUFFERS = 4096
UNDER_WAY = 2048
SLOTS = 4096
SHARE = 40
"""A run over wires takes this part of a case's time: 0.5 s."""
HOW = "copies counted in the code, calls by perf"


class Figures(NamedTuple):
    """What a way comes to: packets per second; of each packet copies, and system calls (None: no perf)."""

    rates: Measured
    copies: int
    calls: Measured | None


def chain(session: Session) -> Iterator[dict[str, Any]]:
    """Rows of all ways and lengths; the last row: what the longest chain costs outside of one process."""
    rows: list[dict[str, Any]] = []
    longest: dict[str, Measured] = {}
    for way in WAYS:
        why = impossible(flood=False, program="", package="") if way == "wires" else ""
        for n in FUNCTIONS:
            name = f"{CASE}-{way}-{n}"
            if why:
                yield missing(name, UNIT, session.gauge, why)
                continue
            found = MEASURE[way](session, n)
            longest[way] = found.rates  # the last is
            rows.append(_row(name, way, n, found))
            yield rows[-1]
    plot = session.plot_to(CASE)
    plot_chain(plot, rows)
    ratios = {
        way: of_medians(longest["process"], each)
        for way, each in longest.items()
        if way != "process" and each.value
    }
    most = max(ratios, key=lambda way: ratios[way].value)
    yield PASSED._asdict() | row(
        CASE, ratios[most], "x", vector=VECTOR_MAX, packets=0, touched=FRAME_BYTES,
        functions=FUNCTIONS[-1], cpus=len(os.sched_getaffinity(0)), plot=str(plot),
        ratios={way: round(each.value, 1) for way, each in ratios.items()},
        what=f"packets/s of {FUNCTIONS[-1]} functions in one process / over {most}",
    )  # fmt: skip


def _row(name: str, way: str, functions: int, found: Figures) -> dict[str, Any]:
    calls: dict[str, Any] = {"calls": None}
    if found.calls:
        value = float(f"{found.calls.value:.3g}")
        calls = {"calls": value, "calls_spread": round(found.calls.spread, 4)}
    load = WIRES if way == "wires" else PASSED
    return load._asdict() | row(
        name, found.rates, UNIT, vector=VECTOR_MAX, packets=0, touched=FRAME_BYTES, way=way,
        functions=functions, copies=found.copies, **calls, cpus=len(os.sched_getaffinity(0)),
        what=HOW,
    )  # fmt: skip


def in_process(session: Session, n: int) -> Figures:
    """Source, functions and end are nodes of one graph."""
    hz = tsc_hz()
    with arena() as memory:
        bench = graphs.chain(memory, chain_nodes.FUNCTION, n)

        def run() -> list[float]:
            start = clock()
            bench.run(VECTOR_MAX, VECTORS)
            return [float(clock() - start) / (VECTORS * VECTOR_MAX)]

        def count() -> float:
            runs = -(-COUNTED // (VECTORS * VECTOR_MAX))
            with perf.counting([os.getpid()]) as counted:
                for _ in range(runs):
                    bench.run(VECTOR_MAX, VECTORS)
            return counted.calls / (runs * VECTORS * VECTOR_MAX)

        found = session.measure(f"{CASE}-process-{n}", run, len(FUNCTIONS))
        calls = _calls(session, count)
        ttls = bench.graph.pool.data[bench._rows, HEADROOM + chain_nodes.TTL]
        _assert((ttls == TTL - n).all(), f"not all packets went through {n} functions")
    return Figures(found.inverted(hz), 0, calls)


def on_rings(session: Session, n: int) -> Figures:
    """A process for each function; the source and the end are one more, this one."""
    name = f"{CASE}-rings-{n}"
    with arena("-chain") as memory, contextlib.ExitStack() as stack:
        pool = Pool(memory, BUFFERS)
        rings = [
            memory.make(f"ring-{k}", items_for(SLOTS, np.uint32), np.uint32) for k in range(n + 1)
        ]
        words = memory.make("words", 8, np.uint64)
        own = memory.make("own", (n + 1, 8), np.uint64)
        stack.callback(words.__setitem__, chain_nodes.STOP, 1)
        commands = [chain_member.ring_command(memory.name, k) for k in range(n)]
        pids = [os.getpid(), *_pids(stack.enter_context(_members(commands)))]
        given = (
            pool.data, pool.meta, rings[0], rings[n], own[0], libc_address("sched_yield"),
            pool.take(UNDER_WAY), np.zeros(VECTOR_MAX, np.uint32),
            np.frombuffer(bytearray(udp_frame(0x0A000002, 0x0B000001)), np.uint8),
            np.zeros(2, np.uint64),
        )  # fmt: skip
        chain_nodes.drive(*given, VECTOR_MAX, TTL - n)

        def run() -> list[float]:
            start = clock()
            chain_nodes.drive(*given, PACKETS, TTL - n)
            return [PACKETS * float(tsc_hz()) / float(clock() - start)]

        def count() -> float:
            with perf.counting(pids) as counted:
                before = int(own[:, chain_nodes.YIELDS].sum())
                chain_nodes.drive(*given, COUNTED, TTL - n)
                yields = int(own[:, chain_nodes.YIELDS].sum()) - before
            # Each process may have counted one that it has not made yet.
            enough = counted.calls + len(pids) >= yields
            _assert(enough, f"perf counted {counted.calls} calls where there were {yields}")
            return counted.calls / COUNTED

        found = repeat(run, session.gauge, RUNS, lambda done: session.progress(name, done, RUNS))
        calls = _calls(session, count)
        wrong = int(own[:, chain_nodes.WRONG].sum())
        _assert(not wrong, f"{wrong} packets came back other than they should")
    return Figures(found, 0, calls)


def on_wires(session: Session, n: int) -> Figures:
    """A process for each function, between veth pairs one after the other."""
    name = f"{CASE}-wires-{n}"
    seconds = session.limit_s / SHARE
    there = [frame(k, b"\2" * 6, veth_lab.NEAR_MAC) for k in range(FLOWS)]
    wanted = [frame(k, b"\2" * 6, veth_lab.NEAR_MAC, TTL - n) for k in range(FLOWS)]
    with lab() as where, contextlib.ExitStack() as stack:
        ends = ["lan"]
        for k in range(n - 1):
            veth(where.m, f"out{k}", where.m, f"in{k}")
            ends += [f"out{k}", f"in{k}"]
        ends.append("wan")
        commands = [
            where.m.command(*chain_member.wire_command(one, other))
            for one, other in zip(ends[::2], ends[1::2], strict=True)
        ]
        said = stack.enter_context(_members(commands))
        where.probe(there, wanted, [])

        def run() -> list[float]:
            return [where.udp(there, seconds).rate]

        def count() -> float:
            counted = veth_lab.calls(where, _pids(said), seconds, where.udp_command(there))
            return counted.calls / counted.packets

        found = repeat(run, session.gauge, RUNS, lambda done: session.progress(name, done, RUNS))
        calls = _calls(session, count)
    copies = 1 + sum(4 if "AF_XDP" in words.partition("go out")[2] else 3 for words in said)
    return Figures(found, copies, calls)


MEASURE: dict[str, Callable[[Session, int], Figures]] = {
    "process": in_process,
    "rings": on_rings,
    "wires": on_wires,
}


@contextlib.contextmanager
def _members(commands: Sequence[list[str]]) -> Iterator[list[str]]:
    """Processes of the chain, started together; the lines that they have said when they were ready."""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_member(command)) for command in commands]
        said = []
        for process in processes:
            assert process.stdout is not None
            said.append(process.stdout.readline().strip())
            if not said[-1].startswith(chain_member.READY):
                msg = f"a member of the chain does not begin, exit status {process.wait()}"
                raise Failed(msg)
        yield said


@contextlib.contextmanager
def _member(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        preexec_fn=end_with_parent,
    )  # fmt: skip
    try:
        yield process
    finally:
        end(process)
        assert process.stdout is not None
        process.stdout.close()


def _pids(said: Sequence[str]) -> list[int]:
    """The process's number in what each member has said."""
    return [int(words.split()[1]) for words in said]


def _calls(session: Session, count: Callable[[], float]) -> Measured | None:
    """System calls for each packet: of so many counts as there are runs. None where perf does not count."""
    try:
        figures = [count() for _ in range(RUNS)]
    except perf.NotCounted:
        return None
    return whole(figures, session.gauge, disturbed=False)


def _assert(right: bool, message: str) -> None:
    if not right:
        raise AssertionError(message)
