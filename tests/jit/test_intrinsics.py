# SPDX-License-Identifier: Apache-2.0
"""Each intrinsic against plain Python."""

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.jit.intrinsics import (
    address,
    ask_read,
    ask_write,
    call2,
    call3,
    call4,
    copy,
    ctz,
    cycles,
    fold_multiply,
    prefetch,
    prefetch2,
    prefetch_write,
    relax,
    view,
    view2,
)
from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE, META


@kernel
def two_clocks():
    first = cycles()
    for _ in range(100):
        relax()
    return first, cycles()


@kernel
def lowest(value):
    return ctz(value)


@kernel
def folded(a, b):
    return fold_multiply(a, b)


@kernel
def where(array):
    return address(array)


@kernel
def touch(data, meta, row):
    prefetch(meta, row)
    prefetch2(data, row)
    prefetch_write(data, row)


@kernel
def touch_at(where):
    ask_read(where)
    ask_write(where)


@kernel
def calls(f2, f3, f4):
    return call2(f2, 1, 2), call3(f3, 1, 2, 3), call4(f4, 1, 2, 3, -4)


@kernel
def move(to, source, n):
    copy(to, source, n)


@kernel
def add_up(start, n):
    total = np.uint64(0)
    for value in view(start, n, np.uint32):
        total += np.uint64(value)
    return total


@kernel
def fill_rows(start, n):
    rows = view2(start, n, 5, np.uint8)
    for i in range(n):
        for k in range(rows.shape[1]):
            rows[i, k] = 10 * i + k
    return rows.shape, rows.size


@kernel
def set_hash(start, n, row, value):
    view(start, n, META)[row].hash = value


def test_the_clock_goes_on():
    first, second = two_clocks()
    assert 0 < second - first < 10_000_000_000


@given(st.one_of(st.integers(0, 63).map(lambda k: 1 << k), st.integers(1, 2**64 - 1)))
def test_ctz_is_the_lowest_bit(value):
    assert lowest(np.uint64(value)) == (value & -value).bit_length() - 1


def test_ctz_of_nothing_is_64():
    assert lowest(np.uint64(0)) == 64


WORDS = st.one_of(st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))


@given(WORDS, WORDS)
def test_fold_multiply_is_both_halves_of_the_product(a, b):
    product = a * b
    assert int(folded(np.uint64(a), np.uint64(b))) == product >> 64 ^ product & 2**64 - 1


@pytest.mark.parametrize("start", [0, 1, 7])
def test_address_is_of_the_first_element(start):
    array = np.zeros(16, np.uint32)[start:]
    assert where(array) == array.ctypes.data
    table = np.zeros((16, BUF_STRIDE), np.uint8)[start:]
    assert where(table) == table.ctypes.data


@pytest.mark.parametrize("row", [0, 1, 2**31])
def test_prefetch_changes_nothing_wherever_it_points(row):
    data, meta = np.zeros((2, BUF_STRIDE), np.uint8), np.zeros(2, META)
    touch(data, meta, row)
    assert not data.any()
    assert not meta.view(np.uint8).any()


@pytest.mark.parametrize("off", [0, 63, -(2**40)])
def test_asking_changes_nothing_wherever_it_points(off):
    data = np.arange(64, dtype=np.uint8)
    touch_at(data.ctypes.data + off)
    assert data.tolist() == list(range(64))


def test_calls_by_address_pass_their_arguments_in_order():
    seen = []

    def take(*arguments):
        seen.append(arguments)
        return sum(arguments) - 100

    functions = [ctypes.CFUNCTYPE(*[ctypes.c_int64] * (n + 1))(take) for n in (2, 3, 4)]
    addresses = [ctypes.cast(f, ctypes.c_void_p).value for f in functions]
    assert calls(*addresses) == (-97, -94, -98)
    assert seen == [(1, 2), (1, 2, 3), (1, 2, 3, -4)]


@given(st.integers(0, 200), st.integers(0, 50), st.integers(0, 50))
def test_copy_moves_just_these_bytes(n, at, to):
    source = np.arange(256, dtype=np.uint8)
    target = np.full(256, 0xEE, np.uint8)
    wanted = target.copy()
    wanted[to : to + n] = source[at : at + n]
    move(target.ctypes.data + to, source.ctypes.data + at, n)
    assert (target == wanted).all()


def test_views_are_of_the_memory_itself():
    array = np.array([1, 2, 2**32 - 1], np.uint32)
    assert add_up(array.ctypes.data, 3) == 2**32 + 2
    assert add_up(array.ctypes.data, 0) == 0
    table = np.zeros((3, 5), np.uint8)
    assert fill_rows(table.ctypes.data, 3) == ((3, 5), 15)
    assert table[2].tolist() == [20, 21, 22, 23, 24]
    meta = np.zeros(3, META)
    set_hash(meta.ctypes.data, 3, 2, 77)
    assert meta["hash"].tolist() == [0, 0, 77]
