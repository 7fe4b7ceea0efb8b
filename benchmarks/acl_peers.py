# SPDX-License-Identifier: Apache-2.0
"""Our packet classifier beside DPDK's (rte_acl), in one run: the same rules, packets, and clock.

DPDK's is measured by its own program, dpdk-test-acl of Debian's package, which is given our rules as
ClassBench writes them, and our packets. It is asked for each of its algorithms, TIMES times; it goes
through all packets ROUNDS times, 256 in a call, and says clocks per packet. Ratios are made with the
least figure of its fastest: noise only adds. What is not installed has a row that says so.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import rule_sets
from benchmarks.acl_cases import PACKETS, UNIT, VECTORS, clocks, compiled
from benchmarks.dpdk_cases import MEMINFO, TIMES, NoFigureError, figure, huge_pages, say
from benchmarks.harness import Measured, missing, repeat, row
from benchmarks.session import Session
from vforward.layout import VECTOR_MAX

CASE = "acl-peers"
PROGRAM = "dpdk-test-acl"
SAYS = r"([\d.]+) cycles/pkt"
ALGORITHMS = ("scalar", "sse", "avx2", "avx512x16", "avx512x32")
SIZES = (10_000, 1_000)
ROUNDS = 20
MEBIBYTES = 2048


def acl_peers(session: Session) -> Iterator[dict[str, Any]]:
    """Ours, DPDK's, and what part of DPDK's clocks ours take; the last row: of 1 000 rules."""
    for n in SIZES:
        with tempfile.TemporaryDirectory() as directory:
            rows, image = compiled(n, 4)
            packets = rule_sets.trace(rows, PACKETS)
            (Path(directory) / "rules").write_text(rules_text(rows))
            (Path(directory) / "packets").write_text(packets_text(packets))
            name = f"{CASE}-{n}-ours"
            ours = clocks(session, name, rows, image, packets, 2 * len(SIZES))
            yield row(
                name, ours, UNIT, vector=VECTOR_MAX, packets=VECTORS * VECTOR_MAX, touched=0,
                rules=n, mebibytes=round(image.nbytes / (1 << 20), 2),
            )  # fmt: skip
            least = {}
            for algorithm in ALGORITHMS:
                made = _theirs(session, f"{CASE}-{n}-{algorithm}", algorithm, n, Path(directory))
                if made["value"] is not None:
                    least[algorithm] = made["least"]
                    made["ratio"] = round(ours.value / made["least"], 3)
                yield made
        yield _ratio(session, CASE if n == SIZES[-1] else f"{CASE}-{n}", n, ours, least)


def _ratio(
    session: Session, name: str, n: int, ours: Measured, least: dict[str, float]
) -> dict[str, Any]:
    if not least:
        return missing(name, "x", session.gauge, f"{PROGRAM} did not run")
    best = min(least, key=lambda algorithm: least[algorithm])
    ratio = ours.value / least[best]
    found = Measured(
        ratio, [ratio], 0.0, TIMES, 0, disturbed=ours.disturbed, gauge=session.gauge.best
    )
    return row(
        name, found, "x", vector=VECTOR_MAX, packets=0, touched=0, rules=n,
        what=f"clocks of ours / clocks of rte_acl, {best}",
        ratios={other: round(ours.value / figure, 3) for other, figure in least.items()},
    )  # fmt: skip


def _theirs(
    session: Session, name: str, algorithm: str, rules: int, directory: Path
) -> dict[str, Any]:
    huge = huge_pages(MEMINFO.read_text(), MEBIBYTES)
    figures: list[float] = []

    def run() -> list[float]:
        figures.append(figure(say(command(algorithm, rules, directory, huge), ""), SAYS))
        return figures[-1:]

    session.progress(name, 0, TIMES)
    try:
        found = repeat(run, session.gauge, TIMES, lambda n: session.progress(name, n, TIMES))
    except NoFigureError as error:
        return missing(name, UNIT, session.gauge, f"{PROGRAM}: {error}")
    return row(
        name, found, UNIT, vector=VECTOR_MAX, packets=0, touched=0, what=f"rte_acl, {algorithm}",
        rules=rules, least=min(figures), pages="2 MiB" if huge else "4 KiB",
    )  # fmt: skip


def command(algorithm: str, rules: int, directory: Path, huge: bool) -> list[str]:
    """The program and its arguments: DPDK's own, and behind -- the program's."""
    cpu = max(os.sched_getaffinity(0))
    said = [PROGRAM, "-m", str(MEBIBYTES), "--no-pci", "--no-telemetry", "-l", str(cpu)]
    said += ["--file-prefix", f"vforward-bench-{os.getpid()}", "--force-max-simd-bitwidth=512"]
    said += [] if huge else ["--no-huge"]
    said += ["--", f"--rulesf={directory / 'rules'}", f"--tracef={directory / 'packets'}"]
    said += [f"--rulenum={2 * rules}", f"--tracenum={PACKETS}", f"--tracestep={VECTOR_MAX}"]
    return [*said, f"--iter={ROUNDS}", "--bldcat=1", "--verbose=0", f"--alg={algorithm}"]


def rules_text(rows: NDArray[Any]) -> str:
    """Rules as ClassBench writes them: @PREFIX PREFIX LOW : HIGH LOW : HIGH PROTOCOL/MASK."""
    lines = []
    for one in rows:
        prefixes = [
            f"{_dotted(one[at])}/{int(one[at + '_mask']).bit_count()}" for at in ("src", "dst")
        ]
        ports = [f"{one[at + '_low']} : {one[at + '_high']}" for at in ("sport", "dport")]
        protocol = f"0x{int(one['kind']) >> 24:02x}/0x{int(one['kind_mask']) >> 24:02x}"
        lines.append("@" + "\t".join([*prefixes, *ports, protocol]) + "\n")
    return "".join(lines)


def packets_text(packets: NDArray[np.uint32]) -> str:
    """Packets as it reads them: source, destination, two ports, protocol, all in decimal."""
    return "".join(
        f"{src}\t{dst}\t{ports >> 16}\t{ports & 0xFFFF}\t{kind >> 24}\n"
        for src, dst, ports, kind in packets[:, :4].tolist()
    )


def _dotted(address: Any) -> str:
    return ".".join(str(int(address) >> shift & 0xFF) for shift in (24, 16, 8, 0))
