# SPDX-License-Identifier: Apache-2.0
"""From rules to records: what they say, and that places stay when rules change around them."""

import numpy as np
import pytest

from vforward.control import flow_words as words
from vforward.control import rules as r
from vforward.control.rule_policy import DEFAULT_HITS, Compiler, Places, Wanted, keys_of
from vforward.control.rule_rows import Sets
from vforward.control.slots import Slots
from vforward.errors import ConfigError
from vforward.tables import policy

SETTINGS = r.FirewallSettings(default="reject", per_source=7)
NUMBERS = {"lan": 1, "wan": 2}


class World:
    """A compiler whose images are the rows' rules."""

    def __init__(self):
        self.made, self.pools, self.treatments = [], [], []
        self.places = Places(Slots(100, "rules"), Slots(10, "limits"), self.new_pool)
        compilers = {4: self.compile, 6: self.compile}
        self.compiler = Compiler(self.places, compilers, self.treatment)

    def compile(self, rows):
        self.made.append(rows)
        return rows["rule"].astype(np.uint64)

    def new_pool(self, *pool):
        self.pools.append(pool)
        return 40 + len(self.pools)

    def treatment(self, mark, police):
        self.treatments.append((mark, police))
        return 100 + len(self.treatments)

    def parts(self, rules=(), nat=(), settings=SETTINGS, sets=None):
        wanted = Wanted(settings, tuple(rules), tuple(nat), {}, sets or Sets({}, {}))
        self.new = self.places.keep(wanted)
        return self.compiler.parts(wanted, NUMBERS)


@pytest.fixture
def world():
    return World()


def permit(**more):
    return r.Rule(action="permit", **more)


def hits(parts):
    return parts.actions["hits"].tolist()


def test_actions(world):
    found = world.parts(
        [
            permit(mark="ef", police="gold", sessions=9, per_source=3),
            permit(stateful=False),
            r.Rule(action="deny"),
        ]
    ).actions
    assert found["kind"].tolist() == [policy.REJECT, policy.PERMIT, policy.PERMIT, policy.DENY]
    assert found["flags"].tolist() == [0, 0, policy.STATELESS, 0]
    assert found["treatment"].tolist() == [0, 101, 0, 0]
    assert world.treatments == [(46, "gold")]
    assert found["hits"].tolist() == [DEFAULT_HITS, 1, 2, 3]
    assert found["limit"].tolist() == [0, 1, 0, 0]
    assert found["sessions"].tolist() == [0, 9, 0, 0]
    assert found["per_source"].tolist() == [7, 3, 7, 7]


def test_rules_lead_to_their_actions(world):
    found = world.parts([permit(from_="10.0.0.0/8"), permit(from_="::1"), r.Rule(action="deny")])
    assert found.filter4.tolist() == [1, 3]
    assert found.filter6.tolist() == [2, 3]
    assert found.source4.size == found.destination4.size == found.rewrites.size == 0


def test_whether_the_route_is_asked_for_first(world):
    assert world.parts([permit(in_="lan")]).flags == 0
    assert world.parts([permit(out="self")]).flags == policy.USES_OUT


def test_rewrites(world):
    found = world.parts(
        nat=[
            r.Masquerade(out="wan"),
            r.SourceNat(pool="192.0.2.0/31", ports="5-6"),
            r.DestinationNat(
                to="192.0.2.9", new="10.0.0.9", protocol="tcp", to_ports="80-89", new_port=8080
            ),
            r.DestinationNat(to="192.0.2.9", new="10.0.0.8", protocol="tcp", to_ports=22),
            r.StaticNat(inside="10.1.0.0/30", outside="192.0.2.4/30", port="wan"),
        ]
    )  # fmt: skip
    rewrites = found.rewrites
    pools = dict(zip(world.pools, (41, 42), strict=True))
    addresses = ["10.0.0.9", "10.0.0.8", "192.0.2.4", "10.1.0.0"]
    assert rewrites["kind"].tolist() == [policy.MASQUERADE, policy.POOL, *[policy.STATIC] * 4]
    assert rewrites["pool"][:2].tolist() == [
        pools[0, 0, 1024, 65535],
        pools[0xC0000200, 0xC0000201, 5, 6],
    ]
    assert rewrites["address"][2:].tolist() == [words.addresses(text).first for text in addresses]
    assert rewrites["keep"].tolist() == [0, 0, 0, 0, 3, 3]
    assert rewrites["first"].tolist() == [0, 0, 80, 0, 0, 0]
    assert rewrites["port"].tolist() == [0, 0, 8080, 0, 0, 0]
    assert rewrites["hits"].tolist() == [1, 2, 3, 4, 5, 5]
    assert found.source4.tolist() == [0, 1, 4]
    assert found.destination4.tolist() == [2, 3, 5]


def test_a_rule_keeps_its_counter_while_others_come_and_go(world):
    one, other = permit(from_="10.0.0.1"), permit(from_="10.0.0.2")
    assert hits(world.parts([one, other])) == [0, 1, 2]
    assert hits(world.parts([r.Rule(action="deny"), other, one])) == [0, 3, 2, 1]
    assert world.new == [3]
    assert hits(world.parts([other])) == [0, 2]
    assert hits(world.parts([one])) == [0, 1]
    assert world.new == [1], "counted anew"


def test_a_rule_with_a_name_keeps_it_when_it_changes(world):
    assert hits(world.parts([permit(), permit(name="x", from_="10.0.0.1")])) == [0, 1, 2]
    assert hits(world.parts([permit(name="x", from_="10.0.0.2", sessions=3)])) == [0, 2]


def test_equal_rules_have_counters_of_their_own(world):
    assert hits(world.parts([permit(), permit()])) == [0, 1, 2]
    assert keys_of([permit(), permit()])[0] != keys_of([permit(), permit()])[1]
    same = permit(name="x"), r.Masquerade(name="x", out="wan")
    assert keys_of(same)[0] != keys_of(same)[1]


def test_an_image_is_made_anew_only_when_its_rows_change(world):
    masquerade = r.Masquerade(out="wan")
    world.parts([permit()], [masquerade])
    assert len(world.made) == 3
    world.parts([permit(mark="ef")], [masquerade])
    assert len(world.made) == 3, "the rows are the same"
    found = world.parts([permit(from_="10.0.0.1")], [masquerade])
    assert len(world.made) == 4
    assert found.filter6.size == 0
    assert found.source4.tolist() == [0]


def test_a_set_that_changes_changes_the_rows(world):
    for items, n in ((["10.0.0.1"], 1), (["10.0.0.1", "10.0.0.4"], 2)):
        sets = Sets({"x": words.many(items, words.addresses)}, {})
        assert world.parts([permit(from_="@x")], sets=sets).filter4.size == n


def test_pools_go_when_nobody_names_them(world):
    nat = r.SourceNat(pool="192.0.2.1"), r.Masquerade(out="wan", ports="2000-2999")
    world.parts(nat=nat)
    world.parts(nat=nat[1:])
    left = Wanted(SETTINGS, (), nat[1:])
    number = world.places.pools[0xC0000201, 0xC0000201, 1024, 65535]
    assert world.places.unused_pools(left) == [number]
    assert world.places.unused_pools(left) == []
    world.places.pools[0, 0, 1, 2] = 0
    assert world.places.unused_pools(left) == [], "number 0 is always there"


def test_too_many_rules(world):
    with pytest.raises(ConfigError, match="100 rules: there can be 99"):
        world.parts([permit()] * 100)
