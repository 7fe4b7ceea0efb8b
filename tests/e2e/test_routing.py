"""A router between two subnets: what Linux hosts on both sides make of it."""

import errno
import socket
import struct

import pytest

from e2e.lab import lab, ping, routed, transfer, udp_pair
from vforward.testing.namespaces import offloads

pytestmark = pytest.mark.root

LAN, WAN = "10.1.0.1", "10.2.0.1"
H1, H2 = "10.1.0.2", "10.2.0.2"
NO_WHERE = "10.3.0.0/16"
UDP_SEGMENT = 103


@pytest.fixture(scope="module")
def whole():
    with lab() as place, routed(place, {"lan": f"{LAN}/24", "wan": f"{WAN}/24"}) as made:
        place.address(f"{H1}/24", f"{H2}/24")
        place.default_routes(LAN, WAN)
        made.forwarder.add_route(NO_WHERE, kind="blackhole")
        made.start()
        yield made


@pytest.fixture
def net(whole):
    """The router, which after each test has accounted for every packet."""
    whole.clear()
    yield whole
    whole.settle()


def test_ping_both_ways(net):
    # First one alone: on a busy machine more than the 8 packets that may wait for a neighbor would.
    assert "1 received" in ping(net.h1, H2, "-c1")
    assert "20 received" in ping(net.h1, H2, "-c20", "-l20")
    assert "20 received" in ping(net.h2, H1, "-c20", "-l20")
    assert net.drops() == {}


@pytest.mark.parametrize("size", [0, 1, 17, 18, 1471, 1472])
def test_ping_of_any_size_that_fits(net, size):
    assert "3 received" in ping(net.h1, H2, "-c3", "-l3", "-s", str(size))


@pytest.mark.parametrize("size", [1473, 4000, 65507])
def test_ping_in_fragments(net, size):
    assert "3 received" in ping(net.h1, H2, "-c3", "-l3", "-s", str(size))
    assert "3 received" in ping(net.h2, H1, "-c3", "-l3", "-s", str(size))
    assert net.drops() == {}


@pytest.mark.parametrize("own", [LAN, WAN])
def test_ping_of_the_router(net, own):
    for host in (net.h1, net.h2):
        assert "3 received" in ping(host, own, "-c3", "-l3", "-s", "1472")


def test_ping_flood(net):
    assert "2000 received" in ping(net.h1, H2, "-f", "-c2000", "-q")


def test_ping_with_record_route(net):
    """IP options go across; the router does not have to add itself to them."""
    assert "2 received" in ping(net.h1, H2, "-c2", "-l2", "-T", "tsonly")


def test_ttl_runs_out_at_the_router(net):
    said = ping(net.h1, H2, "-c1", "-t1")
    assert f"From {LAN} icmp_seq=1 Time to live exceeded" in said
    assert "1 received" in ping(net.h1, H2, "-c1", "-t2")
    assert net.count("ip4-rewrite", "expired") == 1


def test_traceroute_by_udp(net):
    """TTL 1 ends at the router, 2 at the host's closed port: who says so comes by IP_RECVERR."""
    with net.h1.inside():
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe:
        probe.settimeout(10)
        probe.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
        probe.connect((H2, 33434))
        for ttl, expected, who in ((1, errno.EHOSTUNREACH, LAN), (2, errno.ECONNREFUSED, H2)):
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            probe.send(b"who is there")
            with pytest.raises(OSError) as raised:
                probe.recv(100)
            assert raised.value.errno == expected
            _, aside, _, _ = probe.recvmsg(100, 512, socket.MSG_ERRQUEUE)
            # cmsg IP_RECVERR: struct sock_extended_err, 16 bytes, then the offender's sockaddr_in
            (told,) = [value for _, kind, value in aside if kind == 11]
            assert socket.inet_ntoa(told[20:24]) == who


def test_closed_ports_of_the_router(net):
    with net.h1.inside():
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe:
        probe.settimeout(10)
        probe.connect((LAN, 9))
        probe.send(b"anybody")
        with pytest.raises(ConnectionRefusedError):
            probe.recv(100)


def test_nobody_has_the_address(net):
    said = ping(net.h1, "10.2.0.77", "-c1")
    assert f"From {LAN} icmp_seq=1 Destination Host Unreachable" in said


def test_no_route(net):
    said = ping(net.h1, "192.0.2.1", "-c1")
    assert f"From {LAN} icmp_seq=1 Destination Net Unreachable" in said


def test_a_blackhole_says_nothing_and_is_counted(net):
    assert "0 received" in ping(net.h1, "10.3.0.1", "-c2", "-i0.01", "-W1")
    assert sum(net.drops().values()) == 2


@pytest.mark.parametrize("other", [True, False], ids=["h2-on", "h2-off"])
@pytest.mark.parametrize("one", [True, False], ids=["h1-on", "h1-off"])
def test_tcp_whatever_is_offloaded(net, one, other):
    offloads(net.h1, "eth0", on=one)
    offloads(net.h2, "eth0", on=other)
    try:
        there = transfer(net.h1, net.h2, H2, 20_000_000)
        back = transfer(net.h2, net.h1, H1, 20_000_000)
    finally:
        offloads(net.h1, "eth0", on=True)
        offloads(net.h2, "eth0", on=True)
    print(f"{0.16 / there:.2f} and {0.16 / back:.2f} Gbit/s")


def test_tcp_with_the_routers_offloads_off(net):
    offloads(net.lab.router, "lan", "wan", on=False)
    try:
        transfer(net.h1, net.h2, H2, 20_000_000)
    finally:
        offloads(net.lab.router, "lan", "wan", on=True)
        net.clear(but=["wan: sent = received by the host"])  # the router's kernel cuts the frames


def test_tcp_to_the_router_is_not_answered(net):
    with net.h1.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.connect((LAN, 80))
    assert net.drops()["ip4-local", "no-listener"] >= 1


def test_udp_both_ways(net):
    with udp_pair(net.h1, net.h2, H2) as (a, b):
        for size in (0, 1, 2, 1471, 1472, 1473, 9000, 65507):
            sent = bytes((size + i) % 251 for i in range(size))
            a.send(sent)
            got, sender = b.recvfrom(1 << 16)
            assert (got, sender[0]) == (sent, H1)
            b.sendto(got[::-1], sender)
            assert a.recv(1 << 16) == sent[::-1]


def test_udp_sent_as_one_super_frame(net):
    """UDP_SEGMENT: the kernel leaves a frame of many datagrams to the interface to cut."""
    with udp_pair(net.h1, net.h2, H2) as (a, b):
        a.send(b"hello")  # the neighbors are known then
        assert b.recv(100) == b"hello"
        sent = [bytes([n]) * 1000 for n in range(40)]
        aside = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", 1000))]
        assert a.sendmsg([b"".join(sent)], aside) == 40_000
        assert [b.recv(2000) for _ in sent] == sent


def test_many_small_datagrams(net):
    """Those that do not arrive are in a counter: net.settle says so."""
    with udp_pair(net.h1, net.h2, H2) as (a, b):
        b.settimeout(1)
        for n in range(20_000):
            a.send(n.to_bytes(4, "big"))
        last = -1
        try:
            while last < 19_999:
                n = int.from_bytes(b.recv(100), "big")
                assert n > last, "out of order, or twice"
                last = n
        except TimeoutError:
            pass
        assert last >= 0


def test_broadcasts_are_not_forwarded(net):
    with net.h1.inside():
        caller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for to in ("255.255.255.255", "10.1.0.255", "10.2.0.255"):
            caller.sendto(b"all", (to, 9))
    net.settle()
    assert sum(net.drops().values()) == 3
