# SPDX-License-Identifier: Apache-2.0
"""Sessions of an old shard in new ones: all that can be, as they were, and nothing that was damaged.

The oracle reads the old records in Python: what must be known of a session is (keys, state, times, ...).
"""

import os

import numpy as np
import pytest

from tables.session_world import World, endpoint, header
from vforward.jit.kernel import kernel
from vforward.tables import flow_home, strays
from vforward.tables import session as t
from vforward.tables import session_restore as sr

ICMP_ECHO = bytes((8, 0, 0, 0, 0, 7, 0, 0))
MESSAGES = {1: ICMP_ECHO, 6: header(2, 1000, 0, 500, 3), 17: bytes(8), 47: bytes(8)}
NOW = 100_000
SYN, ACK, FIN = 2, 16, 1
CASES = int(os.environ.get("VFORWARD_FUZZ", "300"))


@kernel
def _worker_of(sessions, src, dst, protocol, zone):
    s = t.shard(sessions)
    return flow_home.worker_of(s, flow_home.mixed4(s, src, dst, protocol, zone))


def identity(**changed):
    """Every number is what it was, but for those given as {old: new}."""
    made = {
        "ports": np.arange(sr.WIDE, dtype=np.int64),
        "zones": np.arange(256, dtype=np.int64),
        "hits": np.arange(64, dtype=np.int64),
        "limits": np.arange(64, dtype=np.int64),
        "treatments": np.arange(sr.WIDE, dtype=np.int64),
    }
    for name, pairs in changed.items():
        if name != "doomed":
            for old, new in pairs.items():
                made[name][old] = new
    return sr.Names(**made, doomed=changed.get("doomed", np.zeros(0, np.uint32)))


def talk(world, number, src, dst, seq=1000, ack=5000):
    """A whole handshake, and a segment of 100 bytes from the initiator."""
    for direction, message, payload in (
        (1, header(SYN | ACK, ack, seq + 1, 400, 2), 0),
        (0, header(ACK, seq + 1, ack + 1, 600), 0),
        (0, header(ACK, seq + 1, ack + 1, 600), 100),
    ):
        world.put(message, payload)
        assert world.advance(number, direction) == 0


