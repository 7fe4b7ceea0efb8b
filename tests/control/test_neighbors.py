"""The neighbor service between fake workers: rings, requests, releases, the thread."""

import threading
from ipaddress import IPv4Interface

import numpy as np
import pytest

from nodes.network import Heap
from oracles import arp as oracle
from oracles import ethernet
from vforward.control.neighbor_machine import State
from vforward.control.neighbors import EVENTS, RETRY_S, NeighborService
from vforward.nodes.neighbor import events as ev
from vforward.nodes.arp import input as arp_input
from vforward.nodes.arp import release as arp_release
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.control import inject
from vforward.rings.spsc import Ring
from vforward.tables import addresses as address_table
from vforward.tables import held as held_table
from vforward.tables.adjacency import ADJACENCY
from vforward.tables.ports import PORT
from vforward.testing import run_node
from vforward.testing.run_node import heap_pool

LAN, VLAN = 1, 2
MAC = b"\x02\0\0\0\0\1"
PEER = b"\x02\0\0\0\0\x19"
OWN, HOP, TAGGED_OWN, TAGGED_HOP = 0x0A000001, 0x0A000009, 0x0A000A01, 0x0A000A09
NOWHERE = 0x0B000001


class Routing:
    """What was told last, and all of it."""

    def __init__(self):
        self.up = {}
        self.told = []

    def neighbor_up(self, port_number, ip, mac):
        self.up[port_number, ip] = mac
        self.told.append(("up", port_number, ip, mac))

    def neighbor_down(self, port_number, ip):
        del self.up[port_number, ip]
        self.told.append(("down", port_number, ip))


class Bench:
    """The service, and the nodes of its worker, called by hand."""

    def __init__(self):
        self.pool = heap_pool(1024)
        ports = np.zeros(4, PORT)
        ports["mac"][1:] = int.from_bytes(MAC, "big")
        ports["vlan"][VLAN] = 10
        self.ports = ports
        self.adjacencies = np.zeros(4, ADJACENCY)
        self.adjacencies["tx_port"][1:3] = LAN, VLAN
        self.adjacencies["next_hop"][1:3, 1] = HOP, TAGGED_HOP
        self.adjacencies["tx_port"][3], self.adjacencies["next_hop"][3, 1] = LAN, NOWHERE
        self.now, self.woken = 1000.0, threading.Event()
        self.routing = Routing()
        self.service = NeighborService(
            Heap(), self.pool, ports, self.routing, wake=self.woken.set, clock=lambda: self.now
        )
        self.service.add_address(LAN, IPv4Interface("10.0.0.1/24"))
        self.service.add_address(VLAN, IPv4Interface("10.0.10.1/24"))
        self.tables = {"ports": ports, "adjacencies": self.adjacencies, **self.service.tables}

    def step(self, after=0.0):
        self.now += after
        return self.service.step(self.now)

    def run(self, node, frames=(), **given):
        return run_node(node, frames, pool=self.pool, tables=self.tables, **given)

    def hold(self, adjacency, n=1):
        """Packets for an adjacency come to arp-resolve."""

        def prepare(record, _):
            record["adjacency"] = adjacency

        result = self.run(arp_resolve.NODE, [bytes(40)] * n, meta=prepare)
        assert result.edges == ["held"] * n

    def hear(self, payload, port=LAN):
        """An ARP message comes in."""
        result = self.run(arp_input.NODE, [bytes(14) + payload], l3=14, rx_port=port)
        self.pool.put(result.rows)
        return result.edges

    def hear_reply(self, mac=PEER, ip=HOP):
        request = oracle.request(MAC, OWN, ip)
        assert self.hear(oracle.reply(request, mac)) == ["drop"]

    def sent(self):
        """(port, frame) of what the worker would send."""
        result = self.run(inject.NODE)
        assert set(result.edges) <= {"output"}
        self.pool.put(result.rows)
        return list(zip(result.meta["tx_port"].tolist(), result.frames, strict=True))

    def released(self):
        """Edges of what the worker would let go."""
        result = self.run(arp_release.NODE)
        self.pool.put(result.rows)
        return result.edges

    def state(self, ip=HOP):
        found = [n.state for n in self.service.entries() if n.ip == ip]
        return found[0] if found else None

    def close(self):
        self.service.close()
        held_table.check(self.tables["held"])
        self.pool.check(held=held_table.held_rows(self.tables["held"]))
        assert self.pool.free + held_table.held_packets(self.tables["held"]) == self.pool.size


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


def asks(to=ethernet.BROADCAST, target=HOP):
    header = ethernet.header(to, MAC, ethernet.ARP)
    return [(LAN, header + oracle.request(MAC, OWN, target))]


