"""A million spoofed SYNs to a server that anybody may call: who is connected stays connected."""

import numpy as np
import pytest

from attacks.siege import BATCH, INSIDE, OUTSIDE, SERVER, TCP, Flow, Siege, spoofed_syns
from vforward.control.rules import FirewallSettings, Masquerade, Rule
from vforward.testing import packets as pk

SYNS = 1_000_000
RULES = [
    Rule(name="out", action="permit", in_="lan"),
    Rule(name="web", action="permit", in_="wan", to=SERVER, protocol="tcp", to_ports=80),
]
INNER = 24
OUTER = 8


def connections(siege):
    """Of clients inside, behind NAT, and of clients of the server."""
    for n in range(INNER):
        yield Flow(siege, ((INSIDE, 5000 + n), (OUTSIDE, 443))).open()
    for n in range(OUTER):
        yield Flow(siege, ((f"198.51.100.{20 + n}", 6000 + n), (SERVER, 80)), inside=False).open()


@pytest.mark.slow
def test_established_flows_outlive_a_million_spoofed_syns():
    nat = [Masquerade(out="wan")]
    rng = np.random.default_rng(1)
    with Siege(FirewallSettings(default="deny"), RULES, nat) as siege:
        flows = list(connections(siege))
        newcomers, syns, sent, arrived = [], 0, 0, 0
        while syns < SYNS:
            wanted = set()
            flood = spoofed_syns(siege, BATCH - 2 * len(flows), rng)
            inner = []
            for flow in flows:
                for d in (0, 1) if flow.ports[0] is siege.lan else (1, 0):
                    packet, payload = flow.data(d)
                    wanted.add(payload)
                    if flow.ports[d] is siege.lan:
                        inner.append(packet)
                    else:
                        flood.insert(int(rng.integers(len(flood))), siege.frame(siege.wan, packet))
            syns += BATCH - 2 * len(flows)
            out = [*siege.packets(siege.lan, inner), *siege.frames(siege.wan, flood)]
            sent += len(wanted)
            arrived += len(wanted & {packet[40:] for left in out for packet in left})
            if len(newcomers) * SYNS < 10 * syns:  # somebody who calls meanwhile gets through, too
                ends = (f"198.51.100.{100 + len(newcomers)}", 7000), (SERVER, 80)
                newcomers.append(Flow(siege, ends, inside=False).open())
        assert sent > 15_000
        assert arrived >= 0.95 * sent, f"{arrived} of {sent}"
        for flow in [*flows, *newcomers]:
            flow.goes_on()
        assert siege.router.count_sessions(state="established") == len(flows) + len(newcomers)
        told = siege.table.statistics()
        assert told["open"] == siege.table.capacity == 65535
        assert told["evicted"] + told["expired"] + told["open"] == told["opened"] >= SYNS * 0.999
        assert told["refused"] == 0
        assert siege.dropped() == {}


@pytest.mark.slow
def test_one_source_cannot_fill_the_table():
    """SYNs that are not spoofed: per_source keeps the attacker's share small, and all else goes on."""
    rules = [RULES[0], Rule(
        name="web", action="permit", in_="wan", to=SERVER, protocol="tcp", to_ports=80, per_source=50
    )]  # fmt: skip
    rng = np.random.default_rng(2)
    with Siege(FirewallSettings(default="deny"), rules) as siege:
        flows = list(connections(siege))
        frames = spoofed_syns(siege, 40_000, rng)
        attacker = pk.ip4("203.0.113.9", SERVER, TCP, bytes(20))
        header = siege.frame(siege.wan, attacker)[:34]
        frames = [header + frame[34:] for frame in frames]
        passed, _ = siege.frames(siege.wan, frames)
        assert len({packet[20:22] for packet in passed}) == 50
        for flow in flows:
            flow.goes_on()
        assert siege.router.count_sessions(from_="203.0.113.9") == 50
        assert siege.table.statistics()["evicted"] == 0
        limited = siege.dropped().pop(("ip4-acl", "source-limit"))
        assert limited == len(frames) - len(passed)
        assert siege.dropped() == {("ip4-acl", "source-limit"): limited}
        Flow(siege, (("203.0.113.10", 9), (SERVER, 80)), inside=False).open().goes_on()
