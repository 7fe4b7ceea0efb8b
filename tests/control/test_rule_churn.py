"""Rules change under traffic: each packet meets the old set or the new one, whole, and none is lost.

Two sets of a thousand rules permit the same destinations and deny the same others. A rule that permits
sets a DSCP, which tells the destination and the set; and the sets' orders differ, so that rules of one
set with actions of the other would set a DSCP that is neither's, or let through what both deny.

A compiled port makes packets in the worker, as fast as it can, and another one judges what it is to send
(as in test_churn.py).
"""

from __future__ import annotations

import os
import random
import time

import numpy as np
import pytest

from vforward.control.forwarder import Forwarder
from vforward.control.rules import FirewallSettings, Rule
from vforward.graph import control as c
from vforward.graph.node import Kind, Node
from vforward.io.null import NULL_TX
from vforward.io.port import Port, RxCount, RxEdge, TxCount, TxEdge, default_mac
from vforward.jit.be import load32
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, HEADROOM, U8, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.memory.pool import put, take
from vforward.testing import packets as pk

RULES = 1000
DENIED = 100
"""Destinations, the last ones, that both sets deny."""
SIZE = 64
BASE = 0x10000000
MARKS = 31
CHANGES = int(os.environ.get("VFORWARD_RULE_CHURN", "40"))
"""Each compiles a thousand rules: 1000 changes take minutes."""
STOP, MADE, NEXT = range(3)  # words of the source
JUDGED, WRONG, LAST = 0, 1, 2  # words of the verdict; destination and DSCP of the last wrong one
BY_SET = 4


@kernel
def make_packets(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, frames: U8, source: U64
) -> int:  # fmt: skip
    """Packets to all destinations in turn, until they are not wanted any more."""
    if source[STOP]:
        return 0
    n = take(pool, idx, idx.size)
    if n < idx.size:
        count[RxCount.NO_BUFFER] += u64(1)
    base, first, at = address(data), address(frames), i64(source[NEXT])
    for i in range(n):
        row = i64(idx[i])
        begin_packet(meta, row, SIZE, 1)
        copy(byte_address(base, row, HEADROOM), first + at * SIZE, SIZE)
        at = (at + 7) % RULES
        edge[i] = RxEdge.NEXT
    source[NEXT] = u64(at)
    source[MADE] += u64(n)
    return n


@kernel
def judge_packets(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, pool: U64, verdict: U64
) -> None:  # fmt: skip
    """Take the packets, and tell whether one of the sets lets each of them through as it is."""
    for i in range(idx.size):
        row = i64(idx[i])
        off = i64(meta[row].off)
        number = i64(load32(data, row, off + 30)) - BASE
        dscp = i64(data[row, off + 15]) >> 2
        of = 0 if dscp <= MARKS else 1
        right = dscp == 1 + number % MARKS + of * MARKS
        right &= (number >= 0) & (number < RULES - DENIED)
        verdict[JUDGED] += u64(1)
        verdict[BY_SET + of] += u64(1)
        if not right:
            verdict[WRONG] += u64(1)
            verdict[LAST], verdict[LAST + 1] = u64(number), u64(dscp)
        edge[i] = EDGE_HELD
    put(pool, meta, idx, idx.size)


class Source(Port):
    """Makes packets."""

    def __init__(self):
        self.words = np.zeros(4, np.uint64)
        self.frames = np.zeros(RULES * SIZE, np.uint8)

    def open(self, number, pool):
        assert number == 1
        self.mac = default_mac(number)
        frames = b"".join(self._frame(n) for n in range(RULES))
        self.frames[:] = np.frombuffer(frames, np.uint8)

    def _frame(self, number):
        dst = ".".join(str(byte) for byte in (BASE + number).to_bytes(4, "big"))
        udp = pk.udp("10.0.0.2", dst, 5, 9, bytes(22))
        return pk.eth(self.mac, "02:00:00:00:00:02", 0x0800, pk.ip4("10.0.0.2", dst, 17, udp))

    def rx(self):
        node = Node("rule-churn-source", make_packets, RxEdge, RxCount, Kind.INPUT)
        return node, {"frames": self.frames, "source": self.words}

    def tx(self):
        return NULL_TX, {}

    def close(self):
        pass


