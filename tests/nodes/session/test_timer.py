"""session-timer: the time goes on, sessions end, and never too many at once."""

import numpy as np

from tables.session_world import World, endpoint
from vforward.graph.node import MORE
from vforward.graph.worker import clock_hz
from vforward.nodes.session import timer
from vforward.tables import session as t
from vforward.testing import run_node

SERVER = endpoint(0xC0000201, 80)


def poll(world, times=1):
    killed = 0
    for _ in range(times):
        result = run_node(timer.NODE, tables=world.sessions.tables)
        assert result.edges == []
        killed += result.counters["killed"]
    return killed


def filled(n, capacity=1023):
    world = World(capacity)
    world.put(bytes(8))
    return world, [world.open(endpoint(0x0A000000 + k, 1), SERVER) for k in range(n)]


def test_time_is_somebody_elses_where_no_clock_is_set():
    world, _ = filled(3)
    world.head[t.NOW] = 300
    poll(world)
    assert int(world.head[t.OPEN]) == 3
    world.head[t.NOW] = 301
    poll(world)
    assert int(world.head[t.OPEN]) == 0
    assert int(world.head[t.NOW]) == 301


def test_ticks_of_the_clock():
    """A tick of few cycles has passed whenever one looks; one of very many never has."""
    world, _ = filled(3)
    world.sessions.set_clock(1000)
    poll(world, 3)
    first = int(world.head[t.NOW])
    assert first >= 1
    poll(world, 3)
    assert int(world.head[t.NOW]) > first
    world.sessions.set_clock(1e15)
    poll(world)
    now = int(world.head[t.NOW])
    poll(world, 3)
    assert int(world.head[t.NOW]) == now


def test_no_tick_is_lost():
    world, _ = filled(0)
    hz = round(clock_hz())
    world.sessions.set_clock(hz)
    poll(world)
    assert int(world.head[t.NOW]) == 0
    world.head[t.NEXT_AT] -= np.uint64(10 * hz)
    poll(world)
    assert int(world.head[t.NOW]) in (9, 10)
    world.head[t.NEXT_AT] += np.uint64(100 * hz)  # as if the counter had begun anew
    poll(world)
    assert int(world.head[t.NOW]) in (9, 10)


def test_a_budget_for_each_round():
    world, numbers = filled(1023)
    world.head[t.NOW] = 1000
    left = []
    while int(world.head[t.OPEN]):
        poll(world)
        left.append(int(world.head[t.OPEN]))
        world.sessions.check()
    assert left == [1023 - timer.BUDGET, 0]
    assert len(numbers) == 1023


def test_what_is_left_is_done_in_the_same_tick():
    world, _ = filled(1023)
    world.sessions.set_clock(1e15)
    world.head[t.NOW] = 1000
    world.head[t.BEHIND] = 1
    poll(world, 3)
    assert int(world.head[t.OPEN]) == 0


def asked_again(world):
    """What the kernel returns."""
    pool, none = world.pool, np.zeros(256, np.uint32)
    given = world.sessions.tables
    count = np.zeros(len(timer.Count), np.uint64)
    edges = np.zeros(256, np.uint8)
    kills = given["session_kills"]
    return int(
        timer.session_timer(pool.data, pool.meta, none, edges, count, given["sessions"], kills)
    )


def test_while_sessions_are_left_to_end_the_worker_is_kept_awake():
    world, numbers = filled(1023)
    assert asked_again(world) == 0
    world.sessions.kill(numbers[: timer.KILLS * timer.KILL_ROUNDS + 1])
    assert [asked_again(world) for _ in range(2)] == [MORE, 0]
    world.head[t.NOW] = 1000
    assert [asked_again(world) for _ in range(2)] == [MORE, 0]
    assert int(world.head[t.OPEN]) == 0


def test_kills():
    world, numbers = filled(600)
    assert world.sessions.kill(numbers[:300]) == 300
    killed = poll(world, 10)
    assert killed == 300
    assert world.sessions.statistics()["killed"] == 300
    world.sessions.check()


def test_a_kill_that_comes_too_late_ends_no_other_session():
    world, numbers = filled(1, 1)
    world.sessions.kill(numbers)
    world.close(numbers[0])
    world.put(bytes(8))
    assert world.open(endpoint(1, 1), SERVER) == numbers[0]
    assert poll(world, 2) == 0
    assert int(world.head[t.OPEN]) == 1


def test_a_ring_of_nonsense():
    world, _ = filled(3)
    words = [0, 1, 2**64 - 1, 1 << 32, 5 << 32 | 1, 1 << 32 | 1024, 1 << 32 | 700]
    world.sessions._kills.push(np.array(words, np.uint64))
    assert poll(world, 3) == 0
    world.sessions.check()
