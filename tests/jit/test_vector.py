"""Eight words compared at once, against a loop."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vforward.jit.kernel import kernel, u64
from vforward.jit.vector import any_near, near, near16

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
