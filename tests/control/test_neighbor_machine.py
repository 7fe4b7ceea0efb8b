"""The machine of states against the table of RFC 4861 appendix C (oracles.nd), walked naively."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oracles import nd as oracle
from vforward.control.neighbor_machine import (
    AT_ONCE,
    DOUBTED,
    KNOWN,
    PACE_S,
    Limits,
    Machine,
    State,
    Times,
)
from vforward.errors import ConfigError
from vforward.nodes.neighbor.events import ADD, OVERRIDE, SOLICITED

LIMIT, INCOMPLETE = 6, 2
MACS = [bytes([2, 0, 0, 0, 0, i]) for i in (1, 2)]
FLAGS = {"S": SOLICITED, "O": OVERRIDE}
LASTS = {"REACHABLE": 30, "STALE": 60, "DELAY": 5, "PROBE": 1, "INCOMPLETE": 1, "FAILED": 5}
NOBODY = 9
"""An address for which there is none to ask from."""


class World:
    """Routing and output in one. What it is told must make sense."""

    def __init__(self):
        self.up, self.stale, self.failed = {}, set(), set()
        self.waiting, self.full = set(), False
        self.asked, self.released = [], []
        self.doubted = []
        """Who was asked for while there was a MAC to ask for it by."""
        self.diverted = False
        self.waits = 0
        """How often workers were waited for, and whether it is put off now."""
        self.many = False

    @contextlib.contextmanager
    def together(self):
        self.many = True
        yield
        self.many = False
        self.waits += 1

    def neighbor_up(self, port_number, ip, mac):
        if self.full:
            raise ConfigError("no room")
        self.up[port_number, ip] = mac
        self.stale.discard((port_number, ip))
        self.failed.discard((port_number, ip))

    def neighbor_stale(self, port_number, ip):
        assert (port_number, ip) in self.up
        self.stale.add((port_number, ip))

    def neighbor_failed(self, port_number, ip):
        self.up.pop((port_number, ip), None)
        self.stale.discard((port_number, ip))
        self.failed.add((port_number, ip))
        return self.diverted

    def neighbor_down(self, port_number, ip):
        assert (port_number, ip) in self.up or (port_number, ip) in self.failed
        self.up.pop((port_number, ip), None)
        self.stale.discard((port_number, ip))
        self.failed.discard((port_number, ip))
        self.waits += not self.many

    def request(self, port, ip, mac):
        if ip == NOBODY:
            return False
        assert mac is None or self.up[port, ip] == mac
        if mac is None and (port, ip) in self.up:
            self.doubted.append((port, ip))
        else:
            self.asked.append((port, ip, mac))
        return True

    def release(self, port, ip, forward):
        assert not forward or (port, ip) in self.up, "released before it can be forwarded"
        self.waiting.discard((port, ip))
        self.released.append((port, ip, forward))


class Model:
    """One neighbor: the state of the table, FAILED and STATIC besides, and when the state ends."""

    def __init__(self, state, due, mac=None, tries=0):
        self.state, self.due, self.mac, self.tries = state, due, mac, tries


ips = st.sampled_from([1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, NOBODY])


class Living(RuleBasedStateMachine):
    """chance is a half, so REACHABLE lasts 30 s."""

    def __init__(self):
        super().__init__()
        self.world, self.now = World(), 0.0
        limits = Limits(LIMIT, INCOMPLETE)
        self.machine = Machine(self.world, self.world, Times(), limits, lambda: 0.5)
        self.model = {}
        self.refused = 0

    def state(self, ip):
        return self.model[ip].state if ip in self.model else None

    def arrive(self, ip, event, link="", mac=None):
        """Do by the table what an event asks for, and check that the actions were done."""
        before = self.model.get(ip)
        old = before.state if before else None
        new, actions = oracle.step("INCOMPLETE" if old == "FAILED" else old, event, link)
        if (
            old == "FAILED"
        ):  # not of the table: as INCOMPLETE, for whom nothing waits and nobody asks
            new, actions = (None if new == "INCOMPLETE" else new), actions - {"send"}
            if new is None:
                return
        if new is None:
            self.model.pop(ip, None)
        elif new != "=":
            kept = before or Model(None, 0.0)
            self.model[ip] = Model(
                new,
                self.now + LASTS[new],
                mac if "record" in actions else kept.mac,
                kept.tries + 1 if event == "retransmit" else 1,
            )
        asked = {(1, ip, None)} if "multicast" in actions else set()
        asked |= {(1, ip, self.model[ip].mac)} if "unicast" in actions else set()
        assert set(self.world.asked) == asked
        released = {(1, ip, True)} if "send" in actions else set()
        released |= {(1, ip, False)} if "error" in actions else set()
        assert set(self.world.released) == released

    def fails(self, ip):
        """The routing has no room for it."""
        self.model[ip] = Model("FAILED", self.now + 5)

    def begin(self):
        self.world.asked.clear()
        self.world.released.clear()

    def link_of(self, ip, mac):
        cached = self.model[ip].mac if ip in self.model else None
        if cached is None:
            return "some" if mac else "none"
        return "none" if mac is None else "same" if mac == cached else "different"

    def tells_routing(self, ip, flags, mac):
        """Whether the routing has to be told, which it may refuse."""
        old = self.state(ip)
        link = self.link_of(ip, mac)
        if old == "STATIC":
            return False
        if link in ("some", "different"):
            return link == "some" or "O" in flags
        return old == "STALE" and "S" in flags

    @rule(ip=ips, mac=st.sampled_from([*MACS, None]), flags=st.sampled_from(["", "S", "O", "SO"]))
    def advertise(self, ip, mac, flags):
        self.begin()
        refused = self.tells_routing(ip, flags, mac) and self.world.full
        self.machine.learn(1, ip, mac, sum(FLAGS[f] for f in flags), self.now)
        if self.state(ip) in ("STATIC", None):
            assert not self.world.asked + self.world.released
        elif refused:
            self.fails(ip)
        else:
            self.arrive(ip, flags, self.link_of(ip, mac), mac)

    @rule(
        ip=ips, mac=st.sampled_from(MACS), flags=st.sampled_from([OVERRIDE, OVERRIDE | SOLICITED])
    )
    def tell(self, ip, mac, flags):
        """A solicitation; or an ARP message for us, of which a reply is solicited if we asked."""
        self.begin()
        old = self.state(ip)
        refused = (
            self.tells_routing(ip, "SO" if flags & SOLICITED else "O", mac) and self.world.full
        )
        self.machine.learn(1, ip, mac, flags | ADD, self.now)
        if old is None and len(self.model) >= LIMIT - LIMIT // 8:
            self.refused += 1
        elif refused:
            self.fails(ip)
        elif old is None or (old != "STATIC" and not flags & SOLICITED):
            self.arrive(ip, "told", self.link_of(ip, mac), mac)
        elif old != "STATIC":
            self.arrive(ip, "SO", self.link_of(ip, mac), mac)

    @rule(ip=ips)
    def send(self, ip):
        """A packet to be sent: it waits, passes by a stale neighbor, or simply passes."""
        self.begin()
        key = (1, ip)
        if key in self.world.waiting:
            return  # the worker tells of the first packet only
        if key not in self.world.up:
            self.world.waiting.add(key)
            self.machine.resolve(1, ip, self.now)
            self.held(ip)
        elif key in self.world.stale:
            self.machine.used(1, ip, self.now)
            if self.world.full:
                self.fails(ip)
            else:
                self.arrive(ip, "packet")
        else:
            assert self.state(ip) in ("REACHABLE", "DELAY", "PROBE", "STATIC")

    def held(self, ip):
        waiting = sum(m.state == "INCOMPLETE" for m in self.model.values())
        if self.state(ip) is None and (len(self.model) >= LIMIT or waiting >= INCOMPLETE):
            self.refused += 1
        elif self.state(ip) is None and ip == NOBODY:
            self.fails(ip)
        elif self.state(ip) is None:
            self.arrive(ip, "packet")
            return
        assert self.world.released == [(1, ip, False)]

    @rule(ip=ips, late=st.sampled_from(["resolve", "used"]))
    def late_event(self, ip, late):
        """The worker told of it before it saw what the control plane had done."""
        if (1, ip) not in self.world.up or self.world.full:
            return
        self.begin()
        stale = set(self.world.stale)
        if late == "resolve":
            self.machine.resolve(1, ip, self.now)
            assert self.world.released == [(1, ip, True)]
            assert self.world.stale == stale
        elif (1, ip) not in stale:
            self.machine.used(1, ip, self.now)
            assert not self.world.released + self.world.asked

    @rule(ip=ips, mac=st.sampled_from(MACS))
    def set_static(self, ip, mac):
        self.begin()
        if self.world.full:
            with pytest.raises(ConfigError):
                self.machine.set_static(1, ip, mac, self.now)
        else:
            waited = self.state(ip) == "INCOMPLETE"
            self.machine.set_static(1, ip, mac, self.now)
            assert self.world.released == [(1, ip, True)] * waited
            self.model[ip] = Model("STATIC", None, mac)

    @rule(ip=ips)
    def forget(self, ip):
        self.begin()
        if ip in self.model:
            self.machine.forget(self.machine.entries[1, ip])
            assert self.world.released == [(1, ip, False)] * (self.state(ip) == "INCOMPLETE")
            del self.model[ip]

    @rule(ip=ips)
    def doubt(self, ip):
        """Whoever is doubted, its state and all that follows stay what they are."""
        self.begin()
        self.machine.doubt(1, ip)
        assert not self.world.asked + self.world.released

    @rule(seconds=st.sampled_from([0, 0.25, 0.5, 1, 1, 5, 30, 60]))
    def wait(self, seconds):
        """Time passes from one deadline of the model to the next; the machine knows each of them."""
        until = self.now + seconds
        while True:
            dues = [m.due for m in self.model.values() if m.due is not None and m.due <= until]
            if not dues:
                break
            self.now = min(dues)
            assert self.machine.due() <= self.now
            ending = [ip for ip, m in self.model.items() if m.due == self.now]
            asked, released = self.advance()
            for ip in ending:
                self.world.asked[:] = [a for a in asked if a[1] == ip]
                self.world.released[:] = [r for r in released if r[1] == ip]
                self.end(ip)
        self.now = until
        self.advance()
        assert not self.world.asked + self.world.released

    def advance(self):
        self.begin()
        self.machine.advance(self.now)
        return list(self.world.asked), list(self.world.released)

    def end(self, ip):
        """By the table; STALE and FAILED end too."""
        model = self.model[ip]
        if model.state in ("STALE", "FAILED"):
            del self.model[ip]
        elif model.state in ("REACHABLE", "DELAY") and not (
            ip == NOBODY and model.state == "DELAY"
        ):
            self.arrive(ip, "timeout")
        elif ip == NOBODY:
            del self.model[ip]
        elif model.tries < 3:
            self.arrive(ip, "retransmit")
        else:
            incomplete = model.state == "INCOMPLETE"
            self.arrive(ip, "give-up")
            if incomplete:  # the table's end of an entry is a refusal of 5 s here
                self.fails(ip)

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
        self.model = {ip: m for ip, m in self.model.items() if m.state == "STATIC"}

    @invariant()
    def it_is_the_model(self):
        entries = {ip: e for (_, ip), e in self.machine.entries.items()}
        assert {ip: (e.state.name, e.mac, e.due) for ip, e in entries.items()} == {
            ip: (m.state, m.mac, m.due) for ip, m in self.model.items()
        }
        assert self.machine.refused == self.refused

    @invariant()
    def routing_knows_what_is_known(self):
        known = {key: e for key, e in self.machine.entries.items() if e.state in KNOWN}
        assert self.world.up == {key: e.mac for key, e in known.items()}
        assert self.world.stale == {key for key, e in known.items() if e.state is State.STALE}
        assert self.world.failed == {
            key for key, e in self.machine.entries.items() if e.state is State.FAILED
        }

    @invariant()
    def what_waits_is_being_asked_for(self):
        for key in self.world.waiting:
            assert self.machine.entries[key].state is State.INCOMPLETE

    @invariant()
    def every_deadline_is_watched(self):
        for entry in self.machine.entries.values():
            if entry.due is not None:
                assert entry.armed is not None
                assert entry.armed <= entry.due
                assert self.machine.due() <= entry.armed


TestLiving = Living.TestCase
TestLiving.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def make(limits=None, chance=lambda: 0.5):
    world = World()
    return world, Machine(world, world, Times(), limits or Limits(), chance)


def reach(state):
    """A machine whose only neighbor is in a state, with the first MAC if there is one, at time 100."""
    world, machine = make()
    if state is None:
        return world, machine
    if state == "INCOMPLETE":
        machine.resolve(1, 1, 100.0)
    elif state == "STALE":
        machine.learn(1, 1, MACS[0], ADD | OVERRIDE, 100.0)
    else:
        machine.learn(1, 1, MACS[0], ADD | OVERRIDE, 90.0)
        machine.used(1, 1, 95.0)
        machine.advance(100.0)
        if state == "REACHABLE":
            machine.learn(1, 1, None, SOLICITED, 100.0)
        elif state == "DELAY":
            machine.learn(1, 1, MACS[1], OVERRIDE, 100.0)
            machine.learn(1, 1, MACS[0], OVERRIDE, 100.0)
            machine.used(1, 1, 100.0)
    assert machine.entries[1, 1].state.name == state
    world.asked.clear()
    world.released.clear()
    return world, machine


HEARD = [
    (state, event, link)
    for state in (None, "INCOMPLETE", *oracle.CACHED)
    for event in (*oracle.ANY, "told")
    for link in ("some", "none", "same", "different")
    if (link in ("same", "different")) <= (state in oracle.CACHED)
    if (link == "some") <= (state not in oracle.CACHED)
    if (event, link) != ("told", "none")
]


@pytest.mark.parametrize(("state", "event", "link"), HEARD)
def test_what_is_heard_does_what_the_table_says(state, event, link):
    world, machine = reach(state)
    before = machine.entries.get((1, 1))
    due, cached = (before.due, before.mac) if before else (None, None)
    mac = {"none": None, "different": MACS[1]}.get(link, MACS[0])
    flags = ADD | OVERRIDE if event == "told" else sum(FLAGS[f] for f in event)
    machine.learn(1, 1, mac, flags, 101.0)
    new, actions = oracle.step(state, event, link)
    entry = machine.entries.get((1, 1))
    if new is None:
        assert entry is None
    elif new == "=":
        assert (entry.state.name, entry.mac, entry.due) == (state, cached, due)
    else:
        wanted = mac if "record" in actions else cached
        assert (entry.state.name, entry.mac, entry.due) == (new, wanted, 101 + LASTS[new])
        assert world.up == {(1, 1): wanted}
        assert world.stale == ({(1, 1)} if new == "STALE" else set())
    assert world.released == ([(1, 1, True)] if "send" in actions else [])
    assert not world.asked


def test_requests_are_a_second_apart_and_three():
    world, machine = make()
    machine.resolve(1, 1, 0.0)
    times = [0.0]
    while (due := machine.due()) is not None:
        before = len(world.asked)
        machine.advance(due)
        times += [due] * (len(world.asked) - before)
    assert times == [0.0, 1.0, 2.0]
    assert world.released == [(1, 1, False)]


def test_reachable_lasts_half_to_one_and_a_half_of_its_time():
    for chance, lasts in ((0.0, 15), (0.25, 22.5), (1.0, 45)):
        _, machine = make(chance=lambda chance=chance: chance)
        machine.resolve(1, 1, 0.0)
        machine.learn(1, 1, MACS[0], SOLICITED, 0.0)
        assert machine.entries[1, 1].due == lasts


def test_a_used_neighbor_lives_as_long_as_it_answers():
    world, machine = make()
    machine.resolve(1, 1, 0.0)
    machine.learn(1, 1, MACS[0], SOLICITED, 0.0)
    states, now = [], 0.0
    while len(states) < 6:
        now = max(now, machine.due())
        machine.advance(now)
        state = machine.entries[1, 1].state
        if state is State.STALE:
            machine.used(1, 1, now)
            states.append((state.name, now))
        elif state is State.PROBE:
            assert world.asked[-1] == (1, 1, MACS[0])
            machine.learn(1, 1, None, SOLICITED, now)
            states.append((state.name, now))
    assert states == [
        ("STALE", 30), ("PROBE", 35), ("STALE", 65), ("PROBE", 70), ("STALE", 100), ("PROBE", 105),
    ]  # fmt: skip
    assert world.up == {(1, 1): MACS[0]}
    assert world.asked.count((1, 1, None)) == 1


def test_limits_are_kept_told_at_once_and_counted():
    world, machine = make(Limits(neighbors=8, incomplete=2))
    for ip in range(1, 4):
        machine.resolve(1, ip, 0.0)
        machine.resolve(2, ip, 0.0)
    assert world.released == [(1, 3, False), (2, 3, False)]
    assert machine.refused == 2
    for ip in range(10, 20):
        machine.learn(1, ip, MACS[0], ADD | OVERRIDE, 0.0)
    assert len(machine.entries) == 7  # one is left for whom we ask
    assert machine.refused == 2 + 7
    machine.resolve(3, 1, 0.0)
    machine.resolve(3, 2, 0.0)
    assert (3, 1) in machine.entries
    assert (3, 2) not in machine.entries
    machine.advance(1.0)
    machine.advance(2.0)
    machine.advance(3.0)  # nobody answered: there is room for others to be asked
    assert all(e.state is State.FAILED for e in machine.entries.values() if e.mac is None)
    machine.advance(8.0)
    machine.resolve(1, 3, 8.0)
    assert machine.entries[1, 3].state is State.INCOMPLETE


def test_who_failed_is_asked_anew_while_packets_go_other_ways():
    world = World()
    machine = Machine(world, world, Times(), Limits(), lambda: 0.5)
    world.diverted = True
    machine.resolve(1, 1, 0.0)
    for now in (1.0, 2.0, 3.0):
        machine.advance(now)
    assert machine.entries[1, 1].state is State.FAILED
    assert len(world.asked) == 3
    for n in (1, 2, 3):
        machine.advance(3.0 + 5 * n)
        assert world.asked[3:] == [(1, 1, None)] * n
        assert world.failed == {(1, 1)}  # its share stays with the others
    machine.learn(1, 1, MACS[0], SOLICITED, 19.0)
    assert (world.up, world.failed) == ({(1, 1): MACS[0]}, set())
    assert machine.entries[1, 1].state is State.REACHABLE


@pytest.mark.parametrize("ip", [1, NOBODY])
def test_who_failed_is_forgotten_when_it_matters_no_more(ip):
    world = World()
    machine = Machine(world, world, Times(), Limits(), lambda: 0.5)
    world.diverted = True
    machine.resolve(1, ip, 0.0)
    for now in (1.0, 2.0, 3.0):
        machine.advance(now)
    world.diverted = ip == NOBODY  # nobody to ask from
    machine.advance(9.0)
    assert machine.entries == {}
    assert world.failed == set()


def known_before(machine, ips, now=100.0):
    """As neighbors that are restored."""
    for ip in ips:
        machine.learn(1, ip, MACS[0], ADD, now)
        machine.doubt(1, ip)


def ask(world, machine, until):
    """Time passes as the machine's deadlines say. Returns when who was asked for by all of the link."""
    asked = {}
    while (due := machine.due()) is not None and due <= until:
        world.doubted.clear()
        machine.advance(max(due, 100.0))
        for _, ip in world.doubted:
            asked.setdefault(ip, []).append(max(due, 100.0))
        assert len(world.doubted) <= DOUBTED
    return asked


