"""The neighbor service between fake workers: rings, requests, releases, the thread."""

import contextlib
import threading
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, ip_interface

import numpy as np
import pytest

from nodes.network import Heap
from oracles import arp as oracle
from oracles import ethernet
from oracles import nd as nd_oracle
from vforward.control import neighbor_frames as frames
from vforward.control.neighbor_machine import DOUBTED, Limits, State
from vforward.control.neighbors import EVENTS, RETRY_S, NeighborService
from vforward.nodes.arp import input as arp_input
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.control import inject
from vforward.nodes.nd import input as nd_input
from vforward.nodes.nd import resolve as nd_resolve
from vforward.nodes.neighbor import events as ev
from vforward.nodes.neighbor import notify as neighbor_notify
from vforward.nodes.neighbor import release as neighbor_release
from vforward.rings.spsc import Ring
from vforward.tables import addresses as address_table
from vforward.tables import held as held_table
from vforward.tables.addresses import halves, mapped_int
from vforward.tables.adjacency import ADJACENCY
from vforward.tables.ports import PORT
from vforward.testing import run_node
from vforward.testing.run_node import heap_pool

LAN, VLAN = 1, 2
MAC = b"\x02\0\0\0\0\1"
PEER = b"\x02\0\0\0\0\x19"
OWN4, HOP4, TAGGED_OWN4, TAGGED_HOP4 = 0x0A000001, 0x0A000009, 0x0A000A01, 0x0A000A09
HOP, TAGGED_HOP, NOWHERE = mapped_int(HOP4), mapped_int(TAGGED_HOP4), mapped_int(0x0B000001)
LOCAL6, OWN6 = 0xFE80 << 112 | 1, 0x20010DB8 << 96 | 1
HOP6 = 0x20010DB8 << 96 | 0xABCDEF
TO4, TO_TAGGED, TO_NOWHERE, TO6 = 1, 2, 3, 4
"""Adjacencies."""


class Routing:
    """What was told last, and all of it."""

    def __init__(self):
        self.up = {}
        self.told = []

    def neighbor_up(self, port_number, ip, mac):
        self.up[port_number, ip] = mac
        self.told.append(("up", port_number, ip, mac))

    def neighbor_stale(self, port_number, ip):
        assert (port_number, ip) in self.up
        self.told.append(("stale", port_number, ip))

    def neighbor_failed(self, port_number, ip):
        self.up.pop((port_number, ip), None)
        self.told.append(("failed", port_number, ip))
        return False

    together = contextlib.nullcontext

    def neighbor_down(self, port_number, ip):
        self.up.pop((port_number, ip), None)
        self.told.append(("down", port_number, ip))


