"""The MAC table against a dict, with a virtual clock; what two threads do at the same time."""

import contextlib
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nodes.network import Heap
from vforward.jit.atomics import load_acquire64
from vforward.jit.intrinsics import address as address_of
from vforward.jit.kernel import i64, kernel, u64
from vforward.tables import TableFull, bridge, mac

DOMAINS = (1, 2, 255)
PORTS = (1, 2, 3, 1023)
LIMIT = 12


@kernel
def _learn(table, domains, domain, address, port):
    x = mac.mix(u64(address) << u64(16) | u64(domain) << u64(8))
    return mac.learn(table, domains, i64(domain), x, i64(port), i64(domains[0].now))


@kernel
def _fast(table, domains, domain, address, port):
    """What the worker's first look says: the port, and whether the source is fresh."""
    x = mac.mix(u64(address) << u64(16) | u64(domain) << u64(8))
    shift = mac.shift_of(table)
    now = i64(domains[0].now)
    return mac.port_of(mac.find(table, shift, x)), mac.is_fresh(table, shift, x, i64(port), now)


@kernel
def _learn_many(table, domains, domain, first, n, port):
    new = 0
    for k in range(n):
        x = mac.mix(u64(first + k) << u64(16) | u64(domain) << u64(8))
        said = mac.learn(table, domains, i64(domain), x, i64(port), i64(domains[0].now))
        new += i64(said == mac.LEARNED)
    return new


@kernel
def _churn(table, domains, stop):
    """Learn 300 stations at changing ports until stop says so. Returns how often."""
    rounds = 0
    while load_acquire64(address_of(stop)) == u64(0):
        _learn_many(table, domains, 1, 1, 300, 1 + rounds % 3)
        rounds += 1
    return rounds


@kernel
def _bucket(table, domain, address, probe):
    return mac._bucket(table, mac.mix(u64(address) << u64(16) | u64(domain) << u64(8)), probe)


def new(entries: int = mac.ENTRIES_MIN, limit: int = bridge.NO_LIMIT) -> mac.MacTable:
    heap: Any = Heap()
    domains = bridge.make_tables(heap, 8)["domains"]
    domains["flags"][1:] = bridge.LEARN
    domains["limit"] = limit
    return mac.MacTable(heap, domains, entries)


def crowd(domain: int = 1, n: int = 60) -> list[int]:
    """MACs whose own bucket is one and the same, so that it and others are full."""
    table = new().table
    home = _bucket(table, domain, 1, 0)
    found = [1]
    address = 2
    while len(found) < n:
        if _bucket(table, domain, address, 0) == home:
            found.append(address)
        address += 1
    return found


CROWD = crowd()
ADDRESSES = st.sampled_from([*CROWD, 0xFEFFFFFFFFFF, 0x020000000001])