ANSWERS = {
    "the same": (MACS[0], SOLICITED | OVERRIDE, MACS[0], "REACHABLE"),
    "another": (MACS[1], SOLICITED | OVERRIDE, MACS[1], "REACHABLE"),
    "another unasked": (MACS[1], OVERRIDE, MACS[1], "STALE"),
    "another that must not override": (MACS[1], SOLICITED, MACS[0], "STALE"),
}


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("answer", ANSWERS)
def test_who_is_doubted_is_asked_for_at_once_and_its_mac_used_until_it_answers(answer, used):
    """RFC 7048 section 3; what an answer does is the table's, of RFC 4861 appendix C."""
    world, machine = make()
    known_before(machine, [1])
    assert machine.due() <= 100.0
    if used:
        machine.used(1, 1, 100.0)
    before = machine.entries[1, 1].state
    assert before is (State.DELAY if used else State.STALE)
    machine.advance(100.0)
    assert (world.doubted, world.asked, world.up) == ([(1, 1)], [], {(1, 1): MACS[0]})
    assert machine.entries[1, 1].state is before
    mac, flags, then, state = ANSWERS[answer]
    machine.learn(1, 1, mac, flags, 100.2)
    assert world.up == {(1, 1): then}
    if then == mac or not used:
        assert machine.entries[1, 1].state.name == state
    asked = ask(world, machine, 104.0)
    assert asked == ({} if then == mac else {1: [101.0, 102.0]})
    assert world.asked == []


