# SPDX-License-Identifier: Apache-2.0
"""Our route tables beside DPDK's, in one run: the same routes, the same destinations, the same clock.

DPDK's are measured by its own programs, from Debian's package: dpdk-test-fib is given our routes and
destinations as files, and says clocks per lookup (in bursts of 64, the clock read around each);
dpdk-test has tables of its own, so no ratio is made of them. What is not installed, or does not run
here, has a row that says so. Nothing is installed from here.

All take turns, TIMES times: ours, the median of its undisturbed runs in a tenth of a case's time; then
each program, which goes over a million destinations once. A ratio is the median of the turns' ratios.
Disturbed passes of a program cannot be told from others, so beside it stands the ratio of the least
figures (`least`): noise only adds.

Of rte_lpm for IPv4 there is only its own program's figure, of one run: it goes through all its rules of a
length to add one, 1.3 million cycles, so a million take minutes.
"""

from __future__ import annotations

import contextlib
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

from benchmarks import peer_versions, tables
from benchmarks.fib_cases import ROUTES4, ROUTES6
from benchmarks.harness import LEAST, Measured, missing, repeat, row, whole
from benchmarks.ratios import by_turns, of_turns
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
    with (
        tempfile.TemporaryDirectory() as made,
        _ours4(session, Path(made)) as four,
        _ours6(session, Path(made)) as six,
    ):
        ours = {4: four, 6: six}
        asked = {peer: _asker(peer, Path(made)) for peer in PEERS}

        def turn() -> list[float]:
            for each in (*ours.values(), *asked.values()):
                each.turn()
            return [1.0]

        session.progress(CASE, 0, TIMES)
        taken = repeat(turn, session.gauge, TIMES, lambda n: session.progress(CASE, n, TIMES))
        yield from (each.row() for each in ours.values())
    for peer, each in asked.items():
        yield _theirs(session, peer, each, ours, taken)
    there = {peer: each for peer, each in asked.items() if peer.family and not each.why}
    yield _ratios(session, ours, there, taken)


class Asked:
    """A program of DPDK's that is asked for its figure by turns, so many times at most."""

    def __init__(self, ask: Callable[[], float], times: int) -> None:
        self._ask, self._times = ask, times
        self.figures: list[float] = []
        self.why = ""
        """Why it has none; empty if it has."""

    def turn(self) -> None:
        """Ask it, unless it was asked often enough or has failed."""
        if self.why or len(self.figures) >= self._times:
            return
        try:
            self.figures.append(self._ask())
        except NoFigureError as error:
            self.why = str(error)

    def ratio(self, session: Session, ours: Sequence[float], *, disturbed: bool) -> Measured:
        """Of our figures, turn by turn, over its."""
        return by_turns(ours, self.figures, session.gauge, disturbed=disturbed)


def _asker(peer: Peer, directory: Path) -> Asked:
    """One of DPDK's tables, to be asked by turns."""

    def ask() -> float:
        huge = huge_pages(MEMINFO.read_text(), MEBIBYTES)
        return figure(say(command(peer, directory, huge), peer.typed, peer.limit_s), peer.says)

    return Asked(ask, min(peer.times, TIMES))


def _ratios(
    session: Session, ours: dict[int, Ours], theirs: dict[Peer, Asked], taken: Measured
) -> dict[str, Any]:
    """The last row: IPv4 against DPDK's fastest, and each against each."""
    four = {peer: asked for peer, asked in theirs.items() if peer.family == 4}
    if not four:
        return missing(CASE, "x", session.gauge, "nothing of DPDK's ran with our routes")
    found = {
        peer: asked.ratio(session, ours[peer.family].figures, disturbed=taken.disturbed)
        for peer, asked in theirs.items()
    }
    best = max(four, key=lambda peer: found[peer].value)
    return row(
        CASE, found[best], "x", vector=VECTOR_MAX, packets=0, touched=0, routes=ROUTES4,
        flows=ours[4].flows,
        what=f"clocks of ours / clocks of {best.name}, turn by turn", peer=peer_versions.dpdk(),
        least=round(min(ours[4].figures) / min(four[best].figures), 3),
        ratios={peer.name: round(each.value, 3) for peer, each in found.items()},
    )  # fmt: skip


