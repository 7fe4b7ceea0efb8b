"""A way out that takes no more than 1280 bytes, between hosts that send 1500."""

import socket

import pytest

from e2e.lab import lab, ping, routed, transfer, udp_pair

pytestmark = pytest.mark.root

IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"


@pytest.fixture
def net():
    with lab() as place:
        ports = {"lan": f"{LAN}/24", "wan": (f"{WAN}/24", {"mtu": 1280})}
        with routed(place, ports) as made:
            place.address(f"{H1}/24", f"{H2}/24")
            place.default_routes(LAN, WAN)
            made.start()
            yield made


def test_a_sender_that_forbids_fragments_is_told(net):
    assert "1 received" in ping(net.h1, H2, "-c1", "-Mdo", "-s1252")
    said = ping(net.h1, H2, "-c1", "-Mdo", "-s1253")
    assert f"From {LAN} icmp_seq=1 Frag needed and DF set (mtu = 1280)" in said
    assert "mtu 1280" in net.h1.run("ip", "route", "get", H2)


@pytest.mark.parametrize("size", [1253, 1472, 2506, 8000, 65507])
def test_what_may_be_fragmented_is(net, size):
    """The host puts together what the router has cut, fragments of fragments too, and answers."""
    assert "1 received" in ping(net.h1, H2, "-c1")  # so many fragments do not wait for an address
    assert "2 received" in ping(net.h1, H2, "-c2", "-l2", "-Mdont", f"-s{size}")
    net.settle()
    assert net.drops() == {}
    assert net.count("ip4-fragment", "fragments") >= 4


@pytest.mark.parametrize("size", [1253, 8000, 30_000, 60_000, 65_507])
def test_datagrams_arrive_whole(net, size):
    """The host cuts at 1500, the router each piece again; the kernel at the other end joins them."""
    with udp_pair(net.h1, net.h2, H2) as (a, b):
        a.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        a.send(b"hello")  # so many fragments do not wait for an address
        assert b.recv(100) == b"hello"
        for n in range(3):
            sent = bytes((n + i) % 251 for i in range(size))
            a.send(sent)
            assert b.recv(1 << 16) == sent
    net.settle()
    assert net.drops() == {}
    assert net.count("ip4-fragment", "fragments") >= 3 * (size // 1280)


def test_options_of_fragments(net):
    """Linux takes a fragment with a bad header for none, and record route is in the first alone."""
    said = ping(net.h1, H2, "-c1", "-R", "-Mdont", "-s1400")
    assert "1 received" in said
    assert net.count("ip4-fragment", "fragments") == 2


def test_tcp_finds_the_mtu(net):
    """Its first segments are too long, as super-frames too; what it hears of that makes it send less."""
    transfer(net.h1, net.h2, H2, 5_000_000)
    transfer(net.h2, net.h1, H1, 5_000_000)
    assert net.count("ip4-rewrite", "too-big") > 0
