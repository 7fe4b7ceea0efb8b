"""A change of the firewall in two steps: aside, and in force; taken back, or never put in force."""

import gc
import weakref

import numpy as np
import pytest

from vforward.control import rules as r
from vforward.control.firewall import Firewall
from vforward.control.interfaces import Interfaces
from vforward.errors import ConfigError
from vforward.memory.arena import Arena
from vforward.tables import policy

DENY = r.FirewallSettings(default="deny", sessions=1023)
WEB = r.Rule(action="permit", name="web", to="10.9.0.0/16", protocol="tcp", to_ports=[80, 443])
SLOW = r.Policer(rate="1M", burst=1500)
FAST = r.Policer(rate="9M", burst=1500)
POLICED = r.Rule(action="permit", name="policed", police="slow")


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Arena.create("lab") as arena:
        interfaces = Interfaces(arena)
        wan = interfaces.new("wan", "memory", "192.0.2.1/24")
        interfaces.up(wan, bytes([2, 0, 0, 0, 0, 1]), 1500, 1)
        firewall = Firewall(arena, interfaces, 10**9, 4096)
        firewall.set(DENY)
        firewall.change(rules=[WEB, POLICED], policers={"slow": SLOW})
        firewall.prepare()
        yield firewall
        firewall.shards.clear()


def state(made):
    """What packets meet, and where records lie."""
    return (
        made._policy.bundle.tobytes(),
        int(made._policy.words[0]),
        made.wanted,
        dict(made._policer_numbers.items()),
        dict(made._places.hits.items()),
        dict(made._places.pools),
        made.policers.table[made._policer_numbers["slow"]].tobytes(),
        made.shards[0].array[:64].tobytes(),
    )


def kinds(made):
    """What becomes of packets, by the bundle in force: first of those that match no rule."""
    bundle = made._policy.bundle
    at, words = (int(bundle[2 * policy.ACTIONS + k]) for k in range(2))
    return bundle[at : at + words].view(policy.ACTION)["kind"].tolist()


def test_nothing_is_seen_before_it_is_in_force(made):
    before = state(made)[:3]
    with made.changing(rules=[POLICED], nat=[r.Masquerade(out="wan")]) as change:
        assert state(made)[:3] == before
        change.put_in_force()
        assert made.wanted.rules == (POLICED,)
        assert kinds(made) == [policy.DENY, policy.PERMIT]
    assert made.wanted.nat == (r.Masquerade(out="wan"),)


def test_what_is_not_put_in_force_was_never_there(made):
    before = state(made)
    pool = r.SourceNat(pool="203.0.113.9-203.0.113.10")
    with made.changing(rules=[], policers={"slow": SLOW, "new": FAST}, nat=[pool]):
        assert len(made._places.pools) == len(before[5]) + 1
    assert state(made) == before


def test_what_is_taken_back_is_as_before(made):
    before = state(made)
    settings = r.FirewallSettings(default="permit", sessions=1023, timeouts={"udp": 5})
    with made.changing(settings=settings, policers={"slow": FAST}) as change:
        change.put_in_force()
        now = state(made)
        assert now[6] != before[6], "the policer"
        assert now[7] != before[7], "the timeouts"
        assert kinds(made)[0] == policy.PERMIT
        change.take_back()
    assert state(made) == before
    assert np.array_equal(kinds(made), [policy.DENY, policy.PERMIT, policy.PERMIT])


def test_what_fails_half_way_leaves_all_as_it_was(made, monkeypatch):
    before, define = state(made), made.policers.define

    def refuses(number, rate, *given, **more):
        if rate == FAST.rate:
            raise ConfigError("not this one")
        define(number, rate, *given, **more)

    monkeypatch.setattr(made.policers, "define", refuses)
    with made.changing(rules=[], policers={"slow": FAST}) as change:
        with pytest.raises(ConfigError, match="not this one"):
            change.put_in_force()
        assert state(made) == before
        change.take_back()
    assert state(made) == before


def test_what_was_never_in_force_is_not_taken_back(made):
    before = state(made)
    with made.changing(rules=[]) as change:
        change.take_back()
    assert state(made) == before


def test_who_takes_back_numbers_all_that_was_there_before(made):
    before, made.before_publish = made.numbers(), made.numbers
    with made.changing(rules=[]) as change:
        change.put_in_force()
        change.take_back()
    assert made.numbers() == before


def test_a_change_leaves_nothing_for_a_collection(made):
    """It holds all rules, and what was before: changes come faster than old objects are collected."""
    gc.collect()
    gc.disable()
    try:
        with made.changing(rules=[POLICED], nat=[r.Masquerade(out="wan")]) as change:
            left = weakref.ref(change)
            change.put_in_force()
        del change
        assert left() is None
    finally:
        gc.enable()


def test_what_is_wrong_changes_nothing(made):
    before = state(made)
    wrong = [r.Rule(action="permit", police="none")]
    with pytest.raises(ConfigError, match="police"), made.changing(rules=wrong):
        pass
    assert state(made) == before
