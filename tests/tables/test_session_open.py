"""What begins a session, and what does not."""

import pytest

from tables.session_world import World, endpoint, header
from vforward.tables import session as t

A, B = endpoint(0x0A000001, 7), endpoint(0xC0000201, 0)
TCP, ICMP = 6, 1
V6 = 0x20010DB8 << 96 | 1, 0x20010DB8 << 96 | 2


@pytest.mark.parametrize("flags", range(64))
def test_of_tcp_a_syn(flags):
    world = World()
    world.put(header(flags))
    begins = flags & 0b10111 == 2
    assert (world.open(A, B, TCP) > 0) == begins
    assert (world.open6(V6[0], 1, V6[1], 2, TCP) > 0) == begins
    world.sessions.check()


def test_of_icmp_a_request():
    world = World()
    for kind, begins in ((8, True), (0, False), (13, False)):
        world.put(bytes((kind, 0, 0, 0, 0, 7, 0, 0)))
        assert (world.open(A, B, ICMP) > 0) == begins
    world.put(bytes((128, 0, 0, 0, 0, 7, 0, 0)))
    assert world.open6(V6[0], 7, V6[1], 0, 58) > 0
    world.put(bytes((129, 0, 0, 0, 0, 7, 0, 0)))
    assert world.open6(V6[1], 0, V6[0], 8, 58) == ~t.NOT_A_BEGINNING


def test_keys_that_cannot_be():
    world = World()
    world.put(bytes(8))
    assert world.open(A, A) == ~t.TAKEN
    assert world.open(A, B, reply=(A, B)) == ~t.TAKEN, "replies look like what they reply to"
    assert world.open(A, B, reply=(B, B)) == ~t.TAKEN
    assert world.open6(V6[0], 1, V6[0], 1) == ~t.TAKEN
    assert int(world.head[t.OPEN]) == 0
    world.sessions.check()


def test_what_the_policy_grants_is_kept():
    world = World()
    world.put(bytes(8))
    world.pool.meta[0]["rx_port"] = 9
    world.at(77)
    number = world.open(A, B, grant=t.Grant(1000, 65535, 4095, 5, 6, 8))
    cold = world.sessions.parts.cold[number]
    found = {
        name: int(cold[name]) for name in ("hits", "treatment", "limit", "in_port", "out_port")
    }
    assert found == {"hits": 1000, "treatment": 65535, "limit": 4095, "in_port": 9, "out_port": 8}
    assert int(cold["created"]) == 77
    flags = int(world.hot[number]["flags"])
    assert flags == t.TREATED | t.SOURCED
    assert int(world.sessions.parts.limits[4095]) == 1
    world.sessions.check()


def test_who_is_over_his_limit_pushes_nobody_out():
    world = World(3)
    world.put(bytes(8))
    grant = t.Grant(1, 0, 0, 0, 3, 0)
    for n in range(3):
        assert world.open(A + n, B, grant=grant) > 0
    assert world.open(A + 3, B, grant=grant) == ~t.SOURCE_LIMIT
    assert world.open(A + 3, B, grant=t.Grant(1, 0, 5, 1, 0, 0)) > 0
    assert world.open(A + 4, B, grant=t.Grant(1, 0, 5, 1, 0, 0)) == ~t.RULE_LIMIT
    assert int(world.head[t.EVICTED]) == 1
    world.sessions.check()


def test_sources_of_ip6_are_their_64():
    world = World()
    world.put(bytes(8))
    grant = t.Grant(1, 0, 0, 0, 1, 0)
    assert world.open6(V6[0], 1, V6[1], 2, grant=grant) > 0
    assert world.open6(V6[0] + 5, 1, V6[1], 2, grant=grant) == ~t.SOURCE_LIMIT
    assert world.open6(V6[0] + (1 << 64), 1, V6[1], 2, grant=grant) > 0
    world.sessions.check()