def filled(rng, capacity=63, n=40):
    """A shard that was lived in: of all protocols, with NAT, limits, sources; some were closed."""
    world = World(capacity)
    world.head[t.NOW] = world.head[t.SWEPT] = NOW
    kept = []
    for k in range(n):
        world.at(NOW + k // 4)
        protocol = int(rng.choice([1, 6, 6, 17, 17, 47]))
        src, dst = endpoint(0x0A000000 + int(rng.integers(9)), 1000 + k), endpoint(0xC0000201, 80)
        nat = (dst, endpoint(0xC6336401, 5000 + k)) if rng.random() < 0.5 else None
        grant = t.Grant(
            *(int(rng.integers(1, 9)) if rng.random() < 0.6 else 0 for _ in range(3)), 100, 0, 3
        )
        grant = grant._replace(per_source=int(rng.integers(2)) * 50)
        world.put(MESSAGES[protocol])
        if rng.random() < 0.3:
            number = world.open6(0x20010DB8 << 96 | k, 1000 + k, 5 << 100, 53, 17, 2, grant)
        else:
            number = world.open(src, dst, protocol, int(rng.integers(3)), nat, grant)
            if protocol == 6 and number > 0 and rng.random() < 0.6:
                talk(world, number, src, dst)
                if rng.random() < 0.3:
                    world.put(header(FIN | ACK, 1101, 5001, 600))
                    world.advance(number, 0)
            elif number > 0 and rng.random() < 0.5:
                world.put(MESSAGES[protocol])
                if protocol != 6:
                    world.advance(number, 1)
        if number > 0:
            world.sessions.parts.cold["in_port"][number] = int(rng.integers(1, 5))
            kept.append(number)
    for number in rng.permutation(kept)[: n // 8]:
        if world.hot["state"][number] != t.FREE:
            world.close(int(number))
    world.sessions.check()
    return world


def new_shards(workers=1, capacity=63, old=None):
    worlds = [World(capacity) for _ in range(workers)]
    if workers > 1:
        seed, room = os.urandom(16), 1 << (capacity * workers).bit_length()
        astray = np.zeros(8 * (1 + 2 * room), np.uint64)
        for worker, world in enumerate(worlds):
            world.sessions.share(worker, workers, seed, astray)
            world.astray = astray
    for world in worlds:
        world.head[t.NOW] = world.head[t.SWEPT] = NOW + 500
    return worlds


def restore(old, worlds, names=None, down=0):
    arrays = [world.array for world in worlds]
    outcomes = sr.restore(old.array, arrays, names or identity(), down)
    sr.arrange(arrays)
    for world in worlds:
        world.sessions.check()
    if len(worlds) > 1:
        strays.check(worlds[0].astray)
    return {end: int(n) for end, n in enumerate(outcomes) if n}


def known(world, number, shift=0):
    """All that a session is, without the numbers that are others in each table."""
    hot, cold, now = world.hot[number], world.sessions.parts.cold[number], int(world.head[t.NOW])
    flags = int(hot["flags"]) & ~t.STRAY
    return (
        *(int(hot[f"k{n}"]) for n in range(4)),
        *(int(hot[name]) for name in ("ports", "protocol", "zone", "state")),
        flags,
        (now - int(hot["seen"]) & 0xFFFF) + shift,
        (now - int(cold["created"])) + shift,
        *(tuple(hot[name].tolist()) for name in ("scale", "end", "maxend")),
        *(int(cold[name]) for name in ("hits", "limit", "treatment", "in_port", "out_port")),
    )


def all_known(worlds, shift=0):
    return sorted(known(w, int(n), shift) for w in worlds for n in w.sessions.numbers())


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_all_of_them_are_there_as_they_were(seed, workers):
    old = filled(np.random.default_rng(seed))
    wanted = all_known([old], 7)
    worlds = new_shards(workers)
    outcomes = restore(old, worlds, down=7)
    assert outcomes == {sr.RESTORED: len(wanted)}
    assert all_known(worlds) == wanted
    assert sum(int(w.head[t.OPEN]) for w in worlds) == len(wanted)


def test_each_is_with_the_worker_that_its_flow_has():
    """And a direction that is not is a stray: so each packet comes to its session."""
    old = filled(np.random.default_rng(3), 255, 200)
    worlds = new_shards(3, 255)
    restore(old, worlds)
    for worker, world in enumerate(worlds):
        s = world.sessions.parts
        for number in world.sessions.numbers().tolist():
            hot = world.hot[number]
            if hot["flags"] & t.SIX:
                continue
            for k0, k1 in ((hot["k0"], hot["k1"]), (hot["k2"], hot["k3"])):
                k0, k1 = int(k0), int(k1)
                src, dst = k1 >> 32 << 16 | k0 >> 16 & 0xFFFF, (k1 & 0xFFFFFFFF) << 16 | k0 & 0xFFFF
                assert worker_of(world, src, dst, int(hot["protocol"]), int(hot["zone"])) == worker
        assert s.head[t.WORKER] == worker


def worker_of(world, src, dst, protocol, zone):
    return int(_worker_of(world.array, src, dst, protocol, zone))


@pytest.mark.parametrize("seed", range(4))
def test_of_several_shards_into_other_numbers_of_workers(seed):
    """Three workers' shards, whatever they had, are one's and two's."""
    first = filled(np.random.default_rng(seed))
    three = new_shards(3)
    restore(first, three)
    wanted = all_known(three)
    for workers in (1, 2, 4):
        worlds = new_shards(workers)
        arrays = [world.array for world in worlds]
        total = sum(sr.restore(old.array, arrays, identity(), 0) for old in three)
        sr.arrange(arrays)
        for world in worlds:
            world.sessions.check()
        assert total[sr.RESTORED] == total.sum() == len(wanted)
        assert all_known(worlds) == wanted


def test_numbers_are_the_new_ones():
    old = World()
    old.put(bytes(8))
    a = old.open(endpoint(1, 1), endpoint(2, 2), 17, 1, None, t.Grant(5, 6, 7, 9, 9, 8))
    old.sessions.parts.cold["in_port"][a] = 4
    (world,) = new_shards()
    names = identity(
        ports={4: 40, 8: 80}, zones={1: 3}, hits={5: 50}, limits={7: 33}, treatments={6: 60}
    )
    assert restore(old, [world], names) == {sr.RESTORED: 1}
    cold, hot = world.sessions.parts.cold[1], world.hot[1]
    assert [int(cold[name]) for name in ("in_port", "out_port", "hits", "limit", "treatment")] == [
        40, 80, 50, 33, 60,
    ]  # fmt: skip
    assert (hot["zone"], hot["k0"] >> 56, hot["k2"] >> 56) == (3, 3, 3)
    assert world.find(endpoint(1, 1), endpoint(2, 2), 17, 3) == (1, 0, 1)
    assert world.sessions.parts.limits[33] == 1


def test_of_a_rule_that_is_gone_they_go_on_uncounted():
    old = World()
    old.put(bytes(8))
    old.open(endpoint(1, 1), endpoint(2, 2), 17, 0, None, t.Grant(5, 6, 7, 9, 9, 8))
    (world,) = new_shards()
    names = identity(hits={5: -1}, limits={7: 0}, treatments={6: 0})
    assert restore(old, [world], names) == {sr.RESTORED: 1}
    assert not world.hot[1]["flags"] & (t.SOURCED | t.TREATED)
    assert not world.sessions.parts.limits.any()
    assert not world.sessions.parts.sources.any()
    world.close(1)
    world.sessions.check()


@pytest.mark.parametrize(
    ("names", "end"),
    [
        (identity(ports={4: -1}), sr.GONE),
        (identity(ports={8: -1}), sr.GONE),
        (identity(zones={0: -1}), sr.GONE),
        (identity(doomed=np.array([0, 1, 0], np.uint32)), sr.ENDED),
        (identity(doomed=np.array([0, 3, 0], np.uint32)), sr.RESTORED),
    ],
)
def test_what_is_left_out(names, end):
    old = World()
    old.put(bytes(8))
    number = old.open(endpoint(1, 1), endpoint(2, 2), 17, 0, None, t.Grant(5, 6, 7, 9, 9, 8))
    old.sessions.parts.cold["in_port"][number] = 4
    if names.doomed.size:
        names = names._replace(doomed=np.resize(names.doomed, 64))
        names.doomed[2:] = 0
    assert restore(old, new_shards(), names) == {end: 1}


@pytest.mark.parametrize(
    ("down", "end"), [(299, sr.RESTORED), (300, sr.RESTORED), (301, sr.EXPIRED)]
)
@pytest.mark.parametrize("big", [0, 1 << 40])
def test_time_that_no_worker_ran_counts(down, end, big):
    """UDP without a reply has 300 s."""
    old = World()
    old.put(bytes(8))
    old.open(endpoint(1, 1), endpoint(2, 2))
    (world,) = new_shards()
    assert restore(old, [world], down=down + big) == {sr.EXPIRED if big else end: 1}
    if not big and end == sr.RESTORED:
        assert world.at(int(world.head[t.NOW]) + 301 - down) >= 1
        assert world.head[t.OPEN] == 0


def test_they_go_on_living():
    """A connection that was restored takes its segments, ends, and others take its place."""
    old = World()
    a, b = endpoint(0x0A000001, 5), endpoint(0xC0000201, 80)
    old.put(MESSAGES[6])
    number = old.open(a, b, 6, 0, (b, endpoint(0xC6336401, 77)))
    talk(old, number, a, b)
    (world,) = new_shards()
    assert restore(old, [world]) == {sr.RESTORED: 1}
    found = world.find(b, endpoint(0xC6336401, 77), 6)
    assert found == (1, 1, 0)
    world.put(header(ACK, 5001, 1101, 400), 50)
    assert world.advance(1, 1) == 0
    world.put(header(ACK, 9_000_000, 1101, 400), 50)
    assert world.advance(1, 1) != 0
    world.put(header(FIN | ACK, 1101, 5051, 600))
    assert world.advance(1, 0) == 0
    assert world.state(1) == "fin-initiator"
    world.close(1)
    world.sessions.check()
    world.put(bytes(8))
    assert world.open(a, b) == 1


def test_where_there_is_less_room_those_with_a_reply_come_first():
    rng = np.random.default_rng(1)
    old = filled(rng, 255, 200)
    state = old.hot["state"][old.sessions.numbers()]
    settled = int(((state >= t.ESTABLISHED) & (state != t.UNREPLIED)).sum())
    (world,) = new_shards(capacity=31)
    assert settled > 31
    outcomes = restore(old, [world])
    assert outcomes[sr.RESTORED] == 31
    assert outcomes[sr.FULL] == state.size - 31
    assert world.head[t.EMBRYONIC] == 0


@pytest.mark.parametrize(
    "word",
    [
        t.CAPACITY,
        t.BITS,
        t.BUCKET_MASK,
        t.N_SOURCES,
        t.HOT_AT,
        t.COLD_AT,
        t.INDEX_AT,
        t.SOURCES_AT,
        t.LIMITS_AT,
    ],
)
@pytest.mark.parametrize("value", [0, 1, 2**20 - 1, 2**63, 2**64 - 1])
def test_a_head_that_makes_no_sense_is_refused(word, value):
    old = filled(np.random.default_rng(0))
    assert sr.refusal(old.array) == ""
    old.array[word] = value
    assert sr.refusal(old.array) != ""


@pytest.mark.parametrize("value", [0, 65, 2**63, 2**64 - 1])
def test_records_that_there_are_not_are_refused(value):
    old = filled(np.random.default_rng(0))
    old.array[t.UNUSED] = value
    assert sr.refusal(old.array) != ""


def test_a_shard_that_is_cut_short_is_refused():
    old = filled(np.random.default_rng(0))
    for size in (0, 1, t.HEADER - 1, t.HEADER, old.array.size - 1):
        assert sr.refusal(old.array[:size]) != ""


@pytest.mark.parametrize("field", ["k0", "k1", "k2", "k3", "zone", "protocol"])
def test_a_record_whose_key_is_damaged_is_left_out(field):
    """Any bit: its old index does not lead to it any more."""
    bits = 8 * t.SESSION[field].itemsize
    rng = np.random.default_rng(2)
    wanted = None
    for bit in range(0, bits, 1 if bits == 8 else 5):
        old = filled(rng)
        number = int(rng.choice(old.sessions.numbers()))
        others = sorted(known(old, int(n)) for n in old.sessions.numbers() if n != number)
        old.hot[field][number] ^= np.array(1 << bit, t.SESSION[field])
        (world,) = new_shards()
        outcomes = restore(old, [world])
        wanted = all_known([world])
        assert outcomes == {sr.RESTORED: len(others), sr.DAMAGED: 1}, (bit, known(old, number))
        assert wanted == others
    assert wanted


@pytest.mark.parametrize("where", ["all", "records", "head"])
def test_whatever_is_damaged_what_is_restored_makes_sense(where):
    """Bytes changed at random: a refusal, or tables in which all adds up, and no session that was not."""
    lived = [filled(np.random.default_rng(seed)) for seed in range(8)]
    whole = [world.array.copy() for world in lived]
    keys = [{row[:4] for row in all_known([world])} for world in lived]
    refused = 0
    for case in range(CASES):
        rng = np.random.default_rng(case)
        old = lived[case % len(lived)]
        old.array[:] = whole[case % len(lived)]
        raw = old.array.view(np.uint8)
        low, high = {
            "all": (0, raw.size), "records": (int(old.head[t.HOT_AT]), int(old.head[t.INDEX_AT])),
            "head": (0, t.HEADER * 8),
        }[where]  # fmt: skip
        flips = int(rng.integers(1, 64))
        raw[rng.integers(low, high, flips)] = rng.integers(0, 256, flips)
        if sr.refusal(old.array):
            refused += 1
            continue
        worlds = new_shards(1 + case % 3)
        restore(old, worlds, down=case % 3)
        assert {row[:4] for row in all_known(worlds)} <= keys[case % len(lived)], case
        for world in worlds:
            world.at(NOW + 10_000)
            world.sessions.check()
    assert refused < CASES
