"""Where the fragment header is, against the oracle's walk."""

import numpy as np
import pytest
from hypothesis import given, settings

from nodes import network6 as net
from nodes.network6 import Ip6Spec
from oracles.tcp_reset import in_pieces
from vforward.packet import fragment6

OPTIONS = (0, bytes([0]) + bytes(6))
FRAGMENT = (44, bytes([0, 0, 1]) + bytes(4))


def find(packet, end=None):
    data = np.frombuffer(packet + bytes(8), np.uint8).reshape(1, -1)
    at = int(fragment6.find(data, 0, 0, len(packet) if end is None else end))
    return at, at >= 0 and bool(fragment6.is_piece(data, 0, at))


@settings(deadline=None)
@given(net.valid_packets())
def test_against_the_oracle(packet):
    assert find(packet)[1] == in_pieces(packet)


def headers(*numbers):
    return [(n, bytes([0, 0, 1]) + bytes(4) if n == 44 else bytes(7)) for n in numbers]


@pytest.mark.parametrize(
    ("numbers", "at"),
    [
        ((), -1),
        ((44,), 40),
        ((0, 44), 48),
        ((0, 60, 43, 44), 64),
        ((51, 44), 48),
        ((44, 44), 40),
        ((50, 44), -1),
        ((108, 44), -1),
        ((60,) * 8 + (44,), 104),
        ((60,) * 9 + (44,), -1),
    ],
)
def test_where_it_is(numbers, at):
    packet = Ip6Spec(bytes(20), headers=headers(*numbers)).build()
    assert find(packet) == (at, at >= 0)


def test_it_must_be_there_whole():
    packet = Ip6Spec(bytes(20), headers=headers(0, 44)).build()
    assert [find(packet, end)[0] for end in (40, 47, 48, 55, 56)] == [-1, -1, -1, -1, 48]


@pytest.mark.parametrize(
    ("word", "piece"), [(0, False), (1, True), (8, True), (6, False), (0xFFF8, True)]
)
def test_whole_packets_are_no_pieces(word, piece):
    header = (44, bytes([0]) + word.to_bytes(2, "big") + bytes(4))
    assert find(Ip6Spec(bytes(20), headers=[header]).build())[1] == piece
