# SPDX-License-Identifier: Apache-2.0
"""The case memory: its loads go where it says."""

import numpy as np
from benchmarks.memory_cases import LOADS, WORDS, apart, in_turn, link

from vforward.jit.kernel import u64

LINES = LOADS // 4


def test_one_cycle_through_all_lines():
    table = np.zeros(LINES * WORDS, np.uint64)
    link(table, np.random.default_rng(1))
    at, seen = 0, set()
    for _ in range(LINES):
        seen.add(at)
        at = int(table[at])
    assert at == 0
    assert seen == set(range(0, LINES * WORDS, WORDS))
    state = np.array([5 * WORDS], np.uint64)
    assert in_turn(table, state) > 0
    assert state[0] == 5 * WORDS, "so many whole cycles"


def test_loads_apart_are_of_all_lines():
    table = np.zeros(LINES * WORDS, np.uint64)
    table[::WORDS] = 1
    state = np.array([7, 0], np.uint64)
    assert apart(table, u64(LINES), state) > 0
    assert state[1] == LOADS, "each load was of a line's first word"
    table[: LINES * WORDS // 2] = 0
    assert apart(table, u64(LINES), state) > 0
    assert 0.48 * LOADS < state[1] < 0.52 * LOADS, "half of them beyond the middle"