class Machine(RuleBasedStateMachine):
    """known: (domain, MAC) -> [port, static, tick]."""

    @initialize(limited=st.booleans())
    def begin(self, limited):
        self.table = new(limit=LIMIT if limited else bridge.NO_LIMIT)
        self.limit = LIMIT if limited else 1 << 60
        self.known: dict[tuple[int, int], list[Any]] = {}
        self.moves = dict.fromkeys(DOMAINS, 0)
        self.ticks = 0

    def learned(self, domain):
        return sum(d == domain and not static for (d, _), (_, static, _) in self.known.items())

    @rule(domain=st.sampled_from(DOMAINS), address=ADDRESSES, port=st.sampled_from(PORTS))
    def learn(self, domain, address, port):
        said = _learn(self.table.table, self.table.domains, domain, address, port)
        old = self.known.get((domain, address))
        if old is None:
            if self.learned(domain) >= self.limit:
                assert said == mac.OVER_LIMIT
                return
            if said == mac.FULL:
                assert len(self.known) >= mac.WAYS
                return
            assert said == mac.LEARNED
        elif old[1]:
            assert said == (mac.SAME if old[0] == port else mac.FIXED)
            return
        else:
            assert said == (mac.SAME if old[0] == port else mac.MOVED)
            self.moves[domain] += old[0] != port
        self.known[domain, address] = [port, False, self.ticks]

    @rule(
        domain=st.sampled_from(DOMAINS[:1]),
        addresses=st.lists(ADDRESSES, min_size=20),
        port=st.sampled_from(PORTS),
    )
    def learn_many(self, domain, addresses, port):
        for address in addresses:
            self.learn(domain, address, port)

    @rule(domain=st.sampled_from(DOMAINS), address=ADDRESSES, port=st.sampled_from(PORTS))
    def add_static(self, domain, address, port):
        try:
            self.table.add_static(domain, address, port)
        except TableFull:
            assert (domain, address) not in self.known
            assert len(self.known) >= mac.WAYS
            return
        self.known[domain, address] = [port, True, 0]

    @rule(domain=st.sampled_from(DOMAINS), address=ADDRESSES)
    def delete(self, domain, address):
        if self.known.pop((domain, address), None) is None:
            with pytest.raises(KeyError):
                self.table.delete(domain, address)
        else:
            self.table.delete(domain, address)

    @rule(n=st.sampled_from([1, 2, 15, 16, 17]))
    def tick(self, n):
        for _ in range(n):
            self.table.tick()
        self.ticks += n
        self.known = {
            key: entry
            for key, entry in self.known.items()
            if entry[1] or self.ticks - entry[2] <= mac.PER_AGE
        }

    @rule(
        domain=st.sampled_from((0, *DOMAINS)),
        port=st.sampled_from((0, *PORTS)),
        statics=st.booleans(),
    )
    def flush(self, domain, port, statics):
        gone = [
            key
            for key, (its, static, _) in self.known.items()
            if domain in (0, key[0]) and port in (0, its) and (statics or not static)
        ]
        assert self.table.flush(domain, port, statics=statics) == len(gone)
        for key in gone:
            del self.known[key]

    @precondition(lambda self: hasattr(self, "table"))
    @invariant()
    def same(self):
        self.table.check()
        age = {key: self.ticks - entry[2] for key, entry in self.known.items()}
        wanted = sorted(
            mac.Entry(*key, port, static, 0 if static else age[key])
            for key, (port, static, _) in self.known.items()
        )
        assert self.table.entries() == wanted
        for domain in DOMAINS:
            assert int(self.table.domains[domain]["count"]) == self.learned(domain)
            assert int(self.table.domains[domain]["moves"]) == self.moves[domain]
        for (domain, address), (port, static, tick) in self.known.items():
            assert self.table.lookup(domain, address) == port
            found, fresh = _fast(self.table.table, self.table.domains, domain, address, port)
            assert found in (0, port)
            assert fresh == (found == port and (static or tick == self.ticks))
            assert not _fast(self.table.table, self.table.domains, domain, address, port + 1)[1]


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestMachine = Machine.TestCase


def test_a_crowd_fills_four_buckets():
    table = new()
    said = [_learn(table.table, table.domains, 1, address, 1) for address in CROWD]
    assert said.index(mac.FULL) >= mac.WAYS
    assert table.lookup(1, CROWD[0]) == 1
    table.check()
    absent = CROWD[said.index(mac.FULL)]
    with pytest.raises(TableFull, match="no room"):
        table.add_static(1, absent, 1)


def test_half_full_has_room_for_nearly_all():
    table = new(1 << 16)
    assert _learn_many(table.table, table.domains, 1, 0x020000000000, 1 << 15, 5) >= (1 << 15) - 8
    table.check()


def test_sizes():
    assert new(mac.ENTRIES_MIN + 1).table.size == 2 * mac.ENTRIES_MIN
    for wrong in (0, mac.ENTRIES_MIN - 1, mac.ENTRIES_MAX + 1):
        with pytest.raises(ValueError, match="entries"):
            new(wrong)
    for port in (0, mac.PORTS_MAX):
        with pytest.raises(ValueError, match="port"):
            new().add_static(1, 2, port)


def test_a_domain_that_does_not_learn():
    table = new()
    table.domains[1]["flags"] = 0
    assert _learn(table.table, table.domains, 1, 7, 1) == mac.OFF
    assert table.entries() == []


def test_control_and_worker_at_the_same_time():
    """The same few MACs learned, bound, deleted, flushed: no key twice, none counted wrong."""
    table = new()
    stop = np.ones(1, np.uint64)
    assert _churn(table.table, table.domains, stop) == 0
    stop[0] = 0
    rounds = []
    thread = threading.Thread(
        target=lambda: rounds.append(_churn(table.table, table.domains, stop))
    )
    thread.start()
    try:
        for i in range(3000):
            table.add_static(1, 1 + i % 300, 7)
            with contextlib.suppress(KeyError):
                table.delete(1, 1 + i % 300)
            if i % 20 == 0:
                table.flush(statics=True)
                table.tick()
    finally:
        stop[0] = 1
        thread.join()
    assert rounds[0] > 1
    table.tick()  # the worker may have been stopped for a dozen of these quick ticks in mid-learning
    table.check()
    assert {entry.port for entry in table.entries()} <= {1, 2, 3, 7}
