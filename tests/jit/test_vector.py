"""Eight words compared at once, against a loop."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.jit.kernel import i64, kernel, u64
from vforward.jit.vector import any_near, differs, near, near16

WORD = st.integers(0, (1 << 64) - 1)
LIMITS = st.sampled_from([1, 2, 1 << 16, 1 << 63, (1 << 64) - 1])


@kernel
def _near(array, at, word, limit):
    return near(array, u64(at), u64(word), u64(limit))


@kernel
def _any_near(array, at, word, limit):
    return any_near(array, u64(at), u64(word), u64(limit))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(WORD, min_size=24, max_size=24),
    st.integers(0, 16),
    WORD,
    LIMITS,
    st.none() | st.tuples(st.integers(0, 23), st.sampled_from([0, 1, 2, 0xFFFF, 1 << 16])),
)
def test_as_a_loop(words, at, word, limit, planted):
    if planted:
        words[planted[0]] = word ^ planted[1]
    array = np.array(words, np.uint64)
    hits = [w for w in words[at : at + 8] if w ^ word < limit]
    arguments = (array, np.int64(at), np.uint64(word), np.uint64(limit))
    assert _any_near(*arguments) == bool(hits)
    found = int(_near(*arguments))
    assert found == hits[0] if hits else found in words[at : at + 8]


@kernel
def _near16(array, at, word, limit):
    return near16(array, at, word, limit)


HALF = st.one_of(
    st.sampled_from([0, 1, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF]), st.integers(0, 2**32 - 1)
)


@settings(max_examples=300)
@given(
    st.lists(HALF, min_size=40, max_size=40),
    st.integers(0, 24),
    HALF,
    st.sampled_from([1, 2, 1 << 20, 1 << 31, 0xFFFFFFFF]),
    st.lists(st.integers(0, 39), max_size=5),
)
def test_sixteen_at_once(words, at, word, limit, planted):
    for place in planted:
        words[place] = word
    found = int(_near16(np.array(words, np.uint32), at, word, limit))
    assert found == sum((w ^ word < limit) << k for k, w in enumerate(words[at : at + 16]))


@kernel
def _differs(values, at, apart, fields, where, ranges):
    return differs(values, i64(at), i64(apart), fields, i64(where), i64(ranges))


EDGE = st.sampled_from([0, 1, 0x7FFF, 0x8000, 0xFFFF]) | st.integers(0, 0xFFFF)
HALVES = st.builds(lambda high, low: high << 16 | low, EDGE, EDGE)
EIGHT = st.lists(HALVES, min_size=8, max_size=8)


@settings(max_examples=300, deadline=None)
@given(
    EIGHT,
    EIGHT,
    st.lists(st.sampled_from([0, 1, 1 << 31, 0xFFFFFFFF]), min_size=8, max_size=8),
    st.integers(-1, 7),
    st.booleans(),
    st.integers(0, 3),
    st.integers(4, 6),
)
def test_fields_against_values_masks_and_ranges(fields, values, masks, ranges, same, at, apart):
    if same:  # equal where masks are, but for the ranges
        values = [field & mask | field & ~mask for field, mask in zip(fields, masks, strict=True)]
    if ranges >= 0:
        masks[ranges] = values[ranges] + 0x00010001 & 0xFFFFFFFF
    wrong = any(
        (field ^ value) & mask
        for k, (field, value, mask) in enumerate(zip(fields, values, masks, strict=True))
        if k != ranges
    )
    for shift in (0, 16) if ranges >= 0 else ():
        field, low, high = (words[ranges] >> shift & 0xFFFF for words in (fields, values, masks))
        wrong |= not low <= field <= high
    array = np.zeros(at + apart + 4, np.uint64)
    array.view(np.uint32)[2 * at : 2 * at + 8] = values
    array.view(np.uint32)[2 * (at + apart) : 2 * (at + apart) + 8] = masks
    packet = np.array([7, *fields], np.uint32)
    assert _differs(array, at, apart, packet, 1, ranges) == wrong
