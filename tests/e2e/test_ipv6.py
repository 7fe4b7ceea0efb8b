# SPDX-License-Identifier: Apache-2.0
"""A router between two IPv6 subnets: what Linux hosts on both sides make of it."""

import errno
import socket

import pytest

from e2e.lab import ipv6, lab, ping, routed, transfer, udp_pair, until
from vforward.testing.namespaces import offloads

pytestmark = pytest.mark.root

LAN, WAN = "2001:db8:1::1", "2001:db8:2::1"
H1, H2 = "2001:db8:1::2", "2001:db8:2::2"
IPV6_RECVERR = 25


@pytest.fixture(scope="module")
def whole():
    with lab() as place, routed(place, {"lan": f"{LAN}/64", "wan": f"{WAN}/64"}) as made:
        made.start()
        ipv6(place.h1, f"{H1}/64", via=LAN)
        ipv6(place.h2, f"{H2}/64", via=WAN)
        yield made


@pytest.fixture
def net(whole):
    """The router, which after each test has accounted for every packet."""
    whole.clear()
    yield whole
    whole.settle()


def neighbor(host, address):
    """What the kernel knows of a neighbor."""
    return host.run("ip", "-6", "neigh", "show", address, "dev", "eth0")


def mac(net, port):
    """A port's MAC as the kernel writes it."""
    return net.forwarder.interfaces.find(port).port.mac.hex(":")


def test_neighbor_discovery_both_ways(net):
    """Each asks the other: the host for the router's MAC, the router for the host's."""
    assert "1 received" in ping(net.h1, H2, "-c1")
    assert "1 received" in ping(net.h2, H1, "-c1")
    for host, router, port in ((net.h1, LAN, "lan"), (net.h2, WAN, "wan")):
        seen = neighbor(host, router)
        assert f"lladdr {mac(net, port)}" in seen, seen
        assert "REACHABLE" in seen or "DELAY" in seen, seen
    assert "router" in neighbor(net.h1, LAN), "h2 was asked, and so need not ask"
    known = {row["address"]: row["state"] for row in net.forwarder.known_neighbors()}
    assert known[H1] in ("reachable", "stale", "delay", "probe")
    assert known[H2] in ("reachable", "stale", "delay", "probe")


def test_the_kernel_polls_the_router(net):
    """A unicast solicitation, of a neighbor that is to be probed (RFC 4861 section 7.3.3)."""
    state = ("lladdr", mac(net, "lan"), "dev", "eth0", "nud", "probe")
    net.h1.run("ip", "-6", "neigh", "replace", LAN, *state)
    until(lambda: "REACHABLE" in neighbor(net.h1, LAN), lambda: neighbor(net.h1, LAN))


def test_an_address_of_the_router_is_taken(net):
    """Duplicate address detection of a host that would like to have it: RFC 4862 section 5.4."""
    net.h1.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1")
    net.h1.address("eth0", f"{LAN}/128")

    def seen():
        return net.h1.run("ip", "-6", "address", "show", "dev", "eth0", "to", LAN)

    try:
        until(lambda: "dadfailed" in seen(), seen)
    finally:
        net.h1.run("ip", "address", "del", f"{LAN}/128", "dev", "eth0")
        net.h1.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")


def test_ping(net):
    assert "20 received" in ping(net.h1, H2, "-c20", "-l20")
    assert "20 received" in ping(net.h2, H1, "-c20", "-l20")
    assert net.drops() == {}


@pytest.mark.parametrize("size", [0, 1, 1451, 1452, 1453, 4000, 65487])
def test_ping_of_any_size(net, size):
    """The sender cuts what is longer than 1452; the router carries the pieces."""
    assert "3 received" in ping(net.h1, H2, "-c3", "-l3", f"-s{size}")


@pytest.mark.parametrize("own", [LAN, WAN])
def test_ping_of_the_router(net, own):
    for host in (net.h1, net.h2):
        assert "3 received" in ping(host, own, "-c3", "-l3", "-s1452")


def test_ping_of_the_routers_link_local_address(net):
    own = net.forwarder.interfaces.find("lan").addresses
    (local,) = (str(address.ip) for address in own if address.ip.is_link_local)
    assert "3 received" in ping(net.h1, f"{local}%eth0", "-c3", "-l3")


def test_all_nodes_of_the_link_are_asked(net):
    """ff02::1: the router answers by its link-local address."""
    said = ping(net.h1, "ff02::1%eth0", "-c1", "-L")
    assert "1 received" in said
    assert "from fe80::" in said


