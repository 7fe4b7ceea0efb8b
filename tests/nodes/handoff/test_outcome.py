"""Handing off: each packet to its worker, side by side and in order; what finds no room is dropped."""

import numpy as np

from nodes.handoff_world import ME, World
from tables.session_world import endpoint
from vforward.nodes.handoff import flow4
from vforward.nodes.handoff.outcome import Count
from vforward.testing import packets as pk

A, B = "10.0.0.1", "192.0.2.1"


def udp(sport):
    return pk.ip4(A, B, 17, pk.udp(A, B, sport, 53))


def test_each_packet_goes_to_its_worker_in_order():
    world = World()
    result, workers = world.run(flow4.NODE, [udp(1000 + k % 60) for k in range(600)])
    homes = [
        world.home4(endpoint(0x0A000001, 1000 + k % 60), endpoint(0xC0000201, 53), 17)
        for k in range(600)
    ]
    assert workers == homes
    assert set(homes) == {0, 1, 2}
    others = sum(home != ME for home in homes)
    assert result.counted == {"handed-off": others}


def test_what_finds_no_room_is_dropped_and_counted():
    world = World(room=8)
    result, workers = world.run(flow4.NODE, [udp(1000 + k) for k in range(200)])
    assert [len(given) for given in world.given] == [8, 0, 8]
    dropped = [i for i, worker in enumerate(workers) if worker is None]
    assert {result.edges[i] for i in dropped} == {"drop"}
    assert {result.reason(i) for i in dropped} == {"ring-full"}
    assert result.counters["ring-full"] == len(dropped) > 0
    assert result.counters["handed-off"] == 16
    assert min(dropped) > max(max(given) for given in world.given if given) - 200
    assert Count.RING_FULL == 1


def test_a_stray_goes_to_who_has_it():
    world = World()
    src, dst = endpoint(0x0A000001, 1000), endpoint(0xC0000201, 53)
    home = world.home4(src, dst, 17)
    other = (home + 1) % 3
    owner = World()
    owner.sessions.share(other, 3, bytes(range(16)), world.strays)
    owner.put(bytes(8))
    reply_src = dst
    new = next(
        end
        for end in range(src + 1, src + 200)
        if world.home4(reply_src, end, 17) == home and world.home4(src + 5000, dst, 17) >= 0
    )
    first = next(end for end in range(src, src + 100) if world.home4(end, dst, 17) == other)
    assert owner.open(first, dst, 17, 0, reply=(dst, new)) > 0
    answer = pk.ip4(B, A, 17, pk.udp(B, A, 53, new & 0xFFFF))
    _, workers = world.run(flow4.NODE, [answer, udp(1000)])
    assert workers == [other, home]


def test_vectors_of_any_size_have_one_outcome():
    frames = [udp(1000 + k % 37) for k in range(300)]
    outcomes = [World().run(flow4.NODE, frames, vector=n)[1] for n in (1, 7, 256)]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert np.unique(outcomes[0]).size == 3
