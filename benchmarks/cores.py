# SPDX-License-Identifier: Apache-2.0
"""How many cores the first and the last CPU are just now: what both do together, of what one does alone.

Whoever hosts a virtual machine may run others on the second hyperthreads of its cores, or both of its
CPUs on one core, and change that every few seconds; the machine's own clocks of stolen time say nothing
of it. A loop that keeps all of a core's units busy, and shares nothing with anybody, then does less on
both CPUs than twice what it does on one: 1.4 times was seen, 1.1 with both on one core (AMD EPYC,
2026-11-30). So what two workers do is said beside what that loop does.
"""

from __future__ import annotations

import os
from functools import partial

import numpy as np

from benchmarks.both_cpus import at_once
from vforward.jit.kernel import i64, kernel, u64

ROUNDS = 40_000_000
"""Of the loop: some 100 ms."""
TABLE = 2048
"""Words that it loads: they fit L1."""


@kernel
def fill(table, rounds):
    """Six chains of loads and arithmetic, none of which waits for another. table u64[TABLE]."""
    mask = u64(table.size - 1)
    a, b, c, d, e, f = u64(1), u64(2), u64(3), u64(4), u64(5), u64(6)
    for _ in range(rounds):
        a = (a ^ (a >> u64(3))) + table[i64(a & mask)]
        b = (b ^ (b >> u64(5))) + table[i64(b & mask)]
        c = (c ^ (c >> u64(7))) + table[i64(c & mask)]
        d = (d ^ (d >> u64(3))) + table[i64(d & mask)]
        e = (e ^ (e >> u64(5))) + table[i64(e & mask)]
        f = (f ^ (f >> u64(7))) + table[i64(f & mask)]
    return i64(a ^ b ^ c ^ d ^ e ^ f)


def cores() -> float:
    """How many times one CPU's work both do now; 1 on a machine with one CPU."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return 1.0
    first, last = _seconds(cpus[0]), _seconds(cpus[-1])
    return (first + last) / _seconds(cpus[0], cpus[-1])


def _seconds(*cpus: int) -> float:
    fill(np.arange(TABLE, dtype=np.uint64), 1)  # compiled before
    return at_once(
        *((cpu, partial(fill, np.arange(TABLE, dtype=np.uint64), ROUNDS)) for cpu in cpus)
    )
