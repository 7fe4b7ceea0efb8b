"""Hosts, each in a namespace, and a forwarder between them; the Linux kernel is the judge.

h1 eth0 ---- lan [ forwarder ] wan ---- eth0 h2
                       dmz ---- eth0 h3          where three are asked for
"""

import contextlib
import hashlib
import json
import socket
import threading
import time
from dataclasses import dataclass

import numpy as np

from vforward.control import observe
from vforward.control.forwarder import Forwarder
from vforward.io.af_packet import AfPacketPort
from vforward.memory.arena import Arena
from vforward.testing.namespaces import Namespace, namespaces, veth

LONG = 60  # seconds: of what ends at once, unless something is wrong
SOON = 15
BLOCK = 1 << 18


def until(condition, what, timeout=LONG):
    """Wait until condition() is true; returns that. what: for the message, a text or callable."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.005)
    return found


PORTS = ("lan", "wan", "dmz", "ext")
"""The router's interfaces, in the order of the hosts."""

DONE_WITH = {("arp-input", "reply"), ("nd-input", "advertisement"), ("ip6-local", "icmp-ignored")}
"""Counted as drops, but all is well: answers that end here, and Linux's MLD reports."""

ENDED_INSIDE = (
    ("arp-resolve", "queue-full"),
    ("nd-resolve", "queue-full"),
    ("ip4-reassembly", "no-room"),
    ("ip6-reassembly", "no-room"),
)
"""Dropped packets that do not get to the node drop: they made place for others, or there was none."""


@dataclass
class Lab:
    """The namespaces; interfaces lan and wan (and dmz, ext) are the router's."""

    router: Namespace
    hosts: list[Namespace]

    @property
    def h1(self) -> Namespace:
        """The host at lan."""
        return self.hosts[0]

    @property
    def h2(self) -> Namespace:
        """The host at wan."""
        return self.hosts[1]

    @property
    def h3(self) -> Namespace:
        """The host at dmz."""
        return self.hosts[2]

    def address(self, *addresses: str) -> None:
        """Give the hosts addresses."""
        for host, address in zip(self.hosts, addresses, strict=True):
            host.address("eth0", address)

    def default_routes(self, *ways: str) -> None:
        """Point the hosts to the router."""
        for host, via in zip(self.hosts, ways, strict=True):
            host.run("ip", "route", "add", "default", "via", via)


@contextlib.contextmanager
def lab(hosts=2):
    """Hosts and router, joined, their interfaces up and without addresses."""
    labels = [f"h{n + 1}" for n in range(hosts)]
    with namespaces("router", *labels) as (router, *made):
        for host, port in zip(made, PORTS, strict=False):
            veth(host, "eth0", router, port)
        yield Lab(router, made)


class Routed:
    """A lab whose forwarder runs in this process, in a thread.

    settle() asserts that every packet's end is known. Leaving asserts that every buffer is free.
    """

    def __init__(self, lab: Lab, **options) -> None:
        self.lab, self.h1, self.h2 = lab, lab.h1, lab.h2
        self.forwarder = Forwarder(**options)
        self.before = self._moved()
        self.but = ()
        """Laws that do not hold here."""

    @property
    def h3(self):
        """The third host."""
        return self.lab.h3

    def port(self, name, address=(), *, vrf="default", urpf="", **options):
        """Add a port on the interface of that name."""
        with self.lab.router.inside():
            port = AfPacketPort(name, **options)
            self.forwarder.add_port(name, port, address, vrf=vrf, urpf=urpf)

    def start(self):
        """Build, start, and look into it."""
        self.forwarder.build()
        self.forwarder.start()
        self.view = observe.attach(self.forwarder.name)
        until(lambda: self.view.runtime().state == "running", "the worker does not start", 300)

    def clear(self, but=()):
        """Count from zero, when every packet's end is known. but: laws that do not hold."""

        def cleared():
            before = self._moved()
            self.settle(but)
            names = [f"{name}-cleared" for name in observe.COUNTED]
            counted = {name: self.view.arena.open(name).copy() for name in names}
            self.view.clear()
            now = self._moved()
            if now == before:
                self.before = now
                return True
            with Arena.attach(self.forwarder.name) as arena:  # a host sent something meanwhile
                for name, content in counted.items():
                    arena.open(name, writable=True)[:] = content
            return False

        until(cleared, "the hosts are never quiet")

    def _moved(self):
        return [moved(host) for host in self.lab.hosts]

    def close(self):
        """Take it down."""
        try:
            if self.forwarder.workers is not None:
                self.settle(self.but)
                self.forwarder.stop()
                self.forwarder.neighbors.close()
                self.forwarder.pool.check()
                self.view.close()
        finally:
            self.forwarder.close()

    def drops(self):
        """Dropped packets by (node, reason), but for those that are DONE_WITH."""
        rows = [(row.node, row.reason, row.count) for row in self.view.errors() if row.drop]
        return {(a, b): n for a, b, n in rows if (a, b) not in DONE_WITH}

    def packets(self, node):
        """How many packets a node was given."""
        return next(row.packets for row in self.view.graph() if row.name == node)

    def count(self, node, label):
        """A node's counter."""
        rows = self.view.errors()
        return sum(row.count for row in rows if (row.node, row.reason) == (node, label))

    def settle(self, but=()):
        """Wait for packets in = out + dropped by reason, and for what the hosts sent to be in."""

        def wrong():
            return {law: n for law, n in self.missing().items() if law not in but}

        until(lambda: not wrong(), lambda: f"not accounted for: {wrong()}", SOON)

    def missing(self):
        """What does not add up, by law."""
        rows = {row.name: row for row in self.view.graph()}
        errors = self.view.errors()
        queues = {port["name"]: port["rx"] for port in self.view.about["ports"]}
        nodes = [row for row in errors if row.drop and row.node in rows]
        made_place = sum(self.count(*counter) for counter in ENDED_INSIDE)
        came = sum(row.packets for row in rows.values() if row.kind == "input")
        made = sum(row.made for row in rows.values())
        ended = sum(row.ended for row in rows.values())
        held = rows["arp-resolve"].ended + rows["nd-resolve"].ended - made_place
        laws = {
            "all inputs + all made = all ends": came + made - ended,
            "drops = reasons": rows["drop"].packets - sum(r.count for r in nodes) + made_place,
            "held = released": held - rows["neighbor-release"].packets,
        }
        for row in rows.values():
            taken = sum(edge.packets for edge in row.edges) + row.ended
            laws[f"{row.name}: in + made = out"] = row.packets + row.made - taken
        for host, port, before in zip(self.lab.hosts, PORTS, self.before, strict=False):
            if f"{port}-rx" not in rows:
                continue
            lost = sum(r.count for r in errors if r.node == port)
            sent, received = (now - then for now, then in zip(moved(host), before, strict=True))
            came = sum(rows[name].packets for name in queues[port])
            laws[f"{port}: sent by the host = received"] = sent - lost - came
            laws[f"{port}: sent = received by the host"] = rows[f"{port}-tx"].ended - received
        return {law: n for law, n in laws.items() if n}


