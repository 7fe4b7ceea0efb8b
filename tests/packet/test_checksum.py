"""Checksums over buffers, against the oracle: boundaries first, then chains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import checksum as oracle
from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE, CHAINED, CSUM_PARTIAL, HEADROOM, META, NIL
from vforward.packet.checksum import complete, fold, sum_bytes, update16

words = st.sampled_from([0, 1, 0x7FFF, 0x8000, 0xFEFF, 0xFF00, 0xFFFE, 0xFFFF]) | st.integers(
    0, 0xFFFF
)
lengths = st.sampled_from([*range(18), 20, 63, 64, 65, 1480, 1900]) | st.integers(0, 1900)


@st.composite
def contents(draw):
    n = draw(lengths)
    byte = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
    text = bytearray(draw(st.sampled_from([bytes([byte]) * n, bytes(i & 255 for i in range(n))])))
    for at in draw(st.lists(st.integers(0, n - 1), max_size=4)) if n else []:
        text[at] = draw(st.sampled_from([0, 1, 0xFE, 0xFF]))
    return bytes(text)


@kernel
def call_fold(total):
    return fold(total)


@kernel
def call_update16(checksum, old, new):
    return update16(checksum, old, new)


@settings(max_examples=300, deadline=None)
@given(contents(), st.sampled_from([0, 1, 2, 3, 7, 8, 14, 34, 138]))
def test_sum_bytes(text, off):
    data = np.full((2, BUF_STRIDE), 0xA5, np.uint8)
    data[1, off : off + len(text)] = np.frombuffer(text, np.uint8)
    assert sum_bytes(data, 1, off, len(text)) == oracle.ones_sum(text)


@given(st.lists(words, min_size=1, max_size=4))
def test_fold(parts):
    total = sum(parts[i] << 16 * i for i in range(len(parts))) & (1 << 63) - 1
    assert call_fold(total) == oracle.ones_sum(total.to_bytes(8, "big"))


@settings(max_examples=500, deadline=None)
@given(words, words, words)
def test_update16(check, old, new):
    assert call_update16(check, old, new) == oracle.update(check, old, new)


def chain(parts, offs):
    """Buffers 3, 5, 7, ... of a pool that hold the parts."""
    rows = [3 + 2 * i for i in range(len(parts))]
    data = np.full((2 * len(parts) + 4, BUF_STRIDE), 0xA5, np.uint8)
    meta = np.zeros(len(data), META)
    meta["next"] = NIL
    for i, (row, part, off) in enumerate(zip(rows, parts, offs, strict=True)):
        meta[row]["off"], meta[row]["end"] = off, off + len(part)
        data[row, off : off + len(part)] = np.frombuffer(part, np.uint8)
        if i + 1 < len(parts):
            meta[row]["next"], meta[row]["flags"] = rows[i + 1], CHAINED
    meta[3]["rest"] = sum(map(len, parts[1:]))
    return data, meta, rows


def bytes_of(data, meta, rows):
    spans = [(r, int(meta[r]["off"]), int(meta[r]["end"]) - int(meta[r]["off"])) for r in rows]
    return b"".join(data[r, off : off + n].tobytes() for r, off, n in spans)


@settings(max_examples=300, deadline=None)
@given(
    start=st.integers(0, 40),
    behind=st.integers(0, 19),
    rest=st.lists(contents(), max_size=3),
    off=st.sampled_from([0, 1, HEADROOM - 4, HEADROOM, HEADROOM + 1]),
    pseudo=words,
    data=st.data(),
)
def test_complete_is_the_sum_over_the_chain(start, behind, rest, off, pseudo, data):
    head = bytearray(start + behind + 2) + bytearray(data.draw(contents())[:400])
    field = start + behind
    head[field : field + 2] = pseudo.to_bytes(2, "big")
    packet = bytes(head) + b"".join(rest)
    buffers, meta, rows = chain(
        [bytes(head), *rest], [off, *(HEADROOM + i for i in range(len(rest)))]
    )
    meta[3]["flags"] |= CSUM_PARTIAL
    meta[3]["csum_start"], meta[3]["csum_off"] = off + start, behind
    assert complete(buffers, meta, 3)
    want = oracle.internet(packet[start:]) or 0xFFFF
    assert (
        bytes_of(buffers, meta, rows)
        == packet[:field] + want.to_bytes(2, "big") + packet[field + 2 :]
    )
    assert not meta[3]["flags"] & CSUM_PARTIAL
    assert complete(buffers, meta, 3)  # nothing is left to do


@pytest.mark.parametrize(
    ("start", "behind", "ok"),
    [
        (0, 0, True),
        (0, 58, True),
        (0, 59, False),
        (-1, 0, False),
        (58, 0, True),
        (59, 0, False),
        (60, 0, False),
        (2000, 65535, False),
    ],
)
def test_complete_refuses_what_is_not_in_the_first_buffer(start, behind, ok):
    data, meta, _ = chain([bytes(60), b"tail"], [HEADROOM, HEADROOM])
    meta[3]["flags"] |= CSUM_PARTIAL
    meta[3]["csum_start"], meta[3]["csum_off"] = HEADROOM + start, behind
    before = data.copy()
    assert complete(data, meta, 3) == ok
    assert not meta[3]["flags"] & CSUM_PARTIAL
    assert (data == before).all() != ok


def test_complete_refuses_lengths_beyond_the_buffer():
    data, meta, _ = chain([bytes(60)], [HEADROOM])
    meta[3]["flags"], meta[3]["end"], meta[3]["csum_start"] = CSUM_PARTIAL, 65535, HEADROOM
    assert not complete(data, meta, 3)
