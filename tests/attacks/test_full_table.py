"""A table of sessions that is full: new ones are refused or take embryonic ones' place, all is counted."""

import numpy as np
import pytest

from attacks.siege import INSIDE, INSIDE6, OUTSIDE, SERVER, TCP, Flow, Siege, udp4, udp6
from vforward.control.rules import FirewallSettings, Rule
from vforward.testing import packets as pk

CAPACITY = 1023
OUT = Rule(name="out", action="permit", in_="lan")
FULL = ("ip4-acl", "table-full")
OUTSIDE6 = "2001:db8:9::7"


def replied(siege, n, first=0):
    """Open so many flows of UDP, in both families, each with a reply. Returns their packets, both ways."""
    there, back = [], []
    for k in range(first, first + n):
        make, src, dst = (udp6, INSIDE6, OUTSIDE6) if k % 2 else (udp4, INSIDE, OUTSIDE)
        there.append(make(src, 1024 + k, dst, 53))
        back.append(make(dst, 53, src, 1024 + k))
    assert len(siege.packets(siege.lan, there)[1]) == n
    assert len(siege.packets(siege.wan, back)[0]) == n
    return there, back


def test_full_of_sessions_that_are_in_use():
    """Nobody gives way; those who are in go on, and who comes is refused until somebody leaves."""
    with Siege(FirewallSettings(default="deny", sessions=CAPACITY), [OUT]) as siege:
        there, back = replied(siege, CAPACITY)
        assert siege.router.count_sessions() == CAPACITY
        new = [udp4(INSIDE, 20_000 + k, OUTSIDE, 53) for k in range(5000)]
        for _ in range(2):
            assert siege.packets(siege.lan, new) == ([], [])
            assert len(siege.packets(siege.lan, there)[1]) == CAPACITY
            assert len(siege.packets(siege.wan, back)[0]) == CAPACITY
        told = siege.table.statistics()
        assert (told["refused"], told["evicted"]) == (2 * len(new), 0)
        assert siege.dropped() == {FULL: 2 * len(new)}
        assert siege.kill(protocol="udp", port="1024-1033") == 10
        replied(siege, 10, first=CAPACITY)
        assert siege.packets(siege.lan, new) == ([], [])
        assert siege.dropped() == {FULL: 3 * len(new)}


def test_who_gives_way():
    """First sessions that are over, then embryonic ones by age, then those in time-wait; no others."""
    with Siege(FirewallSettings(default="deny", sessions=CAPACITY), [OUT]) as siege:
        live = [Flow(siege, ((INSIDE, 10 + n), (OUTSIDE, 443))).open() for n in range(3)]
        over = Flow(siege, ((INSIDE, 20), (OUTSIDE, 443))).open()
        over.send(1, "R")
        waiting = Flow(siege, ((INSIDE, 21), (OUTSIDE, 443))).open()
        waiting.send(0, "FA")
        waiting.send(1, "FA")
        waiting.send(0, "A")
        half = Flow(siege, ((INSIDE, 22), (OUTSIDE, 443)))
        half.send(0, "S")
        assert (over.state(), waiting.state(), half.state()) == ("closed", "time-wait", "syn-sent")
        replied(siege, CAPACITY - siege.router.count_sessions())
        for n, gone in enumerate((over, half, waiting)):
            new = Flow(siege, ((INSIDE, 30 + n), (OUTSIDE, 443)))
            assert new.send(0, "S")
            assert gone.state() == ""
            new.next = [(new.next[0] - 1) % 2**32, new.next[1]]
            live.append(new.open())  # else it would be the next to go
            assert siege.table.statistics()["evicted"] == n + 1
        assert not Flow(siege, ((INSIDE, 40), (OUTSIDE, 443))).send(0, "S")
        assert siege.dropped() == {FULL: 1}
        for flow in live:
            flow.goes_on()


@pytest.mark.parametrize("loose", [False, True])
def test_a_storm_of_anything_in_a_full_table(loose):
    """Random packets of few hosts, in both directions: what opens, follows, ends, evicts and is refused
    comes in every order. After each batch the table makes sense."""
    rng = np.random.default_rng(5 + loose)
    settings = FirewallSettings(default="deny", sessions=CAPACITY, loose=loose)
    rules = [Rule(action="permit", protocol=["tcp", "udp", "icmp", "gre"])]
    with Siege(settings, rules) as siege:
        replied(siege, CAPACITY // 2)
        for _ in range(60):
            mixed = {siege.lan: [], siege.wan: []}
            for way, host, sport, dport, kind, flags, number in rng.integers(
                0, [2, 4, 40, 40, 8, 64, 1 << 20], (256, 7)
            ).tolist():
                inside, outside = (INSIDE, SERVER)[host & 1], f"198.51.100.{1 + host}"
                src, dst = (inside, outside) if way else (outside, inside)
                few = 4 if kind < 4 else 40  # connections that come again and again, and others
                ports = 3000 + sport % few, 3000 + dport % few
                if kind < 5:
                    letters = "".join("FSRPAU"[i] for i in range(6) if flags >> i & 1)
                    usual = ("S", "SA", "A", "A", "FA", "RA")[number % 6]
                    segment = pk.tcp(
                        src, dst, *ports, seq=number % 7, ack=number % 5,
                        flags=letters if kind == 0 else usual,
                    )  # fmt: skip
                    packet = pk.ip4(src, dst, TCP, segment)
                elif kind == 5:
                    packet = udp4(src, ports[0], dst, ports[1])
                elif kind == 6:
                    packet = pk.ip4(src, dst, 1, pk.icmp_echo(sport, reply=bool(number & 1)))
                else:
                    packet = pk.ip4(src, dst, 47, bytes(number % 9))
                mixed[siege.lan if way else siege.wan].append(packet)
            for port, packets in mixed.items():
                siege.packets(port, packets)
            siege.table.check()
        told = siege.table.statistics()
        assert told["open"] > CAPACITY - 64
        assert told["evicted"] > 100
        assert told["reopened"] > 10
        over = told["opened"] - told["open"]
        assert told["evicted"] + told["expired"] + told["reopened"] == over
        reasons = {reason for _, reason in siege.dropped()}
        assert reasons >= {"not-a-beginning", "outside", "bad-flags", "bad-state"}
