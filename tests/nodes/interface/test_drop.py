"""drop: every buffer comes back."""

import pytest

from nodes.network import run_both
from vforward.layout import BUF_ROOM
from vforward.nodes.interface.drop import NODE


@pytest.mark.parametrize("n", [1, 2, 256, 700])
def test_gives_back_packets_and_their_chains(n):
    frames = [bytes((0, 60, BUF_ROOM, BUF_ROOM + 1, 9000)[i % 5]) for i in range(n)]
    result = run_both(NODE, frames, compare=())
    assert set(result.edges) == {"held"}
    assert result.held == []
    assert result.pool.free == result.pool.size
    result.pool.check()