def test_who_is_doubted_and_silent_goes_the_way_of_rfc_4861():
    """Three requests of either kind; used it is polled and forgotten, and not used forgotten."""
    world, machine = make()
    known_before(machine, [1, 2])
    machine.used(1, 1, 100.5)
    assert ask(world, machine, 105.0) == {ip: [100.0, 101.0, 102.0] for ip in (1, 2)}
    assert world.up == {(1, 1): MACS[0], (1, 2): MACS[0]}
    assert machine.entries[1, 1].state is State.DELAY
    assert ask(world, machine, 200.0) == {}
    assert world.asked == [(1, 1, MACS[0])] * 3
    assert machine.entries == {}
    assert machine.due() is None


@pytest.mark.parametrize("now", ["static", "forgotten", "failed", "reachable", "another"])
def test_nobody_is_asked_for_of_whom_there_is_no_doubt_any_more(now):
    world, machine = make()
    known_before(machine, [1])
    if now == "static":
        machine.set_static(1, 1, MACS[0], 100.0)
    elif now == "forgotten":
        machine.forget(machine.entries[1, 1])
    elif now == "failed":
        world.full = True
        machine.used(1, 1, 100.0)
    elif now == "another":
        machine.learn(1, 1, MACS[1], OVERRIDE, 100.0)
    else:
        machine.learn(1, 1, None, SOLICITED, 100.0)
    machine.advance(100.0)
    assert world.doubted == []
    machine.doubt(1, 7)  # nobody
    if now in ("static", "failed", "reachable"):
        machine.doubt(1, 1)
    assert ask(world, machine, 104.0) == {}


