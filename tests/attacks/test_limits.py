"""Limits of sessions for each source and rule, against who wants all of them."""

import pytest

from attacks.siege import INSIDE, SERVER, SERVER6, Siege, udp4, udp6
from vforward.control.rules import FirewallSettings, Rule

GAME = {"action": "permit", "in_": "wan", "protocol": "udp", "to_ports": 7}
ATTACKER, FRIENDS = "203.0.113.66", [f"203.0.113.{n}" for n in range(100, 120)]


def attack(siege, n=5000):
    return siege.packets(siege.wan, [udp4(ATTACKER, 1024 + k, SERVER, 7) for k in range(n)])[0]


def friends(siege):
    return siege.packets(siege.wan, [udp4(friend, 9, SERVER, 7) for friend in FRIENDS])[0]


@pytest.mark.parametrize("by", ["rule", "settings"])
def test_one_source(by):
    limit = {"per_source": 30}
    rule = Rule(name="game", **GAME, **(limit if by == "rule" else {}))
    settings = FirewallSettings(default="deny", **(limit if by == "settings" else {}))
    with Siege(settings, [rule]) as siege:
        assert len(friends(siege)) == len(FRIENDS)
        passed = attack(siege)
        assert {packet[20:22] for packet in passed} == {
            (1024 + k).to_bytes(2, "big") for k in range(30)
        }
        assert siege.dropped() == {("ip4-acl", "source-limit"): 4970}
        assert len(friends(siege)) == len(FRIENDS)
        assert len(attack(siege, 30)) == 30, "what it has goes on"
        assert siege.kill(from_=ATTACKER, port=1024) == 1
        assert len(attack(siege, 31)) == 30, "1024 again; 1054 still not"
        assert siege.router.count_sessions(from_=ATTACKER) == 30


def test_one_source_of_ipv6_is_its_64():
    """Who has a /64 has 2**64 addresses, and is one source."""
    rule = Rule(name="game", **GAME, per_source=30)
    with Siege(FirewallSettings(default="deny"), [rule]) as siege:
        flood = [udp6(f"2001:db8:66::{k:x}", 9, SERVER6, 7) for k in range(1, 3001)]
        assert len(siege.packets(siege.wan, flood)[0]) == 30
        assert siege.dropped() == {("ip6-acl", "source-limit"): 2970}
        other = [udp6(f"2001:db8:67:{k:x}::1", 9, SERVER6, 7) for k in range(100)]
        assert len(siege.packets(siege.wan, other)[0]) == 100


def test_one_rule():
    """The rule that is attacked has no more than it may, others have the rest of the table."""
    rules = [
        Rule(name="game", **GAME, sessions=200),
        Rule(name="out", action="permit", in_="lan"),
    ]
    with Siege(FirewallSettings(default="deny", sessions=1023), rules) as siege:
        flood = [udp4(f"11.0.{k >> 8}.{k & 255}", 9, SERVER, 7) for k in range(5000)]
        assert len(siege.packets(siege.wan, flood)[0]) == 200
        assert siege.dropped() == {("ip4-acl", "rule-limit"): 4800}
        own = [udp4(INSIDE, 1024 + k, "198.51.100.1", 53) for k in range(823)]
        assert len(siege.packets(siege.lan, own)[1]) == 823
        assert siege.table.statistics()["evicted"] == 0
        assert siege.kill(from_="11.0.0.0/24") == 200
        assert len(siege.packets(siege.wan, flood[1000:1300])[0]) == 200
