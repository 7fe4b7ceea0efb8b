"""The reset itself, at every flag and at sequence numbers that wrap."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import checksum, tcp_reset
from vforward.nodes.tcp import reset

numbers = st.one_of(
    st.sampled_from((0, 1, 0xFFFFFFFF, 0xFFFFFFF0, 1 << 31)), st.integers(0, 2**32 - 1)
)


def segments():
    """Segments with a header of 20 to 60 bytes and any flags."""
    return st.builds(
        lambda ports, seq, ack, words, flags, tail, data: (
            ports.to_bytes(4, "big") + seq.to_bytes(4, "big") + ack.to_bytes(4, "big")
            + bytes([words << 4, flags]) + tail + bytes(4 * words - 20) + data
        ),
        numbers, numbers, numbers, st.integers(5, 15), st.integers(0, 255),
        st.binary(min_size=6, max_size=6), st.binary(max_size=30),
    )  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(segments(), st.integers(0, 0xFFFF), st.sampled_from((0, 20, 44)))
def test_against_the_oracle(segment, pseudo, behind):
    """behind: how far in front of the segment the answer is written, options taken out."""
    data = np.full((1, 200), 0xA5, np.uint8)
    data[0, behind : behind + len(segment)] = np.frombuffer(segment, np.uint8)
    reset.write_reset(data, 0, behind, len(segment), 0, pseudo)
    wanted = tcp_reset.answer(segment)
    check = checksum.internet(pseudo.to_bytes(2, "big") + wanted)
    assert data[0, :20].tobytes() == wanted[:16] + check.to_bytes(2, "big") + wanted[18:]


@settings(deadline=None)
@given(segments(), st.integers(0, 60))
def test_which_are_answered(segment, n):
    cut = segment[:n]
    data = np.full((1, 200), 0xFF, np.uint8)
    data[0, 7 : 7 + len(cut)] = np.frombuffer(cut, np.uint8)
    reason = int(reset.segment_refusal(data, 0, 7, 7 + len(cut), len(cut)))
    label = list(reset.Count)[reason].label if reason >= 0 else None
    assert label == tcp_reset.malformed(cut)
