# SPDX-License-Identifier: Apache-2.0
"""Positions move as the oracle's do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oracles.packed import AVAIL, FIRST, USED, step
from vforward.jit.kernel import kernel
from vforward.rings import position
from vforward.rings import virtqueue as vq


@kernel
def move(queue, where, n):
    after = position.advance(queue, where, n)
    return after, position.available_flags(after), position.used_flags(after)


@given(st.data(), st.sampled_from([1, 2, 3, 8, 300, 32767, 32768]), st.booleans())
def test_positions_move_as_the_standard_says(data, size, wrap):
    steps = st.sampled_from([0, 1, size - 1, size]) | st.integers(0, size)
    number = data.draw(st.sampled_from([0, size - 1]) | st.integers(0, size - 1))
    n = data.draw(steps)
    queue = np.zeros(vq.QUEUE_WORDS, np.uint64)
    queue[vq.SIZE] = size
    where = number | wrap << 15
    after = step(where, n, size)
    lap = after >> 15
    flags = (AVAIL, AVAIL | USED) if lap else (USED, 0)
    assert move(queue, where, n) == (after, *flags)


@kernel
def apart(queue, first, last):
    return position.between(queue, first, last)


@given(st.data(), st.sampled_from([1, 2, 3, 8, 32768]), st.booleans())
def test_how_far_positions_are_apart(data, size, wrap):
    number = data.draw(st.sampled_from([0, size - 1]) | st.integers(0, size - 1))
    n = data.draw(st.sampled_from([0, 1, size - 1, size, 2 * size - 1]))
    queue = np.zeros(vq.QUEUE_WORDS, np.uint64)
    queue[vq.SIZE] = size
    where = number | wrap << 15
    assert apart(queue, where, step(where, n, size)) == n


def test_the_start():
    assert position.START == FIRST