class Bench:
    """The service, and the nodes of its worker, called by hand. REACHABLE lasts 30 s."""

    def __init__(self, **given):
        self.pool = heap_pool(1024)
        ports = np.zeros(4, PORT)
        ports["mac"][1:] = int.from_bytes(MAC, "big")
        ports["vlan"][VLAN], ports["tpid"][VLAN], ports["tags"][VLAN] = 10, 0x8100, 1
        self.ports = ports
        self.adjacencies = np.zeros(5, ADJACENCY)
        hops = [(LAN, HOP), (VLAN, TAGGED_HOP), (LAN, NOWHERE), (LAN, HOP6)]
        for record, (port, hop) in zip(self.adjacencies[1:], hops, strict=True):
            record["tx_port"], record["next_hop"] = port, halves(hop)
        self.now, self.woken = 1000.0, threading.Event()
        self.routing = Routing()
        self.service = NeighborService(
            Heap(), self.pool, ports, self.routing,
            wake=self.woken.set, clock=lambda: self.now, **given,
        )  # fmt: skip
        self.service._machine._chance = lambda: 0.5
        self.service.add_address(LAN, IPv4Interface("10.0.0.1/24"))
        self.service.add_address(VLAN, IPv4Interface("10.0.10.1/24"))
        self.service.add_address(LAN, IPv6Interface("2001:db8::1/64"))
        self.service.add_address(LAN, IPv6Interface("fe80::1/64"))
        self.tables = {
            "ports": ports,
            "adjacencies": self.adjacencies,
            **self.service.tables,
            **self.service.own[0],
        }

    def step(self, after=0.0):
        self.now += after
        return self.service.step(self.now)

    def run(self, node, frames=(), **given):
        return run_node(node, frames, pool=self.pool, tables=self.tables, **given)

    def hold(self, adjacency, n=1):
        """Packets for an adjacency come to arp-resolve or nd-resolve."""

        def prepare(record, _):
            record["adjacency"] = adjacency

        six = adjacency == TO6
        node, packet = (nd_resolve, b"\x60") if six else (arp_resolve, b"\x45")
        result = self.run(node.NODE, [packet + bytes(40)] * n, meta=prepare)
        assert result.edges == ["held"] * n

    def use(self, adjacency, n=1):
        """Packets for a stale neighbor pass."""

        def prepare(record, _):
            record["adjacency"] = adjacency

        result = self.run(neighbor_notify.NODE, [bytes(40)] * n, meta=prepare)
        assert result.edges == ["rewrite"] * n
        self.pool.put(result.rows)

    def hear(self, payload, port=LAN):
        """An ARP message comes in."""
        result = self.run(arp_input.NODE, [bytes(14) + payload], l3=14, rx_port=port)
        self.pool.put(result.rows)
        return result.edges

    def hear6(self, packet, port=LAN):
        """A message of ND comes in."""

        def prepare(record, _):
            record["l4"] = record["l3"] + 40

        frame = bytes(6) + PEER + b"\x86\xdd" + packet
        result = self.run(nd_input.NODE, [frame], l3=14, rx_port=port, meta=prepare)
        self.pool.put(result.rows)
        return result.edges

    def hear_reply(self, mac=PEER, ip=HOP):
        request = oracle.request(MAC, OWN4, ip & 0xFFFFFFFF)
        assert self.hear(oracle.reply(request, mac)) == ["drop"]

    def meet(self):
        """The neighbor is asked for, answers, and is reachable; nothing is left to be done."""
        self.hold(TO4)
        self.step()
        assert self.sent() == asks()
        self.hear_reply()
        self.step()
        assert self.released() == ["ip4"]
        assert self.state() is State.REACHABLE

    def sent(self):
        """(port, frame) of what the worker would send."""
        result = self.run(inject.NODE)
        assert set(result.edges) <= {"output"}
        self.pool.put(result.rows)
        return list(zip(result.meta["tx_port"].tolist(), result.frames, strict=True))

    def released(self):
        """Edges of what the worker would let go."""
        result = self.run(neighbor_release.NODE)
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


def asks(to=ethernet.BROADCAST, target=HOP4):
    header = ethernet.header(to, MAC, ethernet.ARP)
    return [(LAN, header + oracle.request(MAC, OWN4, target))]


def solicits(to=None):
    dst = None if to is None else HOP6
    packet = nd_oracle.solicitation(MAC, OWN6, HOP6, dst)
    return [(LAN, (to or b"\x33\x33\xff\xab\xcd\xef") + MAC + b"\x86\xdd" + packet)]


def test_a_neighbor_is_asked_for_answers_and_gets_its_packets(bench):
    bench.hold(TO4, 3)
    step = bench.step()
    assert step.moved
    assert step.due == bench.now + 1
    assert bench.woken.is_set()
    assert bench.sent() == asks()
    assert bench.state() is State.INCOMPLETE
    bench.hear_reply()
    assert bench.step(0.2).moved
    assert bench.routing.told == [("up", LAN, HOP, PEER)]
    assert bench.released() == ["ip4"] * 3
    (found,) = bench.service.entries()
    assert (found.port, found.ip, found.mac, found.state) == (LAN, HOP, PEER, State.REACHABLE)
    assert (found.since, str(found.address)) == (bench.now, "10.0.0.9")
    assert not bench.step().moved


def test_an_ipv6_neighbor_is_solicited_answers_and_gets_its_packets(bench):
    bench.hold(TO6, 3)
    bench.step()
    assert bench.sent() == solicits()
    answer = nd_oracle.advertisement(PEER, HOP6, OWN6, 0x60)
    assert bench.hear6(answer) == ["drop"]
    assert bench.step(0.2).moved
    assert bench.routing.told == [("up", LAN, HOP6, PEER)]
    assert bench.released() == ["ip6"] * 3
    (found,) = bench.service.entries()
    assert (found.mac, found.state) == (PEER, State.REACHABLE)
    assert found.address == IPv6Address("2001:db8::ab:cdef")


