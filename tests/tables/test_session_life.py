"""Sessions against the oracle: opened, found, refreshed, timed out, evicted, limited."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.sessions import Sessions as Oracle
from tables.session_world import World, endpoint, header
from vforward.tables import session as t
from vforward.tables import session_life

ICMP_ECHO = bytes((8, 0, 0, 0, 0, 7, 0, 0))
REASONS = {
    ~t.FULL: "full",
    ~t.TAKEN: "taken",
    ~t.RULE_LIMIT: "rule-limit",
    ~t.SOURCE_LIMIT: "source-limit",
}
A, B, C = (endpoint(0x0A000000 + n, port) for n, port in ((1, 5), (1, 6), (2, 5)))
SERVER, NATTED = endpoint(0xC0000201, 80), endpoint(0xC6336401, 7)


class Both:
    """The table and the oracle, asked the same."""

    def __init__(self, capacity):
        self.world = World(capacity)
        self.oracle = Oracle(self.world.sessions.capacity)
        self.numbers = {}

    def open(self, src, dst, protocol, zone=0, reply=None, **grant):
        message = {1: ICMP_ECHO, 6: header(2)}.get(protocol, bytes(8))
        self.world.put(message)
        wanted = self.oracle.open(src, dst, reply or (dst, src), protocol, zone, **grant)
        given = t.Grant(
            grant.get("rule", 0), 0, grant.get("limit", 0), grant.get("most", 0),
            grant.get("per_source", 0), 0,
        )  # fmt: skip
        number = self.world.open(src, dst, protocol, zone, reply, given)
        if isinstance(wanted, str):
            assert REASONS[number] == wanted
        else:
            assert number > 0
            self.numbers[wanted] = number
        return wanted

    def packet(self, src, dst, protocol, zone=0):
        wanted = self.oracle.find(src, dst, protocol, zone)
        found = self.world.find(src, dst, protocol, zone)
        if wanted is None:
            turned = self.oracle.find(dst, src, protocol, zone)
            assert (found is None) == (turned is None)
            return
        session, direction = wanted
        nat = session.keys[1][:2] != session.keys[0][1::-1]
        assert found == (self.numbers[session], int(direction and nat), 1 - direction)
        if protocol != 6:
            self.world.put(bytes(8))
            assert self.world.follow(found[0], direction) == 0
            self.oracle.packet(session, direction)

    def at(self, now):
        self.oracle.at(now)
        self.world.at(now)
        self.check()

    def check(self):
        self.world.sessions.check()
        assert int(self.world.head[t.OPEN]) == len(self.oracle.open_)


ENDS = st.sampled_from([endpoint(0x0A000000 + n, p) for n in range(3) for p in (0, 1, 0xFFFF)])
PROTOCOLS = st.sampled_from([6, 17, 17, 47, 1])
ZONES = st.sampled_from([0, 0, 63])
OPENS = st.tuples(
    st.just("open"), ENDS, ENDS, PROTOCOLS, ZONES, st.sampled_from([None, None, "both", "reply"]),
    st.sampled_from([0, 1, 4095]), st.sampled_from([0, 1, 3]), st.sampled_from([0, 9]),
    st.sampled_from([0, 0, 1, 2]),
)  # fmt: skip
STEPS = st.one_of(
    OPENS,
    OPENS,
    st.tuples(st.just("packet"), ENDS, ENDS, PROTOCOLS, ZONES),
    st.tuples(st.just("time"), st.sampled_from([0, 1, 1, 59, 60, 61, 240, 300, 301])),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=60), st.sampled_from([1, 3, 7]), st.sampled_from([0, 65_500]))
def test_against_the_oracle(steps, capacity, start):
    both = Both(capacity)
    both.world.head[t.SWEPT] = start
    both.at(start)
    for what, *rest in steps:
        if what == "open":
            src, dst, protocol, zone, nat, limit, most, rule, per_source = rest
            if protocol == 1:
                dst = dst & ~0xFFFF
            reply = None
            if nat is not None and protocol != 1:
                reply = (dst, NATTED) if nat == "reply" else (NATTED, src)
            both.open(
                src,
                dst,
                protocol,
                zone,
                reply,
                limit=limit,
                most=most,
                rule=rule,
                per_source=per_source,
            )
        elif what == "packet":
            both.packet(*rest)
        else:
            both.at(both.oracle.now + rest[0])
        both.check()
    assert {int(n) for n in both.world.hot["state"][1:]} <= {0, t.SYN_SENT, t.UNREPLIED, t.REPLIED}


def test_never_before_its_timeout():
    both = Both(3)
    both.open(A, SERVER, 17)
    both.packet(A, SERVER, 17)
    for now in (299, 300):
        both.at(now)
        assert both.world.find(A, SERVER)
    both.at(301)
    assert not both.world.find(A, SERVER)


def test_a_reply_moves_it_to_the_wheel_and_packets_keep_it():
    both = Both(3)
    both.open(A, SERVER, 17)
    both.packet(SERVER, A, 17)
    assert int(both.world.head[t.EMBRYONIC]) == 0
    for now in (290, 580, 870):
        both.at(now)
        both.packet(A, SERVER, 17)
    both.at(870 + 300)
    assert both.world.find(A, SERVER)
    both.at(870 + 301)
    assert not both.world.find(A, SERVER)


def full_of(both, protocol, first=0):
    for n in range(both.world.sessions.capacity):
        both.open(endpoint(0x0A010000 + n, first), SERVER, protocol)


def test_full_of_half_open_ones_the_oldest_goes():
    both = Both(1000)
    full_of(both, 6)
    for n in range(3000):
        assert not isinstance(both.open(endpoint(0x0B000000 + n, 1), SERVER, 6), str)
    both.check()
    assert int(both.world.head[t.EVICTED]) == 3000


def test_full_of_answered_ones_new_ones_are_refused():
    both = Both(63)
    full_of(both, 17)
    for n in range(63):
        both.packet(SERVER, endpoint(0x0A010000 + n, 0), 17)
    assert both.open(A, SERVER, 6) == "full"
    assert both.open(A, SERVER, 17) == "full"
    both.check()
    both.at(301)
    assert not isinstance(both.open(A, SERVER, 6), str)


def test_what_is_over_goes_before_what_begins():
    both = Both(3)
    world = both.world
    numbers = []
    for n in range(3):
        world.put(header(2, 100))
        numbers.append(world.open(A + n, SERVER, 6))
    world.put(header(4 | 16, 0, 101))
    assert world.follow(numbers[1], 1) == 0
    assert world.state(numbers[1]) == "closed"
    world.put(header(2, 5))
    assert world.open(C, SERVER, 6) == numbers[1]
    world.sessions.check()


def established(world, src):
    world.put(header(2, 100, 0, 1000))
    number = world.open(src, SERVER, 6)
    world.put(header(18, 900, 101, 1000))
    assert world.follow(number, 1) == 0
    world.put(header(16, 101, 901, 1000))
    assert world.follow(number, 0) == 0
    assert world.state(number) == "established"
    return number


@pytest.mark.parametrize(
    ("flags", "wait"), [((), 7440), (((0, 17),), 7440), (((0, 17), (1, 17)), 240), (((0, 20),), 10)]
)
def test_tcp_times_out_by_its_state(flags, wait):
    world = World(7)
    number = established(world, A)
    seq = {0: 101, 1: 901}
    for d, flag in flags:
        world.put(header(flag, seq[d], seq[1 - d], 1000))
        assert world.follow(number, d) == 0
        seq[d] += flag & 1
    for now in range(200, wait, 200):
        world.at(now)
    world.at(wait)
    assert world.find(A, SERVER, 6)
    world.at(wait + 1)
    assert not world.find(A, SERVER, 6)
    world.sessions.check()


def test_a_time_wait_session_goes_when_there_is_nothing_else():
    world = World(1)
    number = established(world, A)
    for d, flag, seq, ack in ((0, 17, 101, 901), (1, 17, 901, 102), (0, 16, 102, 902)):
        world.put(header(flag, seq, ack, 1000))
        assert world.follow(number, d) == 0
    assert world.state(number) == "time-wait"
    world.put(header(2, 5))
    assert world.open(C, SERVER, 6) > 0
    world.sessions.check()


def test_a_changed_timeout_is_felt_within_a_turn():
    world = World(7)
    established(world, A)
    world.sessions.set_timeout("tcp-established", 20)
    for now in range(1, 256):
        world.at(now)
    assert not world.find(A, SERVER, 6)


def test_a_budget_bounds_the_work_and_nothing_is_forgotten():
    world = World(1023)
    world.put(bytes(8))
    for n in range(1023):
        number = world.open(endpoint(0x0A010000 + n, 0), SERVER)
        if n % 2:
            world.follow(number, 1)
    done = []
    while int(world.head[t.OPEN]):
        done.append(world.at(400, 100))
        assert done[-1] <= 100
        world.sessions.check()
    assert len(done) >= 10


@pytest.mark.parametrize("jump", [255, 256, 257, 5000, 70_000, 1 << 40])
def test_time_may_jump(jump):
    both = Both(7)
    both.open(A, SERVER, 17)
    both.packet(SERVER, A, 17)
    both.world.at(jump)
    both.world.sessions.check()
    expired = jump & 0xFFFF > 300
    assert (both.world.find(A, SERVER) is None) == expired


def test_limits_are_given_back():
    world = World(63)
    world.put(bytes(8))
    grant = t.Grant(5, 0, 7, 2, 0, 0)
    numbers = [world.open(A + n, SERVER, grant=grant) for n in range(3)]
    assert numbers[2] == ~t.RULE_LIMIT
    world.close(numbers[0])
    assert world.open(A + 2, SERVER, grant=grant) > 0
    sourced = t.Grant(6, 0, 0, 0, 1, 0)
    first = world.open(A + 9, SERVER, grant=sourced)
    assert world.open(A + 10, SERVER, grant=sourced) == ~t.SOURCE_LIMIT
    assert world.open(C + 10, SERVER, grant=sourced) > 0
    world.close(first)
    assert world.open(A + 10, SERVER, grant=sourced) > 0
    world.sessions.check()


def test_many_sources_come_and_go():
    world = World(255)
    world.put(bytes(8))
    rng = np.random.default_rng(1)
    alive = []
    for n in range(3000):
        if alive and (len(alive) == 255 or rng.random() < 0.45):
            world.close(alive.pop(rng.integers(len(alive))))
        else:
            source = endpoint(0x0A000000 + int(rng.integers(100)), n)
            number = world.open(source, SERVER, grant=t.Grant(1, 0, 0, 0, 200, 0))
            assert number > 0
            alive.append(number)
        if n % 100 == 0:
            world.sessions.check()
    for number in alive:
        world.close(number)
    assert not world.sessions.parts.sources.any()


def test_kinds_and_lists_agree():
    for place, kind in enumerate(session_life._KIND_OF_LIST):
        assert session_life._LIST[kind] == place
