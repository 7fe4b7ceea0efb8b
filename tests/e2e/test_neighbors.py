"""The Linux kernel as the neighbor: it judges our ARP and ND, and answers them.

No forwarder: the nodes are called by hand with what a packet socket gives, and with a clock of ours.
"""

import contextlib
import select
import socket
import time
from ipaddress import IPv4Interface, IPv6Interface

import numpy as np
import pytest

from nodes.network import Heap
from vforward.control import neighbor_frames as frames
from vforward.control.neighbor_machine import State
from vforward.control.neighbors import NeighborService
from vforward.nodes.arp import input as arp_input
from vforward.nodes.arp import resolve as arp_resolve
from vforward.nodes.control import inject
from vforward.nodes.nd import input as nd_input
from vforward.nodes.nd import resolve as nd_resolve
from vforward.nodes.neighbor import notify, release
from vforward.tables.addresses import halves
from vforward.tables.adjacency import ADJACENCY
from vforward.tables.ports import PORT
from vforward.testing import run_node
from vforward.testing.namespaces import namespaces, veth
from vforward.testing.run_node import heap_pool

pytestmark = pytest.mark.root

MAC, OTHER = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
OURS = {4: "10.0.0.1", 6: "2001:db8::1"}
HOST = {4: IPv4Interface("10.0.0.2/24"), 6: IPv6Interface("2001:db8::2/64")}
TYPES = {b"\x08\x06": 4, b"\x86\xdd": 6}
IGNORE_OUTGOING = 23
PATIENCE_S = 10


class Routing:
    """Takes what it is told."""

    def neighbor_up(self, port_number, ip, mac):
        """Nothing is routed here."""

    def neighbor_stale(self, port_number, ip):
        """As above."""

    neighbor_failed = neighbor_down = neighbor_stale
    together = contextlib.nullcontext


class Link:
    """Our end of the link: a port, its service, and the nodes."""

    def __init__(self, router):
        with router.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(("lan0", 3))
        self.socket.setsockopt(263, IGNORE_OUTGOING, 1)
        self.pool, self.now = heap_pool(1024), 0.0
        ports = np.zeros(2, PORT)
        ports["mac"] = int.from_bytes(MAC, "big")
        self.adjacencies = np.zeros(3, ADJACENCY)
        self.adjacencies["tx_port"] = 1
        for n, family in enumerate(HOST):
            self.adjacencies[n]["next_hop"] = halves(frames.bits_of(HOST[family].ip))
        self.ports = ports
        self.service = NeighborService(Heap(), self.pool, ports, Routing())
        self.service.add_address(1, IPv4Interface("10.0.0.1/24"))
        self.service.add_address(1, IPv6Interface("2001:db8::1/64"))
        self.tables = {
            "ports": ports,
            "adjacencies": self.adjacencies,
            **self.service.tables,
            **self.service.own[0],
        }
        for node in (arp_input.NODE, nd_input.NODE):  # compiled before the kernel waits for it
            self.pool.put(self.run(node, [bytes(14)], l3=14).rows)

    def run(self, node, given=(), **more):
        return run_node(node, given, pool=self.pool, tables=self.tables, **more)

    def pass_to(self, nodes, family):
        """A packet to the host comes to a node of its family."""

        def prepare(record, _):
            record["adjacency"] = list(HOST).index(family)

        packet = {4: b"\x45", 6: b"\x60"}[family] + bytes(50)
        result = self.run(nodes[family].NODE, [packet], meta=prepare)
        self.pool.put(result.rows[: len(result.edges) - len(result.held)])

    def step(self, after=0.0):
        """Do what is due; send what is to be sent. Returns the edges of released packets."""
        self.now += after
        self.service.step(self.now)
        for node in (inject.NODE, release.NODE):
            result = self.run(node)
            if node is inject.NODE:
                for frame in result.frames:
                    self.socket.send(frame)
            self.pool.put(result.rows)
        return result.edges

    def answer(self):
        """Take a frame from the link, if there comes one, and answer it if it wants that."""
        if not select.select([self.socket], [], [], 0.05)[0]:
            return
        frame = self.socket.recv(1 << 16)
        family = TYPES.get(frame[12:14])
        if family == 6 and not (frame[20] == 58 and frame[54] in (135, 136)):
            return
        if family:

            def prepare(record, _):
                record["l4"] = record["l3"] + 40

            node = {4: arp_input.NODE, 6: nd_input.NODE}[family]
            result = self.run(node, [frame], l3=14, rx_port=1, meta=prepare)
            if result.edges == ["reply"]:
                self.socket.send(result.frames[0])
            self.pool.put(result.rows)

    def until(self, said):
        """Answer until something is so."""
        end = time.monotonic() + PATIENCE_S
        while not said():
            assert time.monotonic() < end, "it did not come to be"
            self.answer()
            self.step()

    def state(self, family):
        ip = frames.bits_of(HOST[family].ip)
        return next((n.state for n in self.service.entries() if n.ip == ip), None)


