"""Packets of known sessions: replies, treatments, what NAT makes of them."""

import numpy as np

from tables.session_world import L3, L4, World, endpoint, header
from vforward.jit.kernel import kernel
from vforward.tables import session as t
from vforward.tables import session_follow, session_tcp

A, B, OUT = endpoint(0x0A000001, 1), endpoint(0xC0000201, 2), endpoint(0xC6336401, 3)


def test_a_reply_and_a_treatment():
    world = World()
    world.put(bytes(8))
    number = world.open(A, B, grant=t.Grant(0, 5, 0, 0, 0, 0))
    assert world.state(number) == "unreplied"
    assert world.follow(number, 0) == session_tcp.PASS
    assert world.state(number) == "unreplied"
    assert int(world.pool.meta[0]["treatment"]) == 5
    assert world.follow(number, 1) == session_tcp.PASS
    assert world.state(number) == "replied"


def test_a_fragment_without_header_changes_no_state():
    world = World()
    world.put(header(2, 9))
    number = world.open(A, B, 6)
    before = world.hot[number].copy()
    world.put(header(4, 10))
    world.pool.data[0, L3 + 7] = 3
    assert world.follow(number, 0) == session_tcp.PASS
    assert world.hot[number] == before


@kernel
def _ends(sessions, found, number, direction):
    s = t.shard(sessions)
    return (
        session_follow.belongs(s, found),
        session_follow.new_ends4(s, found),
        session_follow.translated4(s, number, direction),
    )


def test_endpoints_behind_nat():
    world = World()
    world.put(bytes(8))
    number = world.open(A, B, reply=(B, OUT))
    out, back = number << 2 | 1, number << 2 | 2
    assert _ends(world.array, out, number, 0) == (True, (OUT, B), (OUT, B))
    assert _ends(world.array, back, number, 1) == (True, (B, A), (B, A))
    for other in (number << 2, number << 2 | 3):
        assert not _ends(world.array, other, number, 0)[0]
    plain = world.open(A + 1, B)
    assert _ends(world.array, plain << 2, plain, 0)[0]


def test_what_cannot_be_translated_is_refused():
    """A first fragment that does not hold the checksum."""
    world = World()
    world.put(header(2, 9, 0, 1000))
    number = world.open(A, B, 6, reply=(B, OUT))
    world.put(header(2, 9, 0, 1000)[:12])
    world.pool.data[0, L3 + 6] = 0x20
    assert world.follow(number, 0) == session_tcp.SHORT
    assert (
        np.frombuffer(header(2, 9)[:4], np.uint8).tolist()
        == world.pool.data[0, L4 : L4 + 4].tolist()
    )