@contextlib.contextmanager
def _ours4(session: Session, directory: Path) -> Iterator[Ours]:
    prefixes, lengths = tables.bgp4(ROUTES4)
    asked = tables.destinations4(prefixes, lengths)
    values = tables.values(ROUTES4)
    write_files(
        directory, 4, map(IPv4Address, prefixes.tolist()), lengths, values,
        map(IPv4Address, asked.tolist()),
    )  # fmt: skip
    found = np.zeros(VECTOR_MAX, np.uint32)
    with arena("-4") as memory:
        fib = Fib4(memory)
        fib.add_many(prefixes, lengths, values, between=lambda _done: fib.reclaim())

        def run(part: NDArray[Any]) -> float:
            return float(look_up(fib.root, fib.nodes, part, found))

        vectors = asked.reshape(-1, VECTOR_MAX)
        yield Ours(session, "4-ours", fib, run, vectors, found, lambda a: int(a[-1]))


@contextlib.contextmanager
def _ours6(session: Session, directory: Path) -> Iterator[Ours]:
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
    with arena("-6") as memory:
        fib = Fib6(memory)
        fib.add_many(halves, lengths, values, between=lambda _done: fib.reclaim())
        vectors = asked.byteswap().view(np.uint8).reshape(-1, VECTOR_MAX, 16)

        def run(part: NDArray[Any]) -> float:
            return float(look_up6(fib.root, fib.nodes, part, found, on))

        def last(part: NDArray[Any]) -> int:
            return int.from_bytes(part[-1].tobytes(), "big")

        yield Ours(session, "6-ours", fib, run, vectors, found, last)


class Ours:
    """One of our tables, by turns. last: the last address of a vector; found: what run has found for it."""

    def __init__(
        self, session: Session, name: str, fib: Fib, run: Callable[[NDArray[Any]], float],
        vectors: NDArray[Any], found: NDArray[Any], last: Callable[[NDArray[Any]], int],
    ) -> None:  # fmt: skip
        self._session, self._name, self._fib, self._run = session, name, fib, run
        self._vectors, self._found, self._last = vectors, found, last
        self._at = 0
        self._turns: list[Measured] = []

    @property
    def figures(self) -> list[float]:
        """Clocks per look-up, of each turn."""
        return [each.value for each in self._turns]

    @property
    def flows(self) -> int:
        """Destinations, which DPDK's programs have too."""
        return len(self._vectors) * VECTOR_MAX

    def turn(self) -> None:
        """Go through the destinations for a TIMES-th of the case's time."""
        self._turns.append(self._session.measure(f"{CASE} {self._name}", self._part, TIMES))

    def _part(self) -> list[float]:
        asked = self._vectors[self._at : self._at + VECTORS]
        self._at = (self._at + VECTORS) % len(self._vectors)
        clocks = self._run(asked)
        if self._found[-1] != self._fib.lookup(self._last(asked[-1])):
            msg = f"{self._name} found a wrong route"
            raise AssertionError(msg)
        return [clocks / (VECTORS * VECTOR_MAX)]

    def row(self) -> dict[str, Any]:
        """Its row. packets: of the runs that count, whatever the turn."""
        looked_up = VECTORS * VECTOR_MAX * sum(each.runs for each in self._turns)
        return row(
            f"{CASE}-{self._name}", of_turns(self._turns, self._session.gauge), UNIT,
            vector=VECTOR_MAX, packets=looked_up // len(self._turns), touched=0,
            routes=len(self._fib), flows=self.flows, what="our trie, level by level over a vector",
            mebibytes=round(int(self._fib.nodes[0]) * trie.WORDS * 4 / (1 << 20), 1),
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


def _theirs(
    session: Session, peer: Peer, asked: Asked, ours: dict[int, Ours], taken: Measured
) -> dict[str, Any]:
    """The row of one of DPDK's tables."""
    name = f"{CASE}-{peer.name}"
    if asked.why:
        return missing(name, UNIT, session.gauge, f"{peer.program}: {asked.why}")
    more: dict[str, Any] = {"flows": "of its own"}
    if peer.family:
        ratio = asked.ratio(session, ours[peer.family].figures, disturbed=taken.disturbed)
        more = {"flows": ours[peer.family].flows, "ratio": round(ratio.value, 3)}
    huge = huge_pages(MEMINFO.read_text(), MEBIBYTES)
    return row(
        name, whole(asked.figures, session.gauge, disturbed=taken.disturbed), UNIT, vector=64,
        packets=0, touched=0, what=peer.what, least=min(asked.figures),
        pages="2 MiB" if huge else "4 KiB", peer=peer_versions.dpdk(), **more,
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