def test_an_ipv6_neighbor_is_polled_by_unicast_when_it_is_used(bench):
    """RFC 4861 section 7.3.3, whole: and an answer without a MAC confirms too."""
    bench.hold(TO6)
    bench.step()
    bench.sent()
    bench.hear6(nd_oracle.advertisement(PEER, HOP6, OWN6, 0x60))
    bench.step()
    assert bench.released() == ["ip6"]
    bench.step(1)
    bench.step(29)
    assert bench.state(HOP6) is State.STALE
    bench.use(TO6, 3)
    bench.step()
    assert (bench.state(HOP6), bench.sent()) == (State.DELAY, [])
    bench.step(5)
    assert (bench.state(HOP6), bench.sent()) == (State.PROBE, solicits(PEER))
    bare = nd_oracle.packet(HOP6, OWN6, 136, b"\x40\0\0\0" + HOP6.to_bytes(16, "big"))
    assert bench.hear6(bare) == ["drop"]
    bench.step()
    assert bench.state(HOP6) is State.REACHABLE
    up = ("up", LAN, HOP6, PEER)
    assert bench.routing.told == [up, ("stale", LAN, HOP6), up]


def test_who_solicits_us_is_stale_and_who_advertises_unasked_is_nobody(bench):
    assert bench.hear6(nd_oracle.advertisement(PEER, HOP6, nd_oracle.ALL_NODES, 0x20)) == ["drop"]
    bench.step()
    assert bench.service.entries() == []
    assert bench.hear6(nd_oracle.solicitation(PEER, HOP6, OWN6)) == ["reply"]
    bench.step()
    assert bench.state(HOP6) is State.STALE
    assert bench.routing.told == [("up", LAN, HOP6, PEER), ("stale", LAN, HOP6)]


def test_a_sub_interface_asks_with_its_tag(bench):
    bench.hold(TO_TAGGED)
    bench.step()
    header = ethernet.header(ethernet.BROADCAST, MAC, ethernet.ARP, ethernet.tag_of(10))
    assert bench.sent() == [(VLAN, header + oracle.request(MAC, TAGGED_OWN4, TAGGED_HOP4))]


@pytest.mark.parametrize(
    ("to", "ip", "asked", "edge"),
    [(TO4, HOP, asks(), "unreachable4"), (TO6, HOP6, solicits(), "unreachable6")],
)
def test_nobody_answers(bench, to, ip, asked, edge):
    bench.hold(to, 2)
    for _ in range(3):
        bench.step()
        assert bench.sent() == asked
        assert bench.released() == []
        bench.now += 1
    bench.step()
    assert (bench.state(ip), bench.sent()) == (State.FAILED, [])
    assert bench.released() == [edge] * 2
    bench.hold(to)  # soon after: refused without asking again
    bench.step(1)
    assert (bench.sent(), bench.released()) == ([], [edge])
    assert bench.step(5).due is None
    assert bench.state(ip) is None
    bench.hold(to)
    bench.step()
    assert bench.sent() == asked
    # Asked again whether others go without it, before it is forgotten.
    assert bench.routing.told == [("failed", LAN, ip)] * 2 + [("down", LAN, ip)]


def test_an_answer_during_a_retry_and_one_after_failure(bench):
    bench.hold(TO4)
    for after in (0, 1, 1, 1):
        bench.step(after)
    assert bench.state() is State.FAILED
    bench.released()
    bench.sent()
    bench.hear_reply()
    bench.step(0.5)
    assert bench.state() is State.REACHABLE
    assert bench.routing.up == {(LAN, HOP): PEER}