def test_hop_limit_runs_out_at_the_router(net):
    said = ping(net.h1, H2, "-c1", "-t1")
    assert f"From {LAN} icmp_seq=1 Time exceeded: Hop limit" in said
    assert "1 received" in ping(net.h1, H2, "-c1", "-t2")
    assert net.count("ip6-rewrite", "expired") == 1


def test_traceroute_by_udp(net):
    """Hop limit 1 ends at the router, 2 at the host's closed port."""
    with net.h1.inside():
        probe = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with probe:
        probe.settimeout(10)
        probe.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        probe.connect((H2, 33434))
        for hops, expected, who in ((1, errno.EHOSTUNREACH, LAN), (2, errno.ECONNREFUSED, H2)):
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
            probe.send(b"who is there")
            with pytest.raises(OSError) as raised:
                probe.recv(100)
            assert raised.value.errno == expected
            _, aside, _, _ = probe.recvmsg(100, 512, socket.MSG_ERRQUEUE)
            # struct sock_extended_err, 16 bytes, then the offender's sockaddr_in6
            (told,) = [value for _, kind, value in aside if kind == IPV6_RECVERR]
            assert socket.inet_ntop(socket.AF_INET6, told[24:40]) == who


def test_closed_ports_of_the_router(net):
    with net.h1.inside():
        probe = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with probe:
        probe.settimeout(10)
        probe.connect((LAN, 9))
        probe.send(b"anybody")
        with pytest.raises(ConnectionRefusedError):
            probe.recv(100)


def test_an_unknown_next_header(net):
    """Parameter problem: Linux gives it as EPROTO, and has looked where the pointer points."""
    with net.h1.inside():
        probe = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 200)
    with probe:
        probe.settimeout(10)
        probe.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        probe.connect((LAN, 0))
        probe.send(b"12345678")
        with pytest.raises(OSError) as raised:
            probe.recv(100)
        assert raised.value.errno in (errno.EPROTO, errno.ENOPROTOOPT)


def test_nobody_has_the_address(net):
    said = ping(net.h1, "2001:db8:2::77", "-c1")
    assert f"From {LAN} icmp_seq=1 Destination unreachable: Address unreachable" in said


def test_no_route(net):
    said = ping(net.h1, "2001:db8:ffff::1", "-c1")
    assert f"From {LAN} icmp_seq=1 Destination unreachable: No route" in said


@pytest.mark.parametrize("other", [True, False], ids=["h2-on", "h2-off"])
@pytest.mark.parametrize("one", [True, False], ids=["h1-on", "h1-off"])
def test_tcp_whatever_is_offloaded(net, one, other):
    offloads(net.h1, "eth0", on=one)
    offloads(net.h2, "eth0", on=other)
    try:
        transfer(net.h1, net.h2, H2, 10_000_000)
        transfer(net.h2, net.h1, H1, 10_000_000)
    finally:
        offloads(net.h1, "eth0", on=True)
        offloads(net.h2, "eth0", on=True)


def test_udp_both_ways(net):
    with udp_pair(net.h1, net.h2, H2) as (a, b):
        for size in (0, 1, 2, 1451, 1452, 1453, 9000, 65487):
            sent = bytes((size + i) % 251 for i in range(size))
            a.send(sent)
            got, sender = b.recvfrom(1 << 16)
            assert (got, sender[0]) == (sent, H1)
            b.sendto(got[::-1], sender)
            assert a.recv(1 << 16) == sent[::-1]


@pytest.fixture
def narrow(place):
    """A way out that takes no more than 1300 bytes."""
    ports = {"lan": f"{LAN}/64", "wan": (f"{WAN}/64", {"mtu": 1300})}
    with routed(place, ports) as made:
        made.start()
        ipv6(place.h1, f"{H1}/64", via=LAN)
        ipv6(place.h2, f"{H2}/64", via=WAN)
        yield made


def test_packet_too_big_is_in_the_senders_route_cache(narrow):
    assert "1 received" in ping(narrow.h1, H2, "-c1", "-Mdo", "-s1252")
    said = ping(narrow.h1, H2, "-c1", "-Mdo", "-s1253")
    assert f"From {LAN} icmp_seq=1 Packet too big: mtu=1300" in said
    assert "mtu 1300" in narrow.h1.run("ip", "-6", "route", "get", H2)
    assert "2 received" in ping(narrow.h1, H2, "-c2", "-l2", "-s4000"), "it cuts accordingly"
    assert narrow.count("ip6-rewrite", "too-big") == 1


def test_tcp_finds_the_mtu(narrow):
    """Its first segments are too long, as super-frames too."""
    transfer(narrow.h1, narrow.h2, H2, 5_000_000)
    transfer(narrow.h2, narrow.h1, H1, 5_000_000)
    assert narrow.count("ip6-rewrite", "too-big") > 0