def test_a_neighbor_is_asked_for_answers_and_gets_its_packets(bench):
    bench.hold(1, 3)
    step = bench.step()
    assert step.moved
    assert step.due == bench.now + 1
    assert bench.woken.is_set()
    assert bench.sent() == asks()
    assert bench.state() is State.INCOMPLETE
    bench.hear_reply()
    assert bench.step(0.2).moved
    assert bench.routing.told == [("up", LAN, HOP, PEER)]
    assert bench.released() == ["forward"] * 3
    (found,) = bench.service.entries()
    assert (found.port, found.ip, found.mac, found.state) == (LAN, HOP, PEER, State.REACHABLE)
    assert found.since == bench.now
    assert not bench.step().moved


def test_a_sub_interface_asks_with_its_tag(bench):
    bench.hold(2)
    bench.step()
    header = ethernet.header(ethernet.BROADCAST, MAC, ethernet.ARP, ethernet.tag_of(10))
    assert bench.sent() == [(VLAN, header + oracle.request(MAC, TAGGED_OWN, TAGGED_HOP))]


def test_nobody_answers(bench):
    bench.hold(1, 2)
    for _ in range(3):
        bench.step()
        assert bench.sent() == asks()
        assert bench.released() == []
        bench.now += 1
    bench.step()
    assert (bench.state(), bench.sent()) == (State.FAILED, [])
    assert bench.released() == ["unreachable"] * 2
    bench.hold(1)  # soon after: refused without asking again
    bench.step(1)
    assert (bench.sent(), bench.released()) == ([], ["unreachable"])
    assert bench.step(5).due is None
    assert bench.state() is None
    bench.hold(1)
    bench.step()
    assert bench.sent() == asks()
    assert bench.routing.told == []


def test_an_answer_during_a_retry_and_one_after_failure(bench):
    bench.hold(1)
    for after in (0, 1, 1, 1):
        bench.step(after)
    assert bench.state() is State.FAILED
    bench.released()
    bench.sent()
    bench.hear_reply()
    bench.step(0.5)
    assert bench.state() is State.REACHABLE
    assert bench.routing.up == {(LAN, HOP): PEER}


def test_a_silent_neighbor_gets_stale_is_polled_and_forgotten(bench):
    bench.hear_reply()
    bench.step()
    assert bench.step(59.9).due == pytest.approx(bench.now + 0.1)
    assert bench.state() is State.REACHABLE
    bench.step(0.2)
    assert bench.state() is State.STALE
    assert bench.routing.up
    bench.step(5)
    for _ in range(3):
        assert bench.state() is State.PROBE
        assert bench.sent() == asks(to=PEER)
        bench.step(1)
    assert bench.sent() == []
    assert bench.state() is None
    assert bench.routing.told == [("up", LAN, HOP, PEER), ("down", LAN, HOP)]


@pytest.mark.parametrize("wait", [30, 61, 66.1])
def test_any_word_from_it_makes_it_reachable_again(bench, wait):
    bench.hear_reply()
    bench.step()
    bench.step(wait)
    bench.step()
    if wait > 61:
        bench.step(5)
        assert bench.state() is State.PROBE
    bench.sent()
    other = oracle.request(PEER, HOP, OWN + 1)  # it asks for another station
    assert bench.hear(other) == ["drop"]
    bench.step()
    assert bench.state() is State.REACHABLE
    bench.step(59)
    assert bench.state() is State.REACHABLE
    assert bench.routing.told == [("up", LAN, HOP, PEER)]


def test_a_new_mac_replaces_the_old(bench):
    bench.hear_reply()
    bench.step()
    bench.hear_reply(mac=b"\x02\0\0\0\0\x99")
    bench.step()
    assert bench.routing.up == {(LAN, HOP): b"\x02\0\0\0\0\x99"}


def test_who_speaks_to_others_is_not_learned_and_who_asks_us_is(bench):
    assert bench.hear(oracle.request(PEER, HOP, OWN + 1)) == ["drop"]
    bench.step()
    assert bench.service.entries() == []
    assert bench.hear(oracle.request(PEER, HOP, OWN)) == ["reply"]
    bench.step()
    assert bench.state() is State.REACHABLE


def test_static_neighbors_stay(bench):
    bench.hold(1)
    bench.step()
    bench.sent()
    bench.service.add_static(LAN, HOP, PEER)
    assert bench.released() == ["forward"]
    bench.hear_reply(mac=b"\x02\0\0\0\0\x99")
    assert bench.step(1000).due is None
    assert bench.state() is State.STATIC
    assert bench.routing.told == [("up", LAN, HOP, PEER)]
    assert bench.service.delete(LAN, HOP)
    assert not bench.service.delete(LAN, HOP)
    assert bench.routing.up == {}


