# SPDX-License-Identifier: Apache-2.0
"""Our flow table beside DPDK's rte_hash: what it takes to find one of many entries.

DPDK's figure is that of its own program, dpdk-test with hash_perf_autotest, from Debian's package:
clocks for a look-up in bulk of a key of 16 bytes, in a table of its own. Ours is a look-up of a packet's
endpoints, 16 bytes too, among FLOWS sessions, a vector in three passes as the node ip4-session makes
them: bucket, record, key. The tables are not the same, so the ratio is of two programs that do the
same for their users, not of one work done twice.

Both take turns. The program takes two minutes, so there are as many turns as BUDGET_S has room for, LEAST
at most, and the rows say that there were few. The ratio is the median of the turns'.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import peer_versions, session_cases, session_nodes
from benchmarks.dpdk_cases import PACKAGE, Asked, NoFigureError
from benchmarks.frames import SEED
from benchmarks.harness import LEAST, Measured, missing, repeat, row, whole
from benchmarks.ratios import of_turns
from benchmarks.session import Session, arena
from vforward.control.demo_world import end_with_parent
from vforward.jit.intrinsics import ctz, cycles, prefetch, prefetch2
from vforward.jit.kernel import i64, kernel, u64
from vforward.jit.vector import near16
from vforward.layout import VECTOR_MAX
from vforward.tables import session as t
from vforward.tables import session_index as index

CASE = "hash-peers"
UNIT = "clocks/lookup"
PROGRAM = "dpdk-test"
TYPED = "hash_perf_autotest"
KEY_BYTES = 16
FLOWS = 393_216
"""As many as DPDK's program has entries: 3/4 of 2**19."""
BUDGET_S = 400.0
"""No turn begins later than this: the first takes two minutes on a quiet machine."""
LIMIT_S = 300.0
TABLES = 4
"""Of its first results, which are waited for: without data and with, the hash computed or not."""
VECTORS = 16
MEBIBYTES = 1024


@kernel
def keys(flows, k0, k1):
    """The keys of flows' first direction, UDP."""
    for i in range(flows.size):
        flow = i64(flows[i])
        ends = session_nodes.initiator(flow), session_nodes.responder(flow)
        k0[i], k1[i] = t.key4(ends[0], ends[1], session_cases.UDP, 0)


@kernel
def look_up(sessions, k0, k1, work, found):
    """Clocks for the keys, u64[n, vector], a vector at a time in three passes. found i64[vector]: of the
    last vector the sessions' numbers << 1 | direction, or -1 for what is not there or not at once."""
    s = t.shard(sessions)
    bits = i64(s.head[t.BITS])
    spent = u64(0)
    for k in range(k0.shape[0]):
        start = cycles()
        for i in range(k0.shape[1]):
            mixed = t.hash4(s, k0[k, i], k1[k, i])
            prefetch2(s.entries, index.bucket(s, mixed))
            work[i] = mixed
        for i in range(k0.shape[1]):
            mixed = work[i]
            wanted = index.tag(mixed, bits)
            at = index.bucket(s, mixed)
            hits = near16(s.entries, at, wanted, i64(1) << bits)
            entry = i64(s.entries[at + (ctz(u64(hits)) & 15)]) ^ wanted
            entry = entry if hits else i64(0)
            prefetch(s.words, (entry >> 1) * 8)
            found[i] = entry
        for i in range(k0.shape[1]):
            entry = found[i]
            same = index.is4(s, entry >> 1, entry & 1, k0[k, i], k1[k, i])
            found[i] = entry if same else index.mine4(s, k0[k, i], k1[k, i])
        spent += cycles() - start
    return np.float64(spent)


