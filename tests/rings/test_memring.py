"""The ledger of rows that are lent, and the segment. tests/io/test_memring.py runs them in a port."""

import os
import threading
import time

import numpy as np
import pytest

from vforward.io.libc import libc_address
from vforward.layout import CHAINED, NIL
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool, drain_cache
from vforward.rings import memring as ring
from vforward.rings.spsc import Ring


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    with Arena.create("ledger") as arena:
        yield Pool(arena, 200)


def chain(pool, n):
    rows = pool.take(n)
    pool.meta["flags"][rows[:-1]] = CHAINED
    pool.meta["next"][rows[:-1]] = rows[1:]
    return [int(row) for row in rows]


@pytest.fixture
def state():
    return np.zeros(ring.STATE_WORDS, np.uint64)


@pytest.fixture
def ledger(pool):
    return np.zeros(pool.size, np.uint8)


def test_the_segment_holds_what_may_be_lent():
    room = 64
    rings = ring.rings(np.zeros(ring.words_for(room), np.uint64), room)
    assert [Ring(r).slots for r in rings[1:]] == [room, room, 2 * room, 2 * room]
    for n, array in enumerate(rings[1:]):
        Ring(array).push(np.arange(100) + 1000 * n)
    assert [int(Ring(r).pop(1)[0]) for r in rings[1:]] == [0, 1000, 2000, 3000]
    assert not rings.words[: ring.FIRST].any()
    with pytest.raises(ValueError, match="none for 32 packets"):
        ring.rings(rings.words, 32)


def test_a_chain_is_lent_and_comes_back_whole(pool, ledger, state):
    rows, cache = chain(pool, 5), pool.cache()
    assert ring.lend(pool.meta, ledger, state, rows[0], 5) == 5
    assert np.flatnonzero(ledger).tolist() == sorted(rows)
    assert int(state[ring.LENT + ring.PACKET]) == 5
    assert not ring.returned_chain(pool.meta, cache, ledger, state, pool.size)
    assert ring.returned_chain(pool.meta, cache, ledger, state, rows[0])
    assert not ring.returned_chain(pool.meta, cache, ledger, state, rows[0])
    assert (int(state[ring.LENT + ring.PACKET]), ledger.any()) == (0, False)
    pool.check()


@pytest.mark.parametrize(
    ("n", "room", "answer"), [(5, 4, 0), (ring.BUFFERS_MAX, 1, 0), (ring.BUFFERS_MAX + 1, 1000, -1)]
)
def test_what_is_too_much_is_not_lent_at_all(pool, ledger, state, n, room, answer):
    rows = chain(pool, n)
    assert ring.lend(pool.meta, ledger, state, rows[0], room) == answer
    assert not ledger.any()
    pool.put(rows[:1])


def test_a_chain_is_followed_as_far_as_it_was_lent(pool, ledger, state):
    mine, other, cache = chain(pool, 2), chain(pool, 1), pool.cache()
    ring.lend(pool.meta, ledger, state, mine[0], 99)
    pool.meta["next"][mine[0]] = other[0]  # the program's doing
    assert ring.returned_chain(pool.meta, cache, ledger, state, mine[0])
    assert np.flatnonzero(ledger).tolist() == mine[1:]
    pool.check([mine[1], other[0]])


def test_reclaiming_takes_the_ledgers_word_and_nobody_elses(pool, ledger, state):
    rows = chain(pool, 3)
    ring.lend(pool.meta, ledger, state, rows[0], 99)
    ledger[7 if 7 not in rows else 8] = ring.NOT
    pool.meta["next"][rows] = NIL
    room = 64
    rings = ring.rings(np.zeros(ring.words_for(room), np.uint64), room)
    for array in rings[1:]:
        array[:] = 0xFFFFFFFF
    cache = pool.cache()
    ring.reclaim(cache, ledger, state, *rings[1:])
    drain_cache(cache)
    assert [Ring(r).used_slots() for r in rings[1:]] == [0] * 4
    pool.check()


def test_turns(state):
    assert ring.turn_of(state) == ring.FREE
    ring.hand_over(state, ring.ENDED)
    assert ring.turn_of(state) == ring.ENDED


def test_kicks_and_sleep():
    words = np.zeros(ring.FIRST, np.uint64)
    assert ring.kick(words)
    ring.kicked(words)
    assert not ring.kick(words)
    ring.fall_asleep(words)
    assert words[[ring.KICK, ring.ASLEEP]].tolist() == [1, 1]
    ring.awake(words)
    assert words[[ring.KICK, ring.ASLEEP]].tolist() == [1, 0]


@pytest.fixture
def sleeper():
    """Words, the ring full, what wait polls: an eventfd and a pipe; the eventfd, the pipe's other end."""
    event = os.eventfd(0, os.EFD_NONBLOCK)
    reader, writer = os.pipe()
    polled = ring.polled_words(event, reader, libc_address("poll"), libc_address("read"))
    rings = ring.rings(np.zeros(ring.words_for(64), np.uint64), 64)
    yield rings.words, Ring(rings.full), polled, event, writer
    for fd in (event, reader, writer):
        os.close(fd)


def test_who_has_packets_does_not_sleep(sleeper):
    words, full, polled, event, _ = sleeper
    os.eventfd_write(event, 1)
    full.push([7, 8])
    assert ring.wait(words, full.array, polled, -1) == 2
    assert os.eventfd_read(event) == 1  # it did not look
    assert not words[ring.ASLEEP]


def test_a_sleep_ends_with_its_time_with_either_descriptor_and_with_packets(sleeper):
    words, full, polled, event, writer = sleeper
    assert ring.wait(words, full.array, polled, 1) == 0
    assert not words[ring.ASLEEP]
    os.eventfd_write(event, 3)  # of packets that were taken meanwhile
    assert ring.wait(words, full.array, polled, -1) == 0
    with pytest.raises(BlockingIOError):
        os.eventfd_read(event)
    assert not ring.other_ready(polled)

    def send():
        while not words[ring.ASLEEP]:
            time.sleep(0.001)
        full.push([9])
        os.eventfd_write(event, 1)

    sender = threading.Thread(target=send)
    sender.start()
    assert ring.wait(words, full.array, polled, -1) == 1
    sender.join()
    assert full.pop(2).tolist() == [9]
    os.write(writer, b"x")
    assert ring.wait(words, full.array, polled, -1) == 0
    assert ring.other_ready(polled)
    assert not words[ring.ASLEEP]