def test_a_neighbor_that_is_not_used_is_forgotten_unasked(bench):
    bench.meet()
    bench.step(1)
    assert bench.step(28.9).due == pytest.approx(bench.now + 0.1)
    assert bench.state() is State.REACHABLE
    bench.step(0.2)
    assert bench.state() is State.STALE
    bench.step(59.5)
    assert bench.state() is State.STALE
    assert bench.routing.up
    bench.step(0.6)
    assert (bench.state(), bench.sent()) == (None, [])
    up, stale, down = ("up", LAN, HOP, PEER), ("stale", LAN, HOP), ("down", LAN, HOP)
    assert bench.routing.told == [up, stale, down]


def test_a_silent_neighbor_that_is_used_is_polled_and_forgotten(bench):
    bench.meet()
    bench.step(31)
    bench.use(TO4, 300)
    bench.step()
    assert bench.state() is State.DELAY
    bench.use(TO4)  # before the worker sees that nobody is to be told
    bench.step(5)
    for _ in range(3):
        assert bench.state() is State.PROBE
        assert bench.sent() == asks(to=PEER)
        bench.step(1)
    assert bench.sent() == []
    assert bench.state() is None
    up, stale, down = ("up", LAN, HOP, PEER), ("stale", LAN, HOP), ("down", LAN, HOP)
    assert bench.routing.told == [up, stale, up, down]


def test_who_is_restored_is_asked_for_by_all_and_its_old_mac_used_until_it_answers(bench):
    """The request says where we are, too: to the port's own MAC and address."""
    new = b"\x02\0\0\0\0\x99"
    assert not bench.woken.is_set()
    assert bench.service.restore(LAN, HOP, PEER)
    assert bench.service.restore(LAN, HOP6, PEER)
    assert not bench.service.restore(LAN, NOWHERE, PEER)
    step = bench.step()
    assert (step.moved, step.due) == (True, bench.now + 1)
    assert bench.woken.is_set()
    assert bench.sent() == asks() + solicits()
    assert bench.routing.up == {(LAN, HOP): PEER, (LAN, HOP6): PEER}
    bench.use(TO4)
    bench.step()
    assert (bench.state(), bench.sent()) == (State.DELAY, [])
    bench.hear_reply(mac=new)
    assert bench.hear6(nd_oracle.advertisement(new, HOP6, OWN6, 0x60)) == ["drop"]
    bench.step()
    assert bench.routing.up == {(LAN, HOP): new, (LAN, HOP6): new}
    assert (bench.state(), bench.state(HOP6)) == (State.REACHABLE, State.REACHABLE)
    bench.step(1)
    assert bench.sent() == []


def test_thousands_who_are_restored_do_not_fill_the_ring(bench):
    n = 200
    for ip in range(HOP, HOP + n):
        assert bench.service.restore(LAN, ip, PEER)
    asked = []
    while len(asked) < n:
        step = bench.step()
        sent = bench.sent()
        assert 0 < len(sent) <= DOUBTED
        asked += sent
        bench.now = step.due
    assert asked == [frame for ip in range(HOP4, HOP4 + n) for frame in asks(target=ip)]


@pytest.mark.parametrize("state", [State.REACHABLE, State.STALE, State.PROBE])
def test_only_an_answer_to_us_confirms(bench, state):
    bench.meet()
    if state is not State.REACHABLE:
        bench.step(31)
    if state is State.PROBE:
        bench.use(TO4)
        bench.step()
        bench.step(5)
    assert bench.state() is state
    bench.sent()
    assert bench.hear(oracle.request(PEER, HOP4, OWN4)) == ["reply"]
    bench.step()
    assert bench.state() is state
    bench.hear_reply()
    bench.step()
    assert bench.state() is State.REACHABLE


def test_a_new_mac_replaces_the_old(bench):
    new, newer = b"\x02\0\0\0\0\x99", b"\x02\0\0\0\0\xaa"
    bench.meet()
    bench.hear_reply(mac=new)
    bench.step()
    assert (bench.routing.up, bench.state()) == ({(LAN, HOP): new}, State.REACHABLE)
    assert bench.hear(oracle.request(newer, HOP4, OWN4 + 1)) == ["drop"]  # it asks for another
    bench.step()
    assert (bench.routing.up, bench.state()) == ({(LAN, HOP): newer}, State.STALE)


