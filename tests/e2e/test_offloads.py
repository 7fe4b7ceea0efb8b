# SPDX-License-Identifier: Apache-2.0
"""Linux at both ends with every combination of offloads and MTUs: what is sent arrives unchanged."""

import itertools
import socket

import numpy as np
import pytest

from e2e.lab import ipv6, lab, ping, routed, transfer, udp_pair
from e2e.sctp import LONGEST4, sctp

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
LAN6, WAN6, H1_6, H2_6 = "2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::2", "2001:db8:2::2"
OFFLOADS = ("tx", "tso", "gro", "gso")
COMBINATIONS = [
    "".join("-+"[on] for on in combination)
    for combination in itertools.product((False, True), repeat=len(OFFLOADS))
]
UDP_SEGMENT = 103
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
REGROUPED = [
    f"{port}: {law}"
    for port in ("lan", "wan")
    for law in ("sent = received by the host", "sent by the host = received")
]
"""Laws that do not hold: without TSO an interface sends more frames than it is given, with GRO less
come out of it.
"""
DATAGRAM = 1400


def net_of(mtu=1500, *, cut=False, mode="auto", **ports):
    """A router between two hosts, all with the MTU. cut: its ports send no super-frames."""
    return _Net(mtu, ports, cut, mode)


class _Net:
    def __init__(self, mtu, ports, cut, mode):
        self.mtu, self.ports, self.cut, self.mode = mtu, ports, cut, mode

    def __enter__(self):
        self._lab = lab()
        self.place = place = self._lab.__enter__()
        for host, port in ((place.h1, "lan"), (place.h2, "wan")):
            host.run("ip", "link", "set", "dev", "eth0", "mtu", str(self.mtu))
            place.router.run("ip", "link", "set", "dev", port, "mtu", str(self.mtu))
        addresses = {"lan": (f"{LAN}/24", f"{LAN6}/64"), "wan": (f"{WAN}/24", f"{WAN6}/64")}
        given = {
            name: (own, {"mtu": self.mtu, "mode": self.mode} | self.ports.get(name, {}))
            for name, own in addresses.items()
        }
        self._routed = routed(place, given)
        self.router = self._routed.__enter__()
        place.address(f"{H1}/24", f"{H2}/24")
        place.default_routes(LAN, WAN)
        if self.cut:
            for _, port in self.router.forwarder.interfaces.real():
                port.whole = np.zeros(1, np.uint64)
        self.router.start()
        self.router.but = REGROUPED
        ipv6(place.h1, f"{H1_6}/64", via=LAN6)
        ipv6(place.h2, f"{H2_6}/64", via=WAN6)
        return self

    def __exit__(self, *error):
        try:
            self._routed.__exit__(*error)
        finally:
            self._lab.__exit__(*error)

    def offloads(self, one, other):
        """Switch those of h1's and lan, and of h2's and wan."""
        switch_offloads(self.place, one, other, tso=self.mode != "xdp")


def switch_offloads(place, one, other, *, tso=True):
    """Switch those of h1's and lan, and of h2's and wan; a + or - for each of OFFLOADS.

    tso: it may be switched; not where ports receive by AF_XDP: at the hosts veth has switched it off.
    """
    for host, port, wanted in ((place.h1, "lan", one), (place.h2, "wan", other)):
        states = {
            name: "on" if on == "+" else "off" for name, on in zip(OFFLOADS, wanted, strict=True)
        }
        if not tso:
            del states["tso"]
        for where, interface in ((host, "eth0"), (place.router, port)):
            where.run("ethtool", "-K", interface, "tx", "on")  # tso depends on it
            options = [word for pair in states.items() for word in pair]
            where.run("ethtool", "-K", interface, *options)


