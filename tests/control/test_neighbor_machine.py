"""The machine of states against a naive one that looks at every neighbor every time."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vforward.control.neighbor_machine import KNOWN, Machine, State, Times
from vforward.errors import ConfigError

LIMIT = 4
MACS = [bytes([2, 0, 0, 0, 0, i]) for i in (1, 2)]


class World:
    """Routing and output in one. What it is told must make sense."""

    def __init__(self):
        self.up, self.waiting, self.full = {}, set(), False
        self.asked, self.released = [], []

    def neighbor_up(self, port_number, ip, mac):
        if self.full:
            raise ConfigError("no room")
        self.up[port_number, ip] = mac

    def neighbor_down(self, port_number, ip):
        del self.up[port_number, ip]

    def request(self, port, ip, mac):
        if ip == 9:
            return False
        assert mac is None or self.up[port, ip] == mac
        self.asked.append((port, ip, mac))
        return True

    def release(self, port, ip, forward):
        assert not forward or (port, ip) in self.up, "released before it can be forwarded"
        self.waiting.discard((port, ip))
        self.released.append((port, ip, forward))


ips = st.sampled_from([1, 2, 3, 4, 5, 9])


class Living(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world, self.now = World(), 0.0
        self.machine = Machine(self.world, self.world, Times(), LIMIT)

    def known(self):
        return {key: e for key, e in self.machine.entries.items() if e.state in KNOWN}

    @rule(ip=ips, mac=st.sampled_from(MACS), add=st.booleans())
    def learn(self, ip, mac, add):
        before = self.machine.entries.get((1, ip))
        static = before is not None and before.state is State.STATIC
        room = len(self.machine.entries) < LIMIT
        self.machine.learn(1, ip, mac, add, self.now)
        entry = self.machine.entries.get((1, ip))
        assert (entry is not None) == (before is not None or (add and room))
        if entry is not None and not static and not self.world.full:
            assert (entry.state, entry.mac) == (State.REACHABLE, mac)
            assert entry.due == self.now + 60

    @rule(ip=ips)
    def resolve(self, ip):
        if (1, ip) in self.world.waiting:
            return  # the worker tells of the first packet only
        self.world.waiting.add((1, ip))
        self.machine.resolve(1, ip, self.now)

    @rule(ip=ips, mac=st.sampled_from(MACS))
    def set_static(self, ip, mac):
        if self.world.full:
            before = {key: e.state for key, e in self.machine.entries.items()}
            with pytest.raises(ConfigError):
                self.machine.set_static(1, ip, mac, self.now)
            assert before == {key: e.state for key, e in self.machine.entries.items()}
        else:
            self.machine.set_static(1, ip, mac, self.now)
            assert self.machine.entries[1, ip].state is State.STATIC

    @rule(ip=ips)
    def forget(self, ip):
        if (1, ip) in self.machine.entries:
            self.machine.forget(self.machine.entries[1, ip])

    @rule(seconds=st.sampled_from([0, 0.25, 0.5, 1, 1, 5, 30, 60]))
    def wait(self, seconds):
        self.now += seconds
        self.machine.advance(self.now)
        for entry in self.machine.entries.values():
            assert entry.due is None or entry.due > self.now, "its time has come"

    @rule(full=st.booleans())
    def fill(self, full):
        self.world.full = full

    @rule()
    def wait_as_told(self):
        """By its own deadlines, everything that may end does, and what waits is released."""
        for _ in range(1000):
            due = self.machine.due()
            if due is None:
                break
            self.now = max(self.now, due)
            self.machine.advance(self.now)
        assert self.machine.due() is None
        assert all(e.state is State.STATIC for e in self.machine.entries.values())
        assert not self.world.waiting

    @invariant()
    def routing_knows_what_is_known(self):
        assert self.world.up == {key: e.mac for key, e in self.known().items()}

    @invariant()
    def what_waits_is_being_asked_for(self):
        for key in self.world.waiting:
            assert self.machine.entries[key].state is State.INCOMPLETE

    @invariant()
    def every_deadline_is_watched(self):
        for entry in self.machine.entries.values():
            assert (entry.due is None) == (entry.state is State.STATIC)
            if entry.due is not None:
                assert entry.armed is not None
                assert entry.armed <= entry.due
                assert self.machine.due() <= entry.armed
                assert entry.tries <= 3


TestLiving = Living.TestCase
TestLiving.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_requests_are_a_second_apart_and_three():
    world = World()
    machine = Machine(world, world, Times(), LIMIT)
    machine.resolve(1, 1, 0.0)
    times = [0.0]
    while (due := machine.due()) is not None:
        before = len(world.asked)
        machine.advance(due)
        times += [due] * (len(world.asked) - before)
    assert times == [0.0, 1.0, 2.0]
    assert world.released == [(1, 1, False)]


def test_a_limit_is_kept_and_told_at_once():
    world = World()
    machine = Machine(world, world, Times(), 1)
    machine.learn(1, 1, MACS[0], True, 0.0)
    machine.learn(1, 2, MACS[0], True, 0.0)
    machine.resolve(1, 3, 0.0)
    assert list(machine.entries) == [(1, 1)]
    assert world.released == [(1, 3, False)]