def test_who_speaks_to_others_is_not_learned_and_who_asks_us_is(bench):
    assert bench.hear(oracle.request(PEER, HOP4, OWN4 + 1)) == ["drop"]
    bench.step()
    assert bench.service.entries() == []
    assert bench.hear(oracle.request(PEER, HOP4, OWN4)) == ["reply"]
    bench.step()
    assert bench.state() is State.STALE


@pytest.mark.parametrize(("to", "ip", "edge"), [(TO4, HOP, "ip4"), (TO6, HOP6, "ip6")])
def test_static_neighbors_stay(bench, to, ip, edge):
    bench.hold(to)
    bench.step()
    bench.sent()
    bench.service.add_static(LAN, ip, PEER)
    assert bench.released() == [edge]
    bench.hear_reply(mac=b"\x02\0\0\0\0\x99")
    bench.hear6(nd_oracle.advertisement(b"\x02\0\0\0\0\x99", HOP6, OWN6, 0x60))
    bench.step(1000)
    assert bench.state(ip) is State.STATIC
    assert [told for told in bench.routing.told if told[2] == ip] == [("up", LAN, ip, PEER)]
    assert bench.service.delete(LAN, ip)
    assert not bench.service.delete(LAN, ip)
    assert (LAN, ip) not in bench.routing.up


@pytest.mark.parametrize("mac", [bytes(6), b"\xff" * 6, b"\x01\0\0\0\0\1", bytes(5), PEER + b"x"])
def test_a_static_mac_must_be_a_stations(bench, mac):
    with pytest.raises(ValueError, match="no station's MAC"):
        bench.service.add_static(LAN, HOP, mac)


def test_deleting_who_is_waited_for_makes_its_packets_undeliverable(bench):
    bench.hold(TO4)
    bench.hold(TO_TAGGED)
    bench.step()
    bench.sent()
    bench.service.delete_port(LAN)
    assert bench.released() == ["unreachable4"]
    assert [n.port for n in bench.service.entries()] == [VLAN]
    bench.service.delete_address(VLAN, IPv4Interface("10.0.10.1/24"))
    assert bench.released() == ["unreachable4"]
    assert bench.service.entries() == []


def test_what_is_static_is_not_forgotten_with_the_link(bench):
    bench.hold(TO_TAGGED)
    bench.hear(oracle.request(PEER, HOP4, OWN4))
    bench.step()
    bench.service.add_static(LAN, HOP + 1, PEER)
    bench.service.forget_learned(LAN)
    left = {(n.port, n.ip) for n in bench.service.entries()}
    assert left == {(LAN, HOP + 1), (VLAN, TAGGED_HOP)}


def test_deleting_an_address_takes_its_prefixs_neighbors_alone(bench):
    link_local = 0xFE80 << 112 | 0x77
    for ip in (HOP6, link_local):
        bench.hear6(nd_oracle.solicitation(PEER, ip, OWN6))
    bench.hear(oracle.request(PEER, HOP4, OWN4))
    bench.step()
    bench.service.delete_address(LAN, IPv6Interface("2001:db8::1/64"))
    assert {n.ip for n in bench.service.entries()} == {HOP, link_local}
    bench.service.delete_address(LAN, IPv6Interface("fe80::1/64"))
    assert {n.ip for n in bench.service.entries()} == {HOP}


def test_without_an_address_in_its_prefix_nobody_can_be_asked(bench):
    bench.hold(TO_NOWHERE)
    bench.step()
    assert (bench.sent(), bench.released()) == ([], ["unreachable4"])
    assert bench.state(NOWHERE) is State.FAILED


def test_packets_that_came_while_the_answer_did_are_released(bench):
    bench.meet()
    bench.hold(TO4)  # the worker did not see yet that it is known
    bench.step()
    assert bench.released() == ["ip4"]
    assert set(bench.routing.told) == {("up", LAN, HOP, PEER)}


def test_a_scan_of_a_prefix_is_refused_beyond_the_limit():
    bench = Bench(limits=Limits(neighbors=100, incomplete=3))
    bench.adjacencies[TO6]["next_hop"] = 0, 0
    packets = [b"\x60" + bytes(23) + (HOP6 + i).to_bytes(16, "big") for i in range(10)]

    def prepare(record, _):
        record["adjacency"] = TO6

    assert bench.run(nd_resolve.NODE, packets, meta=prepare).edges == ["held"] * 10
    bench.step()
    assert len(bench.sent()) == 3
    assert bench.released() == ["unreachable6"] * 7
    assert bench.service.refused == 7
    bench.hold(TO4)  # limits are of a port: this one too
    bench.hold(TO_TAGGED)
    bench.step()
    assert bench.state() is None
    assert bench.state(TAGGED_HOP) is State.INCOMPLETE
    bench.sent()
    bench.close()


