"""The window scale option, wherever it stands, and however it is cut off."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.packet.tcp import HEADER, NO_SCALE, window_scale


def scale(options, cut=0):
    data = (
        np.frombuffer(bytes(HEADER) + options + b"\x03\x03\x05" * 4, np.uint8).reshape(1, -1).copy()
    )
    return int(window_scale(data, 0, 0, HEADER + len(options) - cut))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (b"", NO_SCALE),
        (b"\x03\x03\x07", 7),
        (b"\x01\x01\x02\x04\x05\xb4\x03\x03\x0e", 14),
        (b"\x03\x03\x0f", 14),  # RFC 7323 section 2.3
        (b"\x03\x03\xff", 14),
        (b"\x00\x03\x03\x07", NO_SCALE),
        (b"\x03\x04\x07\x01", NO_SCALE),
        (b"\x02\x00\x03\x03\x07", NO_SCALE),
        (b"\x02\x01\x03\x03\x07", NO_SCALE),
        (b"\x08\x0a\x03\x03\x07\x00\x00\x00\x00\x00\x03\x03\x02", 2),
        (b"\x01\x01\x03", NO_SCALE),
    ],
)
def test_options(options, found):
    assert scale(options) == found


def test_nothing_beyond_the_header_counts():
    for cut in (1, 2, 3):
        assert scale(b"\x03\x03\x07", cut) == NO_SCALE


def simple(options):
    """The option's value by a plain walk."""
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or options[1] < 2 or options[1] > len(options):
            break
        if options[:2] == b"\x03\x03":
            return min(options[2], 14)
        options = options[options[1] :]
    return NO_SCALE


@given(st.lists(st.sampled_from([0, 1, 1, 2, 3, 3, 3, 4, 8, 14, 255]), max_size=40).map(bytes))
def test_any_options(options):
    assert scale(options) == simple(options)
