# SPDX-License-Identifier: Apache-2.0
"""Each atomic by itself, on one thread: what it reads, writes and returns."""

import numpy as np
import pytest

from vforward.jit.atomics import (
    compare_swap32,
    compare_swap64,
    fence,
    fetch_add64,
    load_acquire16,
    load_acquire32,
    load_acquire64,
    store_release16,
    store_release32,
    store_release64,
)
from vforward.jit.intrinsics import address
from vforward.jit.kernel import kernel

LARGE = 2**64 - 3


@kernel
def load(words):
    return load_acquire32(address(words) + 8), load_acquire64(address(words) + 8)


@kernel
def store(words, value, bits):
    if bits == 32:
        store_release32(address(words) + 8, value)
    else:
        store_release64(address(words) + 8, value)
    fence()


@kernel
def swap(words, expected, new, bits):
    if bits == 32:
        return compare_swap32(address(words) + 8, expected, new)
    return compare_swap64(address(words) + 8, expected, new)


@kernel
def add(words, amount):
    return fetch_add64(address(words) + 8, amount)


@pytest.fixture
def words():
    return np.array([1, LARGE, 2], np.uint64)


@kernel
def halves(words, value):
    store_release16(address(words) + 10, value)
    return load_acquire16(address(words) + 8), load_acquire16(address(words) + 10)


def test_sixteen_bits(words):
    assert halves(words, np.uint64(2**20 + 7)) == (LARGE & 0xFFFF, 7)
    assert words.tolist() == [1, LARGE & ~0xFFFF0000 | 7 << 16, 2]


def test_load(words):
    assert load(words) == (LARGE % 2**32, LARGE)


def test_store_touches_its_bits_only(words):
    store(words, np.uint64(2**40 + 7), 32)
    assert words.tolist() == [1, (LARGE >> 32 << 32) + 7, 2]
    store(words, np.uint64(2**40 + 7), 64)
    assert words.tolist() == [1, 2**40 + 7, 2]


@pytest.mark.parametrize("bits", [32, 64])
def test_swap_only_what_is_expected(words, bits):
    low = LARGE % 2**bits
    assert not swap(words, np.uint64(low - 1), np.uint64(5), bits)
    assert words[1] == LARGE
    assert swap(words, np.uint64(low), np.uint64(5), bits) is True
    assert words.tolist() == [1, LARGE - low + 5, 2]


def test_add_returns_what_was_there_and_wraps(words):
    assert add(words, np.uint64(5)) == LARGE
    assert words.tolist() == [1, 2, 2]
    assert add(words, np.uint64(2**64 - 2)) == 2
    assert words.tolist() == [1, 0, 2]