@pytest.mark.parametrize("mac", [bytes(6), b"\xff" * 6, b"\x01\0\0\0\0\1", bytes(5), PEER + b"x"])
def test_a_static_mac_must_be_a_stations(bench, mac):
    with pytest.raises(ValueError, match="no station's MAC"):
        bench.service.add_static(LAN, HOP, mac)


def test_deleting_who_is_waited_for_makes_its_packets_undeliverable(bench):
    bench.hold(1)
    bench.hold(2)
    bench.step()
    bench.sent()
    bench.service.delete_port(LAN)
    assert bench.released() == ["unreachable"]
    assert [n.port for n in bench.service.entries()] == [VLAN]
    bench.service.delete_address(VLAN, IPv4Interface("10.0.10.1/24"))
    assert bench.released() == ["unreachable"]
    assert bench.service.entries() == []


def test_without_an_address_in_its_prefix_nobody_can_be_asked(bench):
    bench.hold(3)
    bench.step()
    assert (bench.sent(), bench.released()) == ([], ["unreachable"])
    assert bench.state(NOWHERE) is State.FAILED


def test_packets_that_came_while_the_answer_did_are_released(bench):
    bench.hear_reply()
    bench.hold(1)  # behind it in the ring
    bench.step()
    assert bench.released() == ["forward"]
    assert set(bench.routing.told) == {("up", LAN, HOP, PEER)}


def test_a_full_ring_of_releases_loses_none(bench):
    ring = Ring(bench.tables["releases"])
    ring.push(np.zeros(ring.free_slots(), np.uint64))
    bench.hold(1)
    bench.hear_reply()
    step = bench.step()
    assert (step.moved, step.due) == (True, bench.now + RETRY_S)  # a request was sent
    ring.pop(ring.used_slots())
    assert bench.step().moved
    assert bench.released() == ["forward"]
    bench.sent()


def test_more_events_than_a_step_takes(bench):
    for i in range(EVENTS):
        ev.post(bench.tables["events"], ev.LEARN_TARGET, LAN, 0x0A000100 + i, 2)
    assert bench.step().due == bench.now
    bench.step()
    assert len(bench.service.entries()) == EVENTS


def test_addresses_come_and_go(bench):
    table = bench.tables["addresses"]
    assert (
        address_table.standing(table, LAN, 0, address_table.mapped_int(OWN)) == address_table.OURS
    )
    bench.service.delete_address(LAN, IPv4Interface("10.0.0.1/24"))
    assert (
        address_table.standing(table, LAN, 0, address_table.mapped_int(OWN))
        == address_table.ELSEWHERE
    )


def test_the_thread_wakes_by_deadlines_and_by_the_bell():
    bench = Bench()
    moments = iter(range(10**9))
    bench.service._clock = lambda: float(next(moments))  # a second passes at each look
    bench.hold(1, 2)
    bench.service.start()
    bench.service.start()
    ring = Ring(bench.tables["releases"])
    while not ring.used_slots():  # three requests, then failure, without a bell
        assert bench.woken.wait(20)
        bench.woken.clear()
    bench.service.stop()
    bench.service.stop()
    assert bench.sent() == asks() * 3
    assert bench.released() == ["unreachable"] * 2
    bench.service.start()
    bench.woken.clear()
    resolve(bench, VLAN, TAGGED_HOP)
    assert bench.woken.wait(20)
    bench.service.add_static(VLAN, TAGGED_HOP, PEER)
    bench.service.stop()
    assert bench.state(TAGGED_HOP) is State.STATIC
    bench.close()
    bench.service.close()


def resolve(bench, port, ip):
    """What arp-resolve tells, while the thread runs: run_node would miss the buffers it takes."""
    assert ev.post(bench.tables["events"], ev.RESOLVE, port, ip, 0)
    ev.wake(bench.tables["events"])


def test_a_fault_of_the_routings_loses_no_packet(bench, caplog):
    def fault(*_):
        raise KeyError("x")

    bench.routing.neighbor_up = fault
    bench.hold(1)
    bench.hear_reply()
    bench.hold(2)
    bench.step()
    assert "KeyError" in caplog.text
    assert bench.state() is State.FAILED
    assert bench.released() == ["unreachable"]
    assert bench.state(TAGGED_HOP) is State.INCOMPLETE
    bench.sent()


def test_a_fault_does_not_end_the_thread(caplog):
    bench = Bench()
    calls = threading.Semaphore(0)

    def fault():
        calls.release()
        raise KeyError("x")

    bench.service.wake = fault
    bench.service.start()
    resolve(bench, LAN, HOP)
    assert calls.acquire(timeout=20)
    resolve(bench, VLAN, TAGGED_HOP)
    assert calls.acquire(timeout=20)
    bench.service.stop()
    assert "a step failed" in caplog.text
    bench.close()
