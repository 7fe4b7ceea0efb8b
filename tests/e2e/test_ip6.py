"""An IPv6 router between two subnets: what Linux hosts on both sides make of it."""

import contextlib
import errno
import socket

import pytest

from e2e.lab import LONG, Lab, ping, routed, until
from vforward.testing.namespaces import namespaces, veth

pytestmark = pytest.mark.root

LAN, WAN = "2001:db8:1::1", "2001:db8:2::1"
H1, H2 = "2001:db8:1::2", "2001:db8:2::2"
NO_WHERE, FORBIDDEN = "2001:db8:3::/48", "2001:db8:4::/48"
WAN_MTU = 1400
BEFORE = ("lan: sent by the host = received", "wan: sent by the host = received")
"""What does not hold at the start: hosts with IPv6 speak before anybody listens."""


@contextlib.contextmanager
def lab6():
    """As e2e.lab, with hosts that speak IPv6; the router's kernel does not."""
    with namespaces("router") as (router,), namespaces("h1", "h2", ipv6=True) as (h1, h2):
        for host, port in ((h1, "lan"), (h2, "wan")):
            veth(host, "eth0", router, port)
        for end, interface in ((router, "wan"), (h2, "eth0")):
            end.run("ip", "link", "set", "dev", interface, "mtu", str(WAN_MTU))
        for host, address, via in ((h1, H1, LAN), (h2, H2, WAN)):
            host.run("ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
            host.run("ip", "route", "add", "default", "via", via)
        yield Lab(h1, h2, router)


@pytest.fixture(scope="module")
def net():
    with lab6() as place, routed(place, {"lan": f"{LAN}/64", "wan": f"{WAN}/64"}) as made:
        made.forwarder.add_route(NO_WHERE, kind="unreachable")
        made.forwarder.add_route(FORBIDDEN, kind="prohibit")
        made.start()
        made.clear(but=BEFORE)
        yield made


def router_link_local(host):
    """The router's link-local address, from the neighbors that the host knows."""
    assert "1 received" in ping(host, LAN, "-c1")
    said = ping(host, "ff02::1%eth0", "-c2", "-i0.2")
    other = [
        line.split("from ")[1].split("%")[0] for line in said.splitlines() if "from fe80" in line
    ]
    own = host.run("ip", "-6", "address", "show", "dev", "eth0", "scope", "link")
    return next(address for address in other if address not in own)


def test_ping_both_ways(net):
    assert "1 received" in ping(net.h1, H2, "-c1")
    assert "20 received" in ping(net.h1, H2, "-c20", "-i0.01")
    assert "20 received" in ping(net.h2, H1, "-c20", "-i0.01")


@pytest.mark.parametrize("own", [LAN, WAN])
def test_ping_of_the_router(net, own):
    for host in (net.h1, net.h2):
        assert "3 received" in ping(host, own, "-c3", "-i0.01", "-s", "1352")


def test_ping_of_all_nodes_and_of_the_routers_link_local_address(net):
    own = router_link_local(net.h1)
    assert "3 received" in ping(net.h1, f"{own}%eth0", "-c3", "-i0.01")


def test_the_hop_limit_runs_out_at_the_router(net):
    said = ping(net.h1, H2, "-c1", "-t1")
    assert f"From {LAN} icmp_seq=1 Time exceeded: Hop limit" in said
    assert "1 received" in ping(net.h1, H2, "-c1", "-t2")


def test_a_packet_too_big_is_sent_in_fragments_from_then_on(net):
    """The router says how long it may be; the sender believes it, and fragments."""
    said = ping(net.h1, H2, "-c1", "-s", "1400")
    assert f"From {LAN} icmp_seq=1 Packet too big: mtu={WAN_MTU}" in said
    assert "3 received" in ping(net.h1, H2, "-c3", "-i0.01", "-s", "1400")


def test_routes_that_refuse(net):
    said = ping(net.h1, "2001:db8:3::1", "-c1")
    assert f"From {LAN} icmp_seq=1 Destination unreachable" in said
    said = ping(net.h1, "2001:db8:4::1", "-c1")
    assert f"From {LAN} icmp_seq=1 Destination unreachable: Administratively prohibited" in said


def test_a_closed_port(net):
    """Linux gives the router's port unreachable to the socket as ECONNREFUSED."""
    with net.h1.inside():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with sender:
        sender.settimeout(LONG)
        sender.connect((LAN, 9))
        sender.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sender.recv(100)


def test_an_unknown_next_header(net):
    """Parameter problem, code 1: Linux gives it as EPROTO, and has looked where the pointer points."""
    with net.h1.inside():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 200)
    with sender:
        sender.settimeout(LONG)
        sender.setsockopt(socket.IPPROTO_IPV6, 25, 1)  # IPV6_RECVERR
        sender.connect((LAN, 0))
        sender.send(b"12345678")
        with pytest.raises(OSError, match="rotocol") as caught:
            until(lambda: sender.recv(100), "an error", LONG)
        assert caught.value.errno in (errno.EPROTO, errno.ENOPROTOOPT)
