# SPDX-License-Identifier: Apache-2.0
"""Loads and stores of words against int.from_bytes and to_bytes."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.jit import be
from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE

ROWS = 3


@kernel
def load(data, row, off, out):
    out[0] = be.load16(data, row, off)
    out[1] = be.load32(data, row, off)
    out[2] = be.load64(data, row, off)
    out[3] = be.raw_load16(data, row, off)
    out[4] = be.raw_load32(data, row, off)
    out[5] = be.raw_load64(data, row, off)


@kernel
def store(data, row, off, value, bits, raw):
    if raw:
        if bits == 16:
            be.raw_store16(data, row, off, value)
        elif bits == 32:
            be.raw_store32(data, row, off, value)
        else:
            be.raw_store64(data, row, off, value)
    elif bits == 16:
        be.store16(data, row, off, value)
    elif bits == 32:
        be.store32(data, row, off, value)
    else:
        be.store64(data, row, off, value)


@kernel
def kinds(data):
    """16- and 32-bit values mix with literals: never a float, never a narrow wrap."""
    return be.load32(data, 0, 0) + 1, be.load16(data, 0, 0) - 0x10000


WORDS = st.one_of(
    st.sampled_from([0, 1, 0x80, 0xFF, 0x8000, 0xFFFF, 2**31, 2**32 - 1, 2**63, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
PLACES = st.tuples(
    st.integers(0, ROWS - 1),
    st.one_of(st.sampled_from([0, 1, 63, 64, BUF_STRIDE - 8]), st.integers(0, BUF_STRIDE - 8)),
)


@given(place=PLACES, word=WORDS)
def test_loads_are_from_bytes(place, word):
    row, off = place
    data = np.full((ROWS, BUF_STRIDE), 0xA5, np.uint8)
    text = word.to_bytes(8, "big")
    data[row, off : off + 8] = list(text)
    out = np.zeros(6, np.uint64)
    load(data, row, off, out)
    wanted = [
        int.from_bytes(text[:n], order) for order in ("big", sys.byteorder) for n in (2, 4, 8)
    ]
    assert out.tolist() == wanted


@given(place=PLACES, word=WORDS, bits=st.sampled_from([16, 32, 64]), raw=st.booleans())
def test_stores_are_to_bytes_and_touch_nothing_else(place, word, bits, raw):
    row, off = place
    data = np.full((ROWS, BUF_STRIDE), 0xA5, np.uint8)
    wanted = data.copy()
    text = (word % 2**bits).to_bytes(bits // 8, sys.byteorder if raw else "big")
    wanted[row, off : off + bits // 8] = list(text)
    store(data, row, off, np.uint64(word), bits, raw)
    assert (data == wanted).all()


def test_narrow_words_are_plain_integers():
    data = np.full((1, 64), 0xFF, np.uint8)
    assert kinds(data) == (2**32, -1)
    assert all(isinstance(value, int) for value in kinds(data))


def test_a_view_that_starts_later_keeps_its_stride():
    data = np.arange(4 * 64, dtype=np.uint8).reshape(4, 64)
    out = np.zeros(6, np.uint64)
    load(data[2:], 1, 3, out)
    assert out[0] == int.from_bytes(bytes(data[3, 3:5]), "big")


@pytest.mark.slow
def test_bounds_are_checked_on_demand(tmp_path):
    script = tmp_path / "bounds.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np
        from vforward.jit import be
        from vforward.jit.kernel import kernel

        @kernel
        def load(data, row, off):
            return be.load32(data, row, off)

        data = np.zeros((2, 64), np.uint8)
        assert load(data, 1, 60) == 0
        for row, off in ((1, 61), (2, 0), (-1, 0), (0, -1)):
            try:
                load(data, row, off)
            except IndexError:
                continue
            raise SystemExit(f"no error at {row}, {off}")
        """)
    )
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "VFORWARD_CACHE_DIR": str(tmp_path / "cache"),
    }
    subprocess.run([sys.executable, script], check=True, env=environment, timeout=120)
