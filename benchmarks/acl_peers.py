# SPDX-License-Identifier: Apache-2.0
"""Our packet classifier beside DPDK's (rte_acl), in one run: the same rules, packets, and clock.

DPDK's is measured by its own program, dpdk-test-acl of Debian's package, which is given our rules as
ClassBench writes them, and our packets. It goes through all packets ROUNDS times, 256 in a call, and says
clocks per packet. Ours and each of its algorithms take turns, TIMES times; a ratio is the median of the
turns' ratios, the last one's that to its fastest. Beside it stands the ratio of the least figures
(`least`): noise only adds. What is not installed has a row that says so.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import peer_versions, rule_sets
from benchmarks.acl_cases import PACKETS, UNIT, VECTORS, clocks, compiled
from benchmarks.dpdk_cases import MEMINFO, TIMES, Asked, figure, huge_pages, say
from benchmarks.harness import Measured, missing, repeat, row, whole
from benchmarks.ratios import of_turns
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
            yield from _of_size(session, n, Path(directory))


def _of_size(session: Session, n: int, directory: Path) -> Iterator[dict[str, Any]]:
    rows, image = compiled(n, 4)
    packets = rule_sets.trace(rows, PACKETS)
    (directory / "rules").write_text(rules_text(rows))
    (directory / "packets").write_text(packets_text(packets))
    case, name = f"{CASE}-{n}", f"{CASE}-{n}-ours"
    huge = huge_pages(MEMINFO.read_text(), MEBIBYTES)
    ours: list[Measured] = []
    commands = {algorithm: command(algorithm, n, directory, huge) for algorithm in ALGORITHMS}
    theirs = {
        algorithm: Asked(lambda said=said: figure(say(said, ""), SAYS), TIMES)
        for algorithm, said in commands.items()
    }

    def turn() -> list[float]:
        ours.append(clocks(session, name, rows, image, packets, 2 * len(SIZES) * TIMES))
        for asked in theirs.values():
            asked.turn()
        return [1.0]

    session.progress(case, 0, TIMES)
    taken = repeat(turn, session.gauge, TIMES, lambda done: session.progress(case, done, TIMES))
    looked_up = VECTORS * VECTOR_MAX * sum(each.runs for each in ours)
    yield row(
        name, of_turns(ours, session.gauge), UNIT, vector=VECTOR_MAX,
        packets=looked_up // len(ours), touched=0, rules=n,
        mebibytes=round(image.nbytes / (1 << 20), 2),
    )  # fmt: skip
    figures = [each.value for each in ours]
    ratios = {
        algorithm: asked.ratio(session, figures, disturbed=taken.disturbed)
        for algorithm, asked in theirs.items()
        if not asked.why
    }
    for algorithm, asked in theirs.items():
        if asked.why:
            why = f"{PROGRAM}: {asked.why}"
            yield missing(f"{case}-{algorithm}", UNIT, session.gauge, why)
            continue
        yield row(
            f"{case}-{algorithm}", whole(asked.figures, session.gauge, disturbed=taken.disturbed),
            UNIT, vector=VECTOR_MAX, packets=0, touched=0, what=f"rte_acl, {algorithm}", rules=n,
            least=min(asked.figures), ratio=round(ratios[algorithm].value, 3),
            pages="2 MiB" if huge else "4 KiB", peer=peer_versions.dpdk(),
        )  # fmt: skip
    yield _ratio(session, CASE if n == SIZES[-1] else case, n, figures, theirs, ratios)


def _ratio(
    session: Session, name: str, n: int, ours: list[float], theirs: dict[str, Asked],
    ratios: dict[str, Measured],
) -> dict[str, Any]:  # fmt: skip
    """The row of ours over the fastest of DPDK's."""
    if not ratios:
        return missing(name, "x", session.gauge, f"{PROGRAM} did not run")
    best = max(ratios, key=lambda algorithm: ratios[algorithm].value)
    return row(
        name, ratios[best], "x", vector=VECTOR_MAX, packets=0, touched=0, rules=n,
        what=f"clocks of ours / clocks of rte_acl, {best}, turn by turn", peer=peer_versions.dpdk(),
        least=round(min(ours) / min(theirs[best].figures), 3),
        ratios={other: round(each.value, 3) for other, each in ratios.items()},
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
