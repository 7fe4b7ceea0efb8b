"""Datagrams in pieces through a firewall with masquerade, between hosts of Linux."""

import socket

import pytest

from e2e.lab import ipv6, lab, ping, routed, udp_pair, until
from nodes.ip6.test_reassembly import fragment
from vforward import FirewallSettings, Masquerade, Rule
from vforward.testing import packets as pk

pytestmark = pytest.mark.root

IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
LAN6, WAN6, H1_6, H2_6 = "fd00:1::1", "fd00:2::1", "fd00:1::2", "fd00:2::2"
UDP, FRAGMENT = 17, 44
FAMILIES = {"ip4": (H1, H2, WAN), "ip6": (H1_6, H2_6, H1_6)}
"""Sender, receiver, and whom the receiver sees: IPv6 is not masqueraded."""


@pytest.fixture
def net():
    with lab() as place:
        ports = {"lan": ((f"{LAN}/24", f"{LAN6}/64"), {}), "wan": ((f"{WAN}/24", f"{WAN6}/64"), {})}
        with routed(place, ports) as made:
            place.address(f"{H1}/24", f"{H2}/24")
            place.default_routes(LAN, WAN)
            made.forwarder.set_firewall(FirewallSettings(default="deny"))
            made.forwarder.set_rules(
                [
                    Rule(name="out", action="permit", in_="lan", protocol="udp"),
                    Rule(name="ping", action="permit", protocol="icmp", icmp="echo-request"),
                    Rule(name="ping6", action="permit", protocol="icmp6", icmp="echo-request"),
                ]
            )
            made.forwarder.set_nat([Masquerade(out="wan")])
            made.start()
            ipv6(place.h1, f"{H1_6}/64", via=LAN6)
            ipv6(place.h2, f"{H2_6}/64", via=WAN6)
            for to in (H2, H2_6):  # so many pieces do not wait for an address
                assert "1 received" in ping(place.h1, to, "-c1")
            yield made


def octets(n, size):
    return bytes((n + i * i) % 251 for i in range(size))


@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams_there_and_back(net, family):
    """Linux cuts them at 1500 and puts them together again, both ways."""
    _, there, seen = FAMILIES[family]
    with udp_pair(net.h1, net.h2, there) as (a, b):
        if family == "ip4":
            a.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            b.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        for n, size in enumerate((8000, 1473, 2953, 8000, 30_000, 65_000, 8000)):
            a.send(octets(n, size))
            data, sender = b.recvfrom(1 << 16)
            assert data == octets(n, size)
            assert sender[0] == seen
            b.sendto(octets(n + 1, size), sender)
            assert a.recv(1 << 16) == octets(n + 1, size)
    net.settle()
    assert net.drops() == {}
    assert net.packets(f"{family}-reassembly") >= 2 * 84


@pytest.mark.parametrize("there", [H2, H2_6])
def test_long_pings(net, there):
    assert "3 received" in ping(net.h1, there, "-c3", "-i0.2", "-s8000")
    net.settle()
    assert net.drops() == {}


class Raw:
    """Sends packets as they are, from h1."""

    def __init__(self, net, family):
        self.family, (self.src, self.dst, self.seen) = family, FAMILIES[family]
        kind = socket.AF_INET if family == "ip4" else socket.AF_INET6
        with net.h1.inside():
            self.socket = socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def send(self, ident, offset, more, body):
        if self.family == "ip4":
            packet = pk.ip4(
                self.src, self.dst, UDP, body, ident=ident, frag_off=offset, flags_mf=more
            )
        else:
            packet = pk.ip6(self.src, self.dst, FRAGMENT, fragment(UDP, offset, more, ident, body))
        self.socket.sendto(packet, (self.dst, 0))

    def message(self, data):
        return pk.udp(self.src, self.dst, 7000, 6000, data)


@pytest.fixture(params=FAMILIES)
def raw(request, net):
    made = Raw(net, request.param)
    with made.socket:
        yield made


def test_first_piece_last(net, raw):
    data = octets(1, 5000)
    message = raw.message(data)
    with udp_pair(net.h1, net.h2, raw.dst) as (_, b):
        for at in reversed(range(0, len(message), 1000)):
            raw.send(9, at, at + 1000 < len(message), message[at : at + 1000])
        found, sender = b.recvfrom(1 << 16)
    assert (found, sender[0]) == (data, raw.seen)
    net.settle()
    assert net.drops() == {}


def test_overlapping_pieces_are_refused_and_counted(net, raw):
    """None of the datagram's pieces comes through after that; the next datagram does."""
    node = f"{raw.family}-reassembly"
    message = raw.message(octets(2, 3000))
    with udp_pair(net.h1, net.h2, raw.dst) as (_, b):
        raw.send(10, 1000, True, message[1000:2000])
        raw.send(10, 1496, True, bytes(1000))
        raw.send(10, 0, True, message[:1000])
        raw.send(10, 2000, False, message[2000:])
        until(lambda: net.count(node, "refused") == 3, "pieces are not refused")
        for at in (0, 1000):
            raw.send(11, at, True, message[at : at + 1000])
        raw.send(11, 2000, False, message[2000:])
        assert b.recv(1 << 16) == octets(2, 3000)
    net.settle()
    assert net.drops() == {(node, "overlap"): 1, (node, "refused"): 3}


def test_pieces_without_a_first_one_are_dropped_in_the_end(net, raw):
    pieces = net.forwarder.firewall.pieces[0]
    for n in range(20):
        raw.send(20 + n, 1000, True, bytes(1000))
    node = f"{raw.family}-lookup"
    before = net.packets(node)
    until(lambda: len(pieces.held_rows()) == 20, lambda: f"{pieces.held_rows()} wait")
    table = pieces.ip4 if raw.family == "ip4" else pieces.ip6
    table[0]["started"] = 1
    until(lambda: net.count("reassembly-timer", "expired") == 20, "they wait still")
    net.settle()
    assert net.drops() == {("reassembly-timer", "expired"): 20}
    assert net.packets(node) == before