def hash_peers(session: Session) -> Iterator[dict[str, Any]]:
    """Ours, DPDK's, and what part of DPDK's clocks ours takes."""
    ours: list[Measured] = []
    asked = Asked(lambda: theirs(said(_command())), LEAST)
    end, disturbed = time.monotonic() + BUDGET_S, False
    with arena() as memory:
        run = _run(session_cases.Bench(memory, FLOWS, session_cases.UDP))

        def turn() -> list[float]:
            ours.append(session.measure(f"{CASE}-ours", run, LEAST))
            asked.turn()
            return [1.0]

        for n in range(LEAST):
            session.progress(CASE, n, LEAST)
            if n == 0 or (time.monotonic() < end and not asked.why):
                disturbed |= repeat(turn, session.gauge, 1).disturbed
    yield row(
        f"{CASE}-ours", of_turns(ours, session.gauge), UNIT, vector=VECTOR_MAX,
        packets=VECTORS * VECTOR_MAX * sum(each.runs for each in ours) // len(ours), touched=0,
        sessions=FLOWS, flows=FLOWS, what="ip4-session's table",
    )  # fmt: skip
    name = f"{CASE}-rte-hash"
    if asked.why:
        why = f"{PROGRAM}: {asked.why}"
        yield missing(name, UNIT, session.gauge, why)
        yield missing(CASE, "x", session.gauge, why)
        return
    yield row(
        name, whole(asked.figures, session.gauge, disturbed=disturbed), UNIT, vector=64, packets=0,
        touched=0, flows=FLOWS, least=min(asked.figures), peer=peer_versions.dpdk(),
        what=f"rte_hash, keys of {KEY_BYTES} bytes, in bulk, hash computed",
    )  # fmt: skip
    figures = [each.value for each in ours]
    yield row(
        CASE, asked.ratio(session, figures, disturbed=disturbed), "x", vector=VECTOR_MAX, packets=0,
        touched=0, flows=FLOWS, least=round(min(figures) / min(asked.figures), 3),
        peer=peer_versions.dpdk(),
        what="clocks of ours / clocks of rte_hash, turn by turn",
    )  # fmt: skip


def _run(bench: session_cases.Bench) -> Callable[[], list[float]]:
    """A run of ours: clocks for a look-up."""
    rng = np.random.default_rng(SEED)
    work, found = np.zeros(VECTOR_MAX, np.uint64), np.zeros(VECTOR_MAX, np.int64)
    shape = (VECTORS, VECTOR_MAX)
    k0, k1 = np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)

    def run() -> list[float]:
        flows = rng.integers(0, FLOWS, VECTORS * VECTOR_MAX)
        keys(flows, k0.reshape(-1), k1.reshape(-1))
        clocks = look_up(bench.sessions.array, k0, k1, work, found)
        numbers = found[-8:]
        if (numbers < 0).any() or len(set(numbers.tolist())) != len(set(flows[-8:].tolist())):
            msg = f"of known sessions these were found: {numbers}"
            raise AssertionError(msg)
        return [clocks / flows.size]

    return run


def _command() -> list[str]:
    cpu = max(os.sched_getaffinity(0))
    return [
        PROGRAM, "-l", str(cpu), "--no-pci", "--no-huge", "-m", str(MEBIBYTES), "--no-telemetry",
        "--file-prefix", f"vforward-bench-{os.getpid()}",
    ]  # fmt: skip


def said(command: list[str]) -> str:
    """What the program prints until its first results are complete; the others take it many minutes."""
    if shutil.which(command[0]) is None:
        raise NoFigureError(f"not installed (Debian's package {PACKAGE})")
    text = ""
    deadline = time.monotonic() + LIMIT_S
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        preexec_fn=end_with_parent,
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended: its words say why
                process.stdin.write(f"{TYPED}\nquit\n".encode())
            while sum(_is_of_our_keys(line) for line in text.split("\n")[:-1]) < TABLES:
                left = deadline - time.monotonic()
                if left < 0 or not select.select([process.stdout], [], [], left)[0]:
                    raise NoFigureError(f"not done after {LIMIT_S:g} s")
                more = os.read(process.stdout.fileno(), 1 << 16)
                if not more:
                    break
                text += more.decode(errors="replace")
        finally:
            process.kill()
    return text


def _is_of_our_keys(line: str) -> bool:
    """Whether it is a line of results: key size, add, look-up, look-up in bulk, delete."""
    words = line.split()
    return len(words) == 5 and words[0] == str(KEY_BYTES) and all(map(str.isdigit, words))


def theirs(text: str) -> float:
    """The figure in what dpdk-test printed: clocks of a look-up in bulk, the hash computed, the least of
    its tables. Columns: key size, add, look-up, look-up in bulk, delete."""
    found = []
    computed = False
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if "pre-computed hash" in line:
            computed = line.startswith("Without")
        if computed and _is_of_our_keys(line):
            found.append(float(line.split()[3]))
    if not found:
        raise NoFigureError(lines[-1].strip() if lines else "said nothing")
    return min(found)