@pytest.fixture
def link():
    with contextlib.ExitStack() as stack:
        (host,) = stack.enter_context(namespaces("host", ipv6=True))
        (router,) = stack.enter_context(namespaces("router"))
        host.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", check=False)
        veth(host, "eth0", router, "lan0")
        host.run("sysctl", "-qw", "net.ipv4.neigh.eth0.locktime=0")  # each word counts at once
        host.address("eth0", str(HOST[4]))
        host.run("ip", "address", "add", str(HOST[6]), "dev", "eth0", "nodad")
        made = Link(router)
        made.host = host
        yield made
        made.service.close()
        made.socket.close()
        made.pool.check()
        assert made.pool.free == made.pool.size


def known(link, family):
    """What the kernel knows of us: its line of ip neighbor, as words."""
    return link.host.run("ip", f"-{family}", "neighbor", "show", OURS[family]).split()


def speak(link, family):
    """Have the kernel send us something, so that it asks where we are. Returns what it knows."""
    kind = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
    gave_up = contextlib.suppress(OSError)  # the next time it asks anew
    with link.host.inside(), socket.socket(kind, socket.SOCK_DGRAM) as made, gave_up:
        made.sendto(b"x", (OURS[family], 9))
    return known(link, family)


@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_asks_and_believes_the_answer(link, family):
    link.until(lambda: "REACHABLE" in speak(link, family))
    assert MAC.hex(":") in known(link, family)
    assert ("router" in known(link, family)) == (family == 6)
    link.until(lambda: link.state(family) is State.STALE)  # it told us where it is, unasked


@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_answers_requests_and_polls(link, family):
    link.pass_to({4: arp_resolve, 6: nd_resolve}, family)
    link.until(lambda: link.state(family) is State.REACHABLE)
    assert link.step(45) == []
    assert link.state(family) is State.STALE
    link.pass_to({4: notify, 6: notify}, family)
    link.step()
    assert link.state(family) is State.DELAY
    link.step(5)
    assert link.state(family) is State.PROBE
    link.until(lambda: link.state(family) is State.REACHABLE)
    (mac,) = {n.mac for n in link.service.entries()}
    assert mac.hex(":") in link.host.run("ip", "link", "show", "eth0")


@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_believes_an_announcement(link, family):
    link.until(lambda: "REACHABLE" in speak(link, family))
    link.ports["mac"] = int.from_bytes(OTHER, "big")
    ip = frames.bits_of(type(HOST[family])(OURS[family]).ip)
    link.socket.send(frames.announcement(link.ports[1], ip))
    link.until(lambda: OTHER.hex(":") in known(link, family))


def test_the_kernel_finds_that_our_address_is_taken(link):
    link.host.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1")
    link.host.run("ip", "address", "add", OURS[6] + "/64", "dev", "eth0")
    link.until(lambda: "dadfailed" in link.host.run("ip", "-6", "address", "show", "dev", "eth0"))
