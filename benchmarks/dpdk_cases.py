# SPDX-License-Identifier: Apache-2.0
"""Our route tables beside DPDK's, in one run: the same routes, the same destinations, the same clock.

DPDK's are measured by its own programs, from Debian's package: dpdk-test-fib is given our routes and
destinations as files, and says clocks per lookup (in bursts of 64, the clock read around each);
dpdk-test has tables of its own, so no ratio is made of them. What is not installed, or does not run
here, has a row that says so. Nothing is installed from here.

Each program runs TIMES times, each time one pass over a million destinations. Disturbed passes cannot
be told from others, so ratios are made with its least figure: noise only adds. Ours are as
everywhere: the median of undisturbed runs.

Of rte_lpm for IPv4 there is only its own program's figure, of one run: it goes through all its rules of a
length to add one, 1.3 million cycles, so a million take minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import tables
from benchmarks.fib_cases import ROUTES4, ROUTES6
from benchmarks.harness import LEAST, Measured, missing, repeat, row
from benchmarks.session import Session, arena
from benchmarks.table_cases import VECTORS, look_up
from vforward.jit.intrinsics import cycles
from vforward.jit.kernel import i64, kernel
from vforward.layout import VECTOR_MAX
from vforward.tables import trie
from vforward.tables.fib import Fib, Fib4, Fib6

CASE = "fib-peers"
UNIT = "clocks/lookup"
PACKAGE = "dpdk-dev"
TIMES = LEAST
LIMIT_S = 120.0
MEBIBYTES = 2048
"""Memory for DPDK's heap."""
TBL8 = {4: 256, 6: 500_000}
"""Second-level tables that DPDK's are made with: no prefix of ours needs one in IPv4."""
MEMINFO = Path("/proc/meminfo")
FIB_SAYS, LPM_SAYS = r"AVG FIB lookup ([\d.]+)", r"AVG LPM lookup ([\d.]+)"
BULK_SAYS = r"BULK \w+ Lookup: ([\d.]+) cycles"


class NoFigureError(Exception):
    """A program that is missing, or said nothing that can be used. The message says what it said."""


class Peer(NamedTuple):
    """One of DPDK's tables, and how to ask for its figure."""

    name: str
    what: str
    program: str
    says: str
    """What comes before the figure (a regular expression with the figure as its group)."""
    family: int = 0
    """IP version of our routes that it is given. 0: it has routes of its own."""
    options: tuple[str, ...] = ()
    wide: bool = False
    """Whether vectors of 512 bits are allowed to it."""
    typed: str = ""
    times: int = TIMES
    limit_s: float = LIMIT_S


PEERS = (
    Peer("4-dir24-8", "rte_fib DIR24_8, scalar", "dpdk-test-fib", FIB_SAYS, 4, ("-b", "dir")),
    Peer("4-dir24-8-avx512", "rte_fib DIR24_8, AVX-512", "dpdk-test-fib", FIB_SAYS, 4,
         ("-b", "dir", "-v", "v"), wide=True),
    Peer("4-own-table", "rte_fib DIR24_8, 1.08 M routes, any destination", "dpdk-test", BULK_SAYS,
         typed="fib_perf_autotest"),
    Peer("4-lpm-own-table", "rte_lpm, 1.2 M routes", "dpdk-test", BULK_SAYS,
         typed="lpm_perf_autotest", times=1, limit_s=1200.0),
    Peer("6-trie", "rte_fib6 TRIE, scalar", "dpdk-test-fib", FIB_SAYS, 6, ("-b", "trie")),
    Peer("6-trie-avx512", "rte_fib6 TRIE, AVX-512", "dpdk-test-fib", FIB_SAYS, 6,
         ("-b", "trie", "-v", "v"), wide=True),
    Peer("6-lpm", "rte_lpm6", "dpdk-test-fib", LPM_SAYS, 6, ("-b", "trie", "-c")),
    Peer("6-own-table", "rte_fib6 TRIE, 1 000 routes", "dpdk-test", BULK_SAYS,
         typed="fib6_perf_autotest"),
    Peer("6-lpm-own-table", "rte_lpm6, 1 000 routes", "dpdk-test", BULK_SAYS,
         typed="lpm6_perf_autotest"),
)  # fmt: skip


def fib_peers(session: Session) -> Iterator[dict[str, Any]]:
    """Our tables, DPDK's, and what part of DPDK's clocks ours take."""
    ours: dict[int, dict[str, Any]] = {}
    theirs: dict[int, dict[str, float]] = {4: {}, 6: {}}
    with tempfile.TemporaryDirectory() as directory:
        for family, measured in ((4, _ours4), (6, _ours6)):
            ours[family] = measured(session, Path(directory))
            yield ours[family]
        for peer in PEERS:
            made = _theirs(session, peer, Path(directory))
            if peer.family and made["value"] is not None:
                theirs[peer.family][peer.name] = made["least"]
                made["ratio"] = round(ours[peer.family]["value"] / made["least"], 3)
            yield made
    yield _ratios(session, ours, theirs)