class Judge(Port):
    """Judges what is sent to it."""

    def __init__(self):
        self.verdict = np.zeros(BY_SET + 2, np.uint64)

    def open(self, number, pool):
        self.mac = default_mac(number)

    def rx(self):
        return None

    def tx(self):
        return Node("rule-churn-judge", judge_packets, TxEdge, TxCount), {"verdict": self.verdict}

    def close(self):
        pass


def rule_set(which):
    """One of the two sets, in an order of its own. A destination's rule has the same name in both."""
    rules = []
    for n in range(RULES):
        to = ".".join(str(byte) for byte in (BASE + n).to_bytes(4, "big"))
        if n >= RULES - DENIED:
            rules.append(Rule(name=f"r{n}", action="deny", to=to))
        else:
            mark = 1 + n % MARKS + which * MARKS
            rules.append(Rule(name=f"r{n}", action="permit", to=to, stateful=False, mark=mark))
    random.Random(which).shuffle(rules)
    return rules


def counted(router, node):
    member = router.graph.members[node]
    return dict(zip(member.node.counter_labels, member.counts.tolist(), strict=True))


def until_more(words, at, than, timeout=60):
    """Wait until a word that the worker counts has gone beyond."""
    deadline = time.monotonic() + timeout
    while int(words[at]) <= than:
        assert time.monotonic() < deadline, f"it stays at {than}: the worker stands still"
        time.sleep(0.0002)


@pytest.mark.slow
def test_each_packet_meets_one_set(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    source, judge = Source(), Judge()
    sets = [rule_set(which) for which in (0, 1)]
    with Forwarder("rules") as router:
        router.add_port("in", source, "10.0.0.1/24")
        router.add_port("out", judge, "10.0.1.1/24")
        router.add_neighbor("10.0.1.2", bytes([2, 0, 0, 0, 1, 2]), "out")
        router.add_route("16.0.0.0/8", via="10.0.1.2")
        router.set_firewall(FirewallSettings(default="reject", ports="in"))
        router.set_rules(sets[0])
        router.build()
        control = router.workers[0].plan.control
        router.start()
        until_more(source.words, MADE, 10 * RULES)
        rounds = moved = 0
        start = time.monotonic()
        for n in range(1, CHANGES + 1):
            before = int(control[c.ROUNDS]), int(source.words[MADE])
            router.set_rules(sets[n & 1])
            rounds += int(control[c.ROUNDS]) - before[0]
            moved += int(source.words[MADE]) - before[1]
            if n % 20 < 2:  # let some packets meet this set alone
                until_more(judge.verdict, JUDGED, int(judge.verdict[JUDGED]) + 10 * RULES)
            assert judge.verdict[WRONG] == 0, judge.verdict
        spent = time.monotonic() - start
        assert rounds >= 2 * CHANGES, "the worker went on during the changes"
        assert moved > 10 * CHANGES
        assert router.firewall.changes >= CHANGES + 2
        source.words[STOP] = 1
        assert router.workers.quiesce(30)
        router.stop()
        made, judged = int(source.words[MADE]), int(judge.verdict[JUDGED])
        print(f"{CHANGES / spent:,.1f} changes/s of {RULES} rules, {made / spent:,.0f} packets/s")
        drops = {
            (name, counter.label): int(member.counts[counter])
            for name, member in router.graph.members.items()
            for counter in member.node.counters or ()
            if counter.drop and member.counts[counter]
        }
        denied = drops.pop(("ip4-acl", "denied"))
        assert drops == {}
        assert counted(router, "ip4-acl")["rejected"] == 0, "there was always a rule"
        assert judged + denied == made
        hits = router.firewall.hits[0][::2]
        assert hits[router.firewall.document()["default_hits"]] == 0
        assert int(hits.sum()) == made, "each packet was counted once, by a rule"
        assert np.count_nonzero(hits) == RULES
        assert judge.verdict[WRONG] == 0
        assert (judge.verdict[BY_SET:] > RULES).all()
        router.pool.check()