def test_a_full_ring_of_releases_loses_none(bench):
    ring = Ring(bench.tables["releases"])
    ring.push(np.zeros(ring.free_slots(), np.uint64))
    bench.hold(TO4)
    bench.hear_reply()
    step = bench.step()
    assert (step.moved, step.due) == (True, bench.now + RETRY_S)  # a request was sent
    ring.pop(ring.used_slots())
    assert bench.step().moved
    assert bench.released() == ["ip4"]
    bench.sent()


def test_more_events_than_a_step_takes(bench):
    for i in range(EVENTS):
        post(bench, ev.LEARN, ev.ADD | ev.OVERRIDE, LAN, mapped_int(0x0A000100 + i), 2)
    assert bench.step().due == bench.now
    bench.step()
    assert len(bench.service.entries()) == EVENTS


@pytest.mark.parametrize("text", ["10.0.0.1/24", "2001:db8::1/64"])
def test_addresses_come_and_go(bench, text):
    table, interface = bench.tables["addresses"], ip_interface(text)
    own = mapped_int(OWN4) if interface.version == 4 else OWN6
    where = (LAN, *map(np.uint64, halves(own)))
    assert address_table.standing(table, *where) == address_table.OURS
    bench.service.delete_address(LAN, interface)
    assert address_table.standing(table, *where) == address_table.ELSEWHERE


@pytest.mark.parametrize("text", ["10.0.0.7/24", "2001:db8::7/64"])
def test_an_address_is_announced_while_the_service_runs(text):
    bench = Bench()
    assert bench.sent() == []
    bench.service.start()
    bench.woken.clear()
    bench.service.add_address(LAN, ip_interface(text))
    assert bench.woken.is_set()
    bench.service.stop()
    ip = frames.bits_of(ip_interface(text).ip)
    assert bench.sent() == [(LAN, frames.announcement(bench.ports[LAN], ip))]
    bench.close()


def test_the_thread_wakes_by_deadlines_and_by_the_bell():
    bench = Bench()
    moments = iter(range(10**9))
    bench.service._clock = lambda: float(next(moments))  # a second passes at each look
    bench.hold(TO4, 2)
    bench.service.start()
    bench.service.start()
    ring = Ring(bench.tables["releases"])
    while not ring.used_slots():  # three requests, then failure, without a bell
        assert bench.woken.wait(20)
        bench.woken.clear()
    bench.service.stop()
    bench.service.stop()
    assert bench.sent() == asks() * 3
    assert bench.released() == ["unreachable4"] * 2
    bench.service.start()
    bench.woken.clear()
    resolve(bench, VLAN, TAGGED_HOP)
    assert bench.woken.wait(20)
    bench.service.add_static(VLAN, TAGGED_HOP, PEER)
    bench.service.stop()
    assert bench.state(TAGGED_HOP) is State.STATIC
    bench.close()
    bench.service.close()


def post(bench, kind, flags, port, ip, mac):
    hop = map(np.uint64, halves(ip))
    return ev.post(bench.tables["events"], kind, flags, port, *hop, np.uint64(mac))


def resolve(bench, port, ip):
    """What arp-resolve tells, while the thread runs: run_node would miss the buffers it takes."""
    assert post(bench, ev.RESOLVE, 0, port, ip, 0)
    ev.wake(bench.tables["events"])


def test_a_fault_of_the_routings_loses_no_packet(bench, caplog):
    def fault(*_):
        raise KeyError("x")

    bench.routing.neighbor_up = fault
    bench.hold(TO4)
    bench.hear_reply()
    bench.hold(TO_TAGGED)
    bench.step()
    assert "KeyError" in caplog.text
    assert bench.state() is State.FAILED
    assert bench.released() == ["unreachable4"]
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