def _ratios(
    session: Session, ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, float]]
) -> dict[str, Any]:
    """The last row: IPv4 against DPDK's fastest, and each against each."""
    if not theirs[4]:
        return missing(CASE, "x", session.gauge, "nothing of DPDK's ran with our routes")
    best = min(theirs[4], key=lambda name: theirs[4][name])
    disturbed = any(made["disturbed"] for made in ours.values())
    ratio = ours[4]["value"] / theirs[4][best]
    found = Measured(ratio, [ratio], 0.0, TIMES, 0, disturbed=disturbed, gauge=session.gauge.best)
    return row(
        CASE, found, "x", vector=VECTOR_MAX, packets=0, touched=0, routes=ROUTES4,
        what=f"clocks of ours / clocks of {best}",
        ratios={
            name: round(ours[family]["value"] / clocks, 3)
            for family in (4, 6)
            for name, clocks in theirs[family].items()
        },
    )  # fmt: skip


def _ours4(session: Session, directory: Path) -> dict[str, Any]:
    prefixes, lengths = tables.bgp4(ROUTES4)
    asked = tables.destinations4(prefixes, lengths)
    values = tables.values(ROUTES4)
    write_files(
        directory, 4, map(IPv4Address, prefixes.tolist()), lengths, values,
        map(IPv4Address, asked.tolist()),
    )  # fmt: skip
    found = np.zeros(VECTOR_MAX, np.uint32)
    with arena() as memory:
        fib = Fib4(memory)
        fib.add_many(prefixes, lengths, values, between=lambda _done: fib.reclaim())
        vectors = asked.reshape(-1, VECTOR_MAX)

        def run(part: NDArray[Any]) -> float:
            return float(look_up(fib.root, fib.nodes, part, found))

        return _measure(session, "4-ours", fib, run, vectors, found, lambda a: int(a[-1]))


def _ours6(session: Session, directory: Path) -> dict[str, Any]:
    prefixes, lengths = tables.bgp6(ROUTES6)
    asked = tables.destinations6(prefixes, lengths)
    values = tables.values(ROUTES6)
    pairs = asked.reshape(-1, 2).tolist()
    write_files(
        directory, 6, (IPv6Address(high << 64) for high in prefixes.tolist()), lengths, values,
        (IPv6Address(high << 64 | low) for high, low in pairs),
    )  # fmt: skip
    found, on = np.zeros(VECTOR_MAX, np.uint32), np.zeros(VECTOR_MAX, np.uint16)
    halves = np.stack([prefixes, np.zeros_like(prefixes)], axis=1)
    with arena() as memory:
        fib = Fib6(memory)
        fib.add_many(halves, lengths, values, between=lambda _done: fib.reclaim())
        vectors = asked.byteswap().view(np.uint8).reshape(-1, VECTOR_MAX, 16)

        def run(part: NDArray[Any]) -> float:
            return float(look_up6(fib.root, fib.nodes, part, found, on))

        def last(part: NDArray[Any]) -> int:
            return int.from_bytes(part[-1].tobytes(), "big")

        return _measure(session, "6-ours", fib, run, vectors, found, last)


def _measure(
    session: Session, name: str, fib: Fib, run: Callable[[NDArray[Any]], float],
    vectors: NDArray[Any], found: NDArray[Any], last: Callable[[NDArray[Any]], int],
) -> dict[str, Any]:  # fmt: skip
    """Go through the destinations, VECTORS vectors a run. last: the last address of a vector."""
    at = 0

    def part() -> list[float]:
        nonlocal at
        asked = vectors[at : at + VECTORS]
        at = (at + VECTORS) % len(vectors)
        clocks = run(asked)
        if found[-1] != fib.lookup(last(asked[-1])):
            msg = f"{name} found a wrong route"
            raise AssertionError(msg)
        return [clocks / (VECTORS * VECTOR_MAX)]

    measured = session.measure(f"{CASE} {name}", part)
    return row(
        f"{CASE}-{name}", measured, UNIT, vector=VECTOR_MAX, packets=VECTORS * VECTOR_MAX,
        touched=0, routes=len(fib), what="our trie, level by level over a vector",
        mebibytes=round(int(fib.nodes[0]) * trie.WORDS * 4 / (1 << 20), 1),
    )  # fmt: skip