def test_where_there_is_no_address_to_ask_from_nobody_is_asked_for():
    world, machine = make()
    known_before(machine, [NOBODY, 1])
    assert ask(world, machine, 104.0) == {1: [100.0, 101.0, 102.0]}
    assert world.up == {(1, 1): MACS[0], (1, NOBODY): MACS[0]}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3 * DOUBTED) | st.integers(100, 400),
    st.sets(st.integers(0, 400)),
    st.floats(0, 0.9),
)
def test_thousands_are_asked_for_one_after_the_other(n, answering, late):
    """Never more than DOUBTED within PACE_S; whoever has answered is not asked for again."""
    world, machine = make()
    ips = range(100, 100 + n)
    answering = {100 + ip for ip in answering}
    known_before(machine, ips)
    first = ask(world, machine, 100.0 + n / DOUBTED * PACE_S)
    assert sorted(first) == list(ips)
    moments = sorted(time for times in first.values() for time in times)
    for begin, end in zip(moments, moments[DOUBTED:], strict=False):
        assert end - begin >= PACE_S * 0.999
    for ip in answering & {*ips}:
        machine.learn(1, ip, MACS[1], SOLICITED | OVERRIDE, 100.9 + late / 100)
    later = ask(world, machine, 120.0)
    assert set(later) == {*ips} - answering
    for ip, times in later.items():
        assert len(times) == 2
        for begin, end in zip(first[ip] + times, times, strict=False):
            assert end - begin >= 0.999
    assert world.up == {(1, ip): MACS[ip in answering] for ip in ips}


def of_many(n):
    world = World()
    machine = Machine(world, world, Times(), Limits(2 * n, n), lambda: 0.5)
    for ip in range(100, 100 + n):
        machine.learn(1 + ip % 2, ip, MACS[0], ADD, 0.0)
    assert len(world.up) == n
    return world, machine


def test_workers_are_waited_for_once_where_many_are_forgotten():
    world, machine = of_many(300)
    machine.forget_all(lambda one: one.port == 2)
    assert {port for port, _ in world.up} == {1}
    assert len(machine.entries) == 150
    assert world.waits == 1


def test_where_many_end_at_a_time_others_get_a_turn():
    n = 2 * AT_ONCE + 50
    world, machine = of_many(n)
    machine.advance(0.0)
    ended, now = [], LASTS["REACHABLE"] + LASTS["STALE"] + 1.0
    while (due := machine.due()) is not None and due <= now:
        before = world.waits
        machine.advance(now)
        assert world.waits == before + 1
        ended.append(n - len(world.up))
    assert world.up == {}
    assert ended == [AT_ONCE, 2 * AT_ONCE, n]
