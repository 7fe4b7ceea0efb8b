# SPDX-License-Identifier: Apache-2.0
"""Our vhost-user port beside DPDK's (net_vhost), in one run: the same driver, the same direction.

The driver is DPDK's virtio_user in testpmd, a process on the last CPU; the backends take turns on the
first: a worker of ours in this process, and testpmd with net_vhost. What is compared is what the
driver says of itself, packets per second, in SECONDS full seconds of each of TIMES turns: those seconds of
both during which the two CPUs were equally far apart (benchmarks.distance), one by one; the ratio is the
median. Frames of 64 bytes. What is not installed has a row that says so.

All memory lies on pages of 2 MiB where DPDK can have such (benchmarks.huge_pages): ours in the arena,
DPDK's, that of the driver too, in files without a name (--in-memory, --single-file-segments). Else DPDK has
--no-huge and so 4 KiB, and ours still what the kernel makes of it; `pages` says what it was.

testpmd takes 32 packets at a time if it is not told otherwise, our nodes up to 256. So net_vhost takes part
twice, with bursts of 32 and of 256, and ours is compared with whichever does better. The driver is the same
for all and has bursts of 32.

The driver has one CPU, and may be what limits all of them. So rows also say how many clocks a backend
spends on a packet when it has some (`clocks`, of each turn at one distance): ours by the counters of its
nodes, net_vhost by its own count (--record-core-cycles). `clocks_ratio` at the end is theirs over ours.

    vhost-rx     driver txonly     backend receives and drops       (net_vhost: rxonly)
    vhost-tx     driver rxonly     backend makes packets and sends  (net_vhost: txonly)
    vhost-echo   driver flowgen    backend swaps MACs and returns   (net_vhost: macswap)
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import peer_versions
from benchmarks.distance import Figure, Watch, ratios, steady, together, wherever
from benchmarks.harness import LEAST, missing, row, whole
from benchmarks.huge_pages import LARGE, SMALL, page_size, reserved
from benchmarks.nodes import DROP
from benchmarks.session import Session, arena
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.worker import Worker
from vforward.io.generator import GeneratorPort
from vforward.io.port import Port
from vforward.io.vhost import VhostUserPort
from vforward.jit import be
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import VECTOR_MAX, Counts, Data, Edges, Meta, Rows
from vforward.memory.pool import Pool

PROGRAM = "dpdk-testpmd"
PACKAGE = "dpdk-dev"
TIMES, SECONDS = LEAST, 4
LOOK_S = 0.2
START_S = 30.0
BUFFERS = 4096
MEBIBYTES = 256
ROOM = 2 * MEBIBYTES + 64
"""For two testpmds, and for our pool where hugetlbfs is mounted: MiB."""


class Way(NamedTuple):
    """A direction: what driver and net_vhost are told to do, and which figure counts."""

    driver: str
    theirs: str
    figure: str


class Options(NamedTuple):
    """What a testpmd is told besides: DPDK's environment, its device (``,key=value``), itself.

    huge: its memory lies on pages of 2 MiB.
    """

    environment: tuple[str, ...] = ()
    device: str = ""
    program: tuple[str, ...] = ()
    huge: bool = False


PLAIN, BURST = Options(), 32
"""testpmd as it comes, and how many packets it then takes at a time."""
WIDE = Options(program=(f"--burst={VECTOR_MAX}", "--mbcache=512"))
"""As many as our vectors have. Such a burst does not fit the cache of 250 buffers that it has else."""


Clocks = Callable[[], list[float]]
"""Tells afterwards how many clocks a backend spent on a packet when it had some; or nothing."""


class Turn(NamedTuple):
    """Packets per second, of some full seconds; clocks per packet over all of them, where that is known."""

    figures: list[Figure]
    clocks: tuple[Figure, ...] = ()  # one or none


class Contestant(NamedTuple):
    """Who takes part, in words; how many packets it takes at a time; a turn of it."""

    what: str
    vector: int
    turn: Callable[[bool], Turn]
    """With pages of 2 MiB for DPDK or not."""


WAYS = {
    "vhost-rx": Way("txonly", "rxonly", "Tx-pps"),
    "vhost-tx": Way("rxonly", "txonly", "Rx-pps"),
    "vhost-echo": Way("flowgen", "macswap", "Rx-pps"),
}


class Swapped(Labels):
    """The one way out."""

    NEXT = 0, "every packet"


@kernel
def swap_macs(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    """What testpmd's macswap does."""
    for i in range(idx.size):
        row, off = i64(idx[i]), i64(meta[idx[i]].off)
        first, second = be.load64(data, row, off), be.load32(data, row, off + 8)
        to, source = first >> u64(16), (first & u64(0xFFFF)) << u64(32) | u64(second)
        be.store64(data, row, off, source << u64(16) | to >> u64(32))
        be.store32(data, row, off + 8, i64(to & u64(0xFFFFFFFF)))
        edge[i] = Swapped.NEXT


