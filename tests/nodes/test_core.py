"""The nodes from ethernet-input to ip4-rewrite together: truncations and random frames.

Everything is held against the oracle, and nothing may be read outside of a buffer.
"""

import os
import subprocess
import sys
from pathlib import Path

from nodes.walk import check_walk, fuzz, truncations
from oracles.test_oracles import EVERY_REASON

REACHED = {r for r in EVERY_REASON if not r.startswith("arp-input")} | {
    "arp", "held by ip4-lookup", "sent by ip4-rewrite", "sent by ip4-fragment", "sent by l2-cross-connect",
}  # fmt: skip

TESTS = Path(__file__).parents[1]
CHECKED = """
from vforward.jit.kernel import BOUNDSCHECK
assert BOUNDSCHECK
import numpy as np
from nodes.network import tables
from nodes.walk import check_walk, fuzz, truncations
from vforward.nodes.ip4.input import NODE
from vforward.testing import heap_pool

pool = heap_pool(4)
try:  # that the check checks
    NODE.kernel(pool.data, pool.meta, np.array([4], np.uint32), np.zeros(1, np.uint8),
                np.zeros(7, np.uint64), tables()["features"], tables()["ports"])
except IndexError:
    pass
else:
    raise AssertionError("no bounds are checked")
check_walk(*truncations(), 256)
fuzz(30_000)
"""


def test_every_truncation_at_both_vector_sizes():
    frames, lengths, numbers = truncations()
    seen = check_walk(frames, lengths, numbers, 256)
    assert check_walk(frames, lengths, numbers, 1) == seen


def test_a_hundred_thousand_frames():
    seen = fuzz(100_000)
    assert seen.total() == 100_000
    assert set(seen) >= REACHED, REACHED - set(seen)


def test_vectors_of_one():
    assert fuzz(8192, vector=1) == fuzz(8192)


def test_nothing_reads_out_of_bounds():
    path = os.pathsep.join([str(TESTS), *sys.path])
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", CHECKED],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