def mac_of(host):
    """The MAC of a host's eth0."""
    return _link(host)["address"]


def moved(host):
    """Frames that a host's eth0 has sent and received."""
    link = _link(host)
    return link["stats64"]["tx"]["packets"], link["stats64"]["rx"]["packets"]


def _link(host):
    (link,) = json.loads(host.run("ip", "-j", "-s", "link", "show", "dev", "eth0"))
    return link


@contextlib.contextmanager
def routed(lab, ports, **options):
    """A forwarder between the hosts: ports is name -> address, or -> (address, options), or -> ()."""
    made = Routed(lab, **options)
    try:
        for name, given in ports.items():
            address, more = given if len(given) == 2 else (given, {})
            made.port(name, address, **more)
        yield made
        made.close()
    except BaseException:
        made.forwarder.close()
        raise


def ipv6(host, *addresses, via="", device="eth0"):
    """Switch IPv6 on, when the router counts already what the host then sends of itself."""
    quiet = ("accept_dad=0", "router_solicitations=0", "accept_ra=0", "disable_ipv6=0")
    settings = [f"net.ipv6.conf.{device}.{setting}" for setting in quiet]
    host.run("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0", *settings)
    for address in addresses:
        host.run("ip", "address", "add", address, "dev", device, "nodad")
    if via:
        host.run("ip", "-6", "route", "add", "default", "via", via, "dev", device)


def ping(host, to, *options):
    """What ping writes; it may fail.

    -cN -lN sends N at once. It then waits a second for those that are missing; with -i, only as long
    as that, which on a busy machine is too short.
    """
    return host.run("ping", "-W", "10", *options, to, check=False, timeout=LONG)


def family_of(address):
    """Of the sockets that use an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def transfer(sender, receiver, address, octets, port=5000):
    """Move octets by TCP; asserts that they arrive unchanged. Returns seconds."""
    data = np.random.default_rng(octets).bytes(octets)
    arrived = hashlib.sha256()
    with receiver.inside():
        server = socket.create_server((address, port), family=family_of(address))
    with sender.inside():
        client = socket.socket(family_of(address), socket.SOCK_STREAM)

    def serve():
        server.settimeout(LONG)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(LONG)
            while block := connection.recv(BLOCK):
                arrived.update(block)

    thread = threading.Thread(target=serve)
    thread.start()
    start = time.monotonic()
    with server:
        try:
            with client:
                client.settimeout(LONG)
                client.connect((address, port))
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                thread.join()
        finally:
            thread.join()
    assert arrived.digest() == hashlib.sha256(data).digest()
    return time.monotonic() - start


@contextlib.contextmanager
def udp_pair(one, other, address, port=6000):
    """Two UDP sockets: one is connected to the other, which is bound to address."""
    with one.inside():
        a = socket.socket(family_of(address), socket.SOCK_DGRAM)
    with other.inside():
        b = socket.socket(family_of(address), socket.SOCK_DGRAM)
    with a, b:
        for s in (a, b):
            s.settimeout(LONG)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        b.bind((address, port))
        a.connect((address, port))
        yield a, b
