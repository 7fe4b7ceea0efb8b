"""A masquerade whose ports are used up: counted, who is in goes on, and it recovers."""

import pytest

from attacks.siege import INSIDE, OUTSIDE, WAN, Flow, Siege, udp4
from vforward.control.rules import FirewallSettings, Masquerade, Rule, SourceNat
from vforward.testing import packets as pk

OUT = Rule(name="out", action="permit", in_="lan")
PORTS = range(2000, 2064)
SPAN = "2000-2063"


def source(packet):
    """Its source as it left: address and port."""
    return ".".join(map(str, packet[12:16])), int.from_bytes(packet[20:22], "big")


def exhausted(siege):
    return sum(pool.exhausted for pool in siege.router.firewall.pools.statistics())


@pytest.mark.parametrize(
    ("nat", "address"),
    [(Masquerade(out="wan", ports=SPAN), WAN), (SourceNat(pool="203.0.113.1", ports=SPAN), "203.0.113.1")],
    ids=["masquerade", "pool"],
)  # fmt: skip
def test_all_ports_towards_one_server(nat, address):
    with Siege(FirewallSettings(default="deny"), [OUT], [nat]) as siege:
        flows = [
            Flow(siege, ((INSIDE, 5000 + k), (OUTSIDE, 443))).open() for k in range(len(PORTS))
        ]
        assert {flow.seen[0] for flow in flows} == {(address, port) for port in PORTS}
        for k in range(500):
            assert not Flow(siege, ((INSIDE, 9000 + k), (OUTSIDE, 443))).send(0, "S")
        assert exhausted(siege) == 500
        assert siege.counted("ip4-acl")["ports-exhausted"] == 500
        assert siege.router.count_sessions() == len(flows)
        for flow in flows:
            flow.goes_on()
        elsewhere = Flow(siege, ((INSIDE, 9000), ("198.51.100.8", 443))).open()
        assert elsewhere.seen[0][1] in PORTS, "a port serves a session towards each server"
        flows[7].send(1, "R")
        assert siege.kill(state="closed") == 1
        again = Flow(siege, ((INSIDE, 9000), (OUTSIDE, 443))).open()
        assert again.seen[0] == flows[7].seen[0], "the one that is free"
        again.goes_on()


def test_pings_have_identifiers_that_run_out_likewise():
    with Siege(
        FirewallSettings(default="deny"), [OUT], [Masquerade(out="wan", ports=SPAN)]
    ) as siege:
        pings = [pk.ip4(INSIDE, OUTSIDE, 1, pk.icmp_echo(k, 1)) for k in range(100)]
        _, passed = siege.packets(siege.lan, pings)
        assert {int.from_bytes(packet[24:26], "big") for packet in passed} == set(PORTS)
        assert siege.counted("ip4-acl")["ports-exhausted"] == 100 - len(PORTS)


def test_a_flood_of_flows_takes_no_port_of_others():
    """In the usual range: 64512 ports, of which none is given twice towards one server."""
    with Siege(FirewallSettings(default="deny"), [OUT], [Masquerade(out="wan")]) as siege:
        flows = [Flow(siege, ((INSIDE, 5000 + k), (OUTSIDE, 53))).open() for k in range(10)]
        flood = [
            udp4(f"10.0.1.{k % 200 + 20}", 1024 + k // 200, OUTSIDE, 53) for k in range(40_000)
        ]
        _, passed = siege.packets(siege.lan, flood)
        assert len(passed) >= 0.999 * len(flood)
        assert len({source(packet) for packet in passed}) == len(passed)
        assert exhausted(siege) == len(flood) - len(passed)
        for flow in flows:
            flow.goes_on()