SWAP = Node("bench-swap", swap_macs, Swapped)


def vhost_rx(session: Session) -> Iterator[dict[str, Any]]:
    """Guest to host, with a copy."""
    return _case(session, "vhost-rx")


def vhost_tx(session: Session) -> Iterator[dict[str, Any]]:
    """Host to guest, with a copy."""
    return _case(session, "vhost-tx")


def vhost_echo(session: Session) -> Iterator[dict[str, Any]]:
    """There and back."""
    return _case(session, "vhost-echo")


def _case(session: Session, case: str) -> Iterator[dict[str, Any]]:
    return compare(
        session,
        case,
        {
            "ours": Contestant("our port", VECTOR_MAX, partial(_turn, case, None)),
            "net_vhost": _net_vhost(case, BURST, PLAIN),
            f"net_vhost-{VECTOR_MAX}": _net_vhost(case, VECTOR_MAX, WIDE),
        },
    )


def _net_vhost(case: str, burst: int, options: Options) -> Contestant:
    return Contestant(f"net_vhost, bursts of {burst}", burst, partial(_turn, case, options))


def compare(
    session: Session, case: str, contestants: dict[str, Contestant], besides: str = ""
) -> Iterator[dict[str, Any]]:
    """Let contestants take turns, ours first; see rows. besides: what of ours lies on other pages."""
    if not shutil.which(PROGRAM):
        why = f"{PROGRAM}: not installed (Debian's package {PACKAGE})"
        yield missing(case, "x", session.gauge, why)
        return
    turns: dict[str, list[Turn]] = {name: [] for name in contestants}
    disturbed = False
    with reserved(ROOM) as huge:
        pages = f"ours {_pages_of_ours()}{besides}, DPDK {LARGE if huge else SMALL}"
        for turn in range(TIMES):
            for at, (name, contestant) in enumerate(contestants.items()):
                n = len(contestants)
                session.progress(f"{case} {name}", n * turn + at, n * TIMES)
                before = session.gauge.read()
                turns[name].append(contestant.turn(huge))
                disturbed |= session.gauge.disturbed(max(before, session.gauge.read()))
    yield from rows(session, case, contestants, turns, pages=pages, disturbed=disturbed)


def _pages_of_ours() -> str:
    """What a pool lies on here, such as at_work makes."""
    with arena("-pages") as memory:
        return page_size(Pool(memory, BUFFERS).data)