@kernel
def look_up6(root: Any, nodes: Any, addresses: Any, found: Any, on: Any) -> Any:
    """Clocks for the addresses, u8[n, vector, 16], a vector at a time, level by level.

    on u16[vector]: those that are still on the way.
    """
    spent = np.uint64(0)
    for k in range(addresses.shape[0]):
        start = cycles()
        left = 0
        for i in range(addresses.shape[1]):
            entry = trie.first(root, 0, i64(addresses[k, i, 0]) << 8 | i64(addresses[k, i, 1]))
            trie.fetch(nodes, entry)
            found[i] = entry
            on[left] = i
            left += entry >> 31
        at = 2
        while left:
            n, left = left, 0
            for j in range(n):
                i = i64(on[j])
                entry = trie.step(nodes, i64(found[i]), i64(addresses[k, i, at]))
                trie.fetch(nodes, entry)
                found[i] = entry
                on[left] = i
                left += entry >> 31
            at += 1
        for i in range(addresses.shape[1]):
            found[i] = trie.value(i64(found[i]))
        spent += cycles() - start
    return np.float64(spent)


def write_files(
    directory: Path, family: int, prefixes: Any, lengths: Any, values: Any, asked: Any
) -> None:
    """Our routes and destinations, as dpdk-test-fib reads them: PREFIX/LENGTH VALUE; ADDRESS."""
    columns = zip(prefixes, lengths.tolist(), values.tolist(), strict=True)
    _routes(directory, family).write_text("".join(f"{p}/{n} {v}\n" for p, n, v in columns))
    _asked(directory, family).write_text("".join(f"{address}\n" for address in asked))


def _routes(directory: Path, family: int) -> Path:
    return directory / f"routes{family}"


def _asked(directory: Path, family: int) -> Path:
    return directory / f"asked{family}"


def _theirs(session: Session, peer: Peer, directory: Path) -> dict[str, Any]:
    """The row of one of DPDK's tables."""
    name = f"{CASE}-{peer.name}"
    huge = huge_pages(MEMINFO.read_text(), MEBIBYTES)
    figures: list[float] = []

    def run() -> list[float]:
        figures.append(
            figure(say(command(peer, directory, huge), peer.typed, peer.limit_s), peer.says)
        )
        return figures[-1:]

    session.progress(name, 0, peer.times)
    try:
        found = repeat(
            run, session.gauge, peer.times, lambda n: session.progress(name, n, peer.times)
        )
    except NoFigureError as error:
        return missing(name, UNIT, session.gauge, f"{peer.program}: {error}")
    return row(
        name, found, UNIT, vector=64, packets=0, touched=0, what=peer.what, least=min(figures),
        pages="2 MiB" if huge else "4 KiB",
    )  # fmt: skip


def huge_pages(meminfo: str, mebibytes: int) -> bool:
    """Whether so much is free in pages of 2 MiB, by /proc/meminfo."""
    free = re.search(r"HugePages_Free:\s+(\d+)", meminfo)
    page = re.search(r"Hugepagesize:\s+(\d+) kB", meminfo)
    if not free or not page:
        return False
    return int(free[1]) * int(page[1]) >= mebibytes << 10


def command(peer: Peer, directory: Path, huge: bool) -> list[str]:
    """The program and its arguments: DPDK's own, and behind -- the program's."""
    cpu = max(os.sched_getaffinity(0))
    said = [peer.program, "-m", str(MEBIBYTES), "--no-pci", "--no-telemetry", "-l", str(cpu)]
    said += ["--file-prefix", f"vforward-bench-{os.getpid()}"]
    said += [] if huge else ["--no-huge"]
    said += ["--force-max-simd-bitwidth=512"] if peer.wide else []
    if not peer.family:
        return said
    files = ["-f", str(_routes(directory, peer.family)), "-t", str(_asked(directory, peer.family))]
    six = ["-6"] if peer.family == 6 else []
    return [*said, "--", *six, *files, "-g", str(TBL8[peer.family]), *peer.options]


def say(said: Sequence[str], typed: str, limit_s: float = LIMIT_S) -> str:
    """Run a program, type one line and quit. Returns what it prints."""
    if shutil.which(said[0]) is None:
        raise NoFigureError(f"not installed (Debian's package {PACKAGE})")
    try:
        done = subprocess.run(
            said, input=f"{typed}\nquit\n", capture_output=True, text=True, timeout=limit_s,
            check=False, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NoFigureError(f"not done after {limit_s:g} s") from None
    return done.stderr + done.stdout


def figure(text: str, says: str) -> float:
    """The figure in what a program printed."""
    found = re.search(says, text)
    if found:
        return float(found[1])
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("depth")]
    raise NoFigureError(lines[-1].strip() if lines else "said nothing")