def exchange(net, octets=300_000):
    """TCP and UDP of both families, both ways, and SCTP."""
    h1, h2 = net.place.h1, net.place.h2
    transfer(h1, h2, H2, octets)
    transfer(h2, h1, H1, octets)
    transfer(h1, h2, H2_6, octets)
    for sender, receiver, to in ((h1, h2, H2), (h2, h1, H1_6)):
        with udp_pair(sender, receiver, to) as (a, b):
            for size in (1, DATAGRAM, 3 * DATAGRAM if to == H2 else DATAGRAM):
                sent = bytes((n * 7 + size) & 255 for n in range(size))
                a.send(sent)
                assert b.recv(1 << 16) == sent
    sizes = (net.mtu // 2, net.mtu + 1, 3 * net.mtu, 60_000)
    sctp(h1, h2, H2, [min(size, LONGEST4) for size in sizes])
    sctp(h2, h1, H1, (60_000,))
    sctp(h1, h2, H2_6, (net.mtu // 2, 60_000))


def udp_super_frames(net, sender, receiver, to):
    """Super-frames of UDP: many datagrams of one send."""
    with udp_pair(sender, receiver, to) as (a, b):
        a.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, min(DATAGRAM, net.mtu - 100))
        size = min(DATAGRAM, net.mtu - 100)
        whole = bytes(n * 11 & 255 for n in range(10 * size + 17))
        a.send(whole)
        for k in range(11):
            assert b.recv(1 << 16) == whole[k * size : (k + 1) * size]


@pytest.fixture(scope="module")
def net():
    with net_of() as made:
        ping(made.place.h1, H2, "-c1")
        yield made


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_every_combination(net, combination):
    """At one end each combination, at the other the opposite one; and the same at both."""
    opposite = combination.translate(str.maketrans("+-", "-+"))
    for other in (opposite, combination):
        net.offloads(combination, other)
        exchange(net)
        if combination[0] == "+":
            udp_super_frames(net, net.place.h1, net.place.h2, H2)
            udp_super_frames(net, net.place.h1, net.place.h2, H2_6)
    net.router.settle(REGROUPED)
    assert net.router.drops() == {}


@pytest.fixture(scope="module")
def xdp_net():
    with net_of(mode="xdp") as made:
        ping(made.place.h1, H2, "-c1")
        yield made


@pytest.mark.parametrize("combination", sorted({each[0] + "+" + each[2:] for each in COMBINATIONS}))
def test_every_combination_by_af_xdp(xdp_net, combination):
    """Which is not told of checksums that are left, and is given no super-frames: veth cuts them before."""
    test_every_combination(xdp_net, combination)
    counted = [xdp_net.router.count(f"{port}-rx", "partial") for port in ("lan", "wan")]
    assert all(counted)


@pytest.mark.parametrize("mtu", [1280, 3818])
def test_every_mtu_by_af_xdp(mtu):
    with net_of(mtu, mode="xdp") as made:
        ping(made.place.h1, H2, "-c1")
        for ends in (("++++", "++++"), ("----", "----"), ("++++", "----")):
            made.offloads(*ends)
            exchange(made)
        made.router.settle(REGROUPED)
        assert made.router.drops() == {}


@pytest.mark.parametrize("mtu", [1280, 1492, 4000, 9000, 65535])
def test_every_mtu(mtu):
    with net_of(mtu) as made:
        ping(made.place.h1, H2, "-c1")
        for ends in (("++++", "++++"), ("----", "----"), ("++++", "----")):
            made.offloads(*ends)
            exchange(made)
        made.router.settle(REGROUPED)
        assert made.router.drops() == {}


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
def test_super_frames_are_cut_up_for_ports_that_cannot_send_them(mtu):
    """The stacks at both ends send 64 KB at once and find nothing wrong with what comes."""
    with net_of(mtu, cut=True) as made:
        ping(made.place.h1, H2, "-c1")
        exchange(made, 3_000_000)
        udp_super_frames(made, made.place.h1, made.place.h2, H2)
        udp_super_frames(made, made.place.h1, made.place.h2, H2_6)
        made.router.settle(REGROUPED)
        assert made.router.drops() == {}
        assert (
            made.router.count("wan-segment", "segments") > 2 * 3_000_000 // mtu // 2
        )  # what the host sends small is not counted


def test_sctp_that_is_fragmented_here_and_what_came_in_pieces_again():
    """The way out is narrower: pieces of the sender's are cut into pieces."""
    with net_of(1500, wan={"mtu": 1280}) as made:
        ping(made.place.h1, H2, "-c1")
        sctp(made.place.h1, made.place.h2, H2, (1480, 3000, 60_000, LONGEST4))
        made.router.settle(REGROUPED)
        assert made.router.drops() == {}
        # Of 1500 bytes each but for the last of each packet, which fits.
        assert made.router.count("ip4-fragment", "fragments") == 2 * (1 + 2 + 40 + 44)


def test_super_frames_that_may_be_fragmented_are_cut_and_fragmented():
    """Of UDP datagrams without DF, too long for the way out: the other host puts them together."""
    with net_of(1500, wan={"mtu": 1280}) as made:
        ping(made.place.h1, H2, "-c1")
        with udp_pair(made.place.h1, made.place.h2, H2) as (a, b):
            a.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            a.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, DATAGRAM)
            whole = bytes(n * 11 & 255 for n in range(10 * DATAGRAM + 17))
            a.send(whole)
            for at in range(0, len(whole), DATAGRAM):
                assert b.recv(1 << 16) == whole[at : at + DATAGRAM]
        made.router.settle(REGROUPED)
        assert made.router.drops() == {}
        assert made.router.count("ip4-cut", "segments") == 11
        assert made.router.count("ip4-fragment", "fragments") == 20