def rows(
    session: Session, case: str, contestants: dict[str, Contestant],
    turns: dict[str, list[Turn]], *, pages: str, disturbed: bool,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A row for each contestant, ours first; then ours over the other one that it does worst beside.

    Each ratio is of the distance at which most was measured of both. turns: by contestant. pages: what
    memory lies on, in words.
    """
    figures = {
        name: [each for turn in made for each in turn.figures] for name, made in turns.items()
    }
    clocks = {name: [each for turn in made for each in turn.clocks] for name, made in turns.items()}
    ours, *others = contestants
    pairs = {other: together(figures[ours], figures[other]) for other in others}
    used = {
        other: found[0] if found else wherever(figures[ours], figures[other])
        for other, found in pairs.items()
    }
    ratio = {other: float(np.median(found.ratios)) for other, found in used.items()}
    best = min(ratio, key=lambda other: ratio[other])
    first = used[best]
    shown = [(ours, first.ours, first, {})]
    shown += [(o, used[o].theirs, used[o], {"ratio": round(ratio[o], 3)}) for o in others]
    for name, values, at, more in shown:
        yield _row(
            session, f"{case}-{name}", [value / 1e6 for value in values], "Mpps", disturbed,
            rejected=len(figures[name]) - len(values), round_trip=round(at.distance),
            vector=contestants[name].vector, what=contestants[name].what,
            best=round(max(figure.value for figure in figures[name]) / 1e6, 3),
            seconds=[
                (round(value / 1e6, 2), at and round(at)) for value, at in figures[name]
            ],
            **_found(clocks=[(round(value, 1), round(at or 0)) for value, at in clocks[name]]), **more,
        )  # fmt: skip
    note = "the CPUs were nowhere long enough: all seconds are compared"
    doubt = {} if pairs[best] else {"note": note}
    yield _row(
        session, case, first.ratios, "x", disturbed,
        rejected=len(figures[ours]) - len(first.ratios), round_trip=round(first.distance),
        vector=VECTOR_MAX, ratios=ratios(pairs[best]), pages=pages,
        **_found(clocks_ratio=ratios(together(clocks[best], clocks[ours]))),
        what=f"packets per second, {contestants[ours].what} / {contestants[best].what}", **doubt,
    )  # fmt: skip


def _found(**what: Any) -> dict[str, Any]:
    """Without what is empty."""
    return {key: value for key, value in what.items() if value}


def _row(
    session: Session, case: str, values: list[float], unit: str, disturbed: bool, *, rejected: int,
    vector: int, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    measured = replace(whole(values, session.gauge, disturbed=disturbed), rejected=rejected)
    return row(
        case, measured, unit, vector=vector, packets=0, touched=64, peer=peer_versions.dpdk(), **more
    )  # fmt: skip


def _turn(case: str, options: Options | None, huge: bool) -> Turn:
    """The driver's packets per second with a backend, and the backend's clocks. options: None is ours."""
    way = WAYS[case]
    with tempfile.TemporaryDirectory(prefix="vf-bench-") as place:
        path = Path(place) / "sock"
        ours = options is None
        backend = _ours(way, path) if ours else _theirs(options._replace(huge=huge), way, path)
        with backend as clocks, _driver(way, path, huge) as log:
            figures = full_seconds(log, way.figure)
        at = steady([np.inf if figure.distance is None else figure.distance for figure in figures])
        return Turn(figures, tuple(Figure(n, at) for n in clocks() if at is not None))


@contextlib.contextmanager
def at_work(port: Port, wire: Callable[[Graph], None]) -> Iterator[Clocks]:
    """A worker of ours on the first CPU, with the port's nodes rx and tx, and drop; wire adds the rest.

    The clocks are those of all nodes, for each packet that came or went by the port.
    """
    clocks: list[float] = []
    with arena() as memory:
        graph = Graph(memory, Pool(memory, BUFFERS))
        graph.add(DROP, "drop")
        port.open(1, graph.pool)
        try:
            for name, (node, tables) in (("tx", port.tx()), ("rx", port.rx())):
                graph.add(node, name, **tables)
            graph.wire("tx", "drop", "drop")
            wire(graph)
            worker = Worker(graph.build(), core=min(os.sched_getaffinity(0)))
            worker.prepare()
            port.attach(worker.quiesce)
            worker.start()
            try:
                yield lambda: clocks
            finally:
                worker.close()
                stats = worker.plan.stats.reshape(-1, c.STATS)
                clocks += _clocks({name: stats[m.number] for name, m in graph.members.items()})
        finally:
            port.close()


def _clocks(stats: Mapping[str, Sequence[int]]) -> list[float]:
    """Of all nodes, for each packet that came, or was sent where none came. stats: by node."""
    packets = int(stats["rx"][c.PACKETS])
    if not packets:
        packets = int(stats["tx"][c.PACKETS]) - int(stats["drop"][c.PACKETS])
    return [sum(int(each[c.CLOCKS]) for each in stats.values()) / packets] if packets else []


def _ours(way: Way, path: Path) -> contextlib.AbstractContextManager[Clocks]:
    return at_work(VhostUserPort(str(path)), partial(_wire, way))


def _wire(way: Way, graph: Graph) -> None:
    if way.theirs == "macswap":
        graph.add(SWAP, "swap")
        graph.wire("rx", "next", "swap")
        graph.wire("swap", "next", "tx")
    else:
        graph.wire("rx", "next", "drop")
    if way.theirs == "txonly":
        generator = GeneratorPort(touch="headers", size=64)
        generator.open(2, graph.pool)
        node, tables = generator.rx()
        graph.add(node, "made", **tables)
        graph.wire("made", "next", "tx")


@contextlib.contextmanager
def _theirs(options: Options, way: Way, path: Path) -> Iterator[Clocks]:
    device, log = f"net_vhost0,iface={path},queues=1", path.with_suffix(".backend")
    cpu = min(os.sched_getaffinity(0))
    counting = options._replace(program=(*options.program, "--record-core-cycles"))
    with testpmd(device, way.theirs, cpu, log, counting):
        end = time.monotonic() + START_S
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.05)
        yield lambda: clocks_of(log.read_text(errors="replace"))


def clocks_of(text: str) -> list[float]:
    """What testpmd says in the end, if it does: clocks per packet, of those in which it had packets."""
    return [float(value) for value in re.findall(r"CPU cycles/packet=([\d.]+)", text)]


@contextlib.contextmanager
def _driver(way: Way, path: Path, huge: bool) -> Iterator[Path]:
    log = path.with_suffix(".driver")
    device, cpu = f"net_virtio_user0,path={path},queues=1", max(os.sched_getaffinity(0))
    with testpmd(device, way.driver, cpu, log, Options(huge=huge)):
        yield log


def command(device: str, mode: str, cpu: int, name: str, options: Options = PLAIN) -> list[str]:
    """testpmd with one port, both its threads on one CPU, the first of which sleeps."""
    memory = ("--in-memory", "--single-file-segments") if options.huge else ("--no-huge",)
    return [
        *(PROGRAM, "--lcores", f"0@{cpu},1@{cpu}", "-n", "1", "--no-pci", "--no-telemetry"),
        *(*memory, "-m", str(MEBIBYTES), "--file-prefix", name, *options.environment),
        f"--vdev={device}{options.device}",
        *("--", "--nb-cores=1", "--total-num-mbufs=8192", "--stats-period=1", "--auto-start"),
        *(*options.program, f"--forward-mode={mode}"),
    ]


@contextlib.contextmanager
def testpmd(device: str, mode: str, cpu: int, log: Path, options: Options) -> Iterator[None]:
    """Have it run, its words in log, until the block ends."""
    said = command(device, mode, cpu, f"{log.parent.name}{log.suffix}", options)
    with log.open("w") as out:
        process = subprocess.Popen(said, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rates(text: str, figure: str) -> list[int]:
    """What testpmd says each second: the figures from the first that is not 0 on, but that one.

    The first is of a second in which it began.
    """
    found = [int(value) for value in re.findall(rf"{figure}:\s+(\d+)", text)]
    began = next((at for at, value in enumerate(found) if value), len(found))
    return found[began + 1 :]


def full_seconds(log: Path, figure: str) -> list[Figure]:
    """SECONDS full seconds of that figure, and the CPUs' distance. Raises RuntimeError: no packets."""
    watch = Watch(looks=round(1 / LOOK_S) + 1)
    found: list[Figure] = []
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        said = rates(log.read_text(errors="replace"), figure)
        watch.look()
        found += [Figure(float(value), watch.steady()) for value in said[len(found) :]]
        if len(found) >= SECONDS:
            return found[:SECONDS]
        time.sleep(LOOK_S)
    msg = f"{PROGRAM}: no packets: " + " | ".join(log.read_text(errors="replace").splitlines()[-5:])
    raise RuntimeError(msg)
