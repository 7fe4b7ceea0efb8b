# SPDX-License-Identifier: Apache-2.0
"""The router's own host: programs in its namespace, on its addresses, by TAPs at both ports."""

import json
import socket
import threading

import pytest

from e2e.lab import LONG, ipv6, lab, ping, routed, transfer, until

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
LAN6, WAN6 = "2001:db8:1::1", "2001:db8:2::1"
NEAR6, FAR6 = "2001:db8:1::2", "2001:db8:2::2"
OSPF, ALL_SPF_ROUTERS = 89, "224.0.0.5"


@pytest.fixture(scope="module")
def whole():
    ports = {"lan": ((f"{LAN}/24", f"{LAN6}/64"), {}), "wan": ((f"{WAN}/24", f"{WAN6}/64"), {})}
    with lab() as place, routed(place, ports) as made:
        place.address(f"{H1}/24", f"{H2}/24")
        place.default_routes(LAN, WAN)
        with place.router.inside():
            made.forwarder.add_host("lan-host", "host0", "lan")
            made.forwarder.add_host("wan-host", "host1", "wan")
        made.start()
        ipv6(place.h1, f"{NEAR6}/64", via=LAN6)
        ipv6(place.h2, f"{FAR6}/64", via=WAN6)
        yield made


@pytest.fixture
def net(whole):
    """The router, which after each test has accounted for every packet."""
    whole.clear()
    yield whole
    whole.settle()


@pytest.mark.parametrize("address", [LAN, WAN, LAN6, WAN6])
def test_a_server_of_the_router_from_both_sides(net, address):
    """From its own link, and from the other: by one TAP, and back by the other."""
    for port, client in ((5001, net.h1), (5002, net.h2)):
        before = net.packets("host-punt")
        transfer(client, net.lab.router, address, 3_000_000, port)
        assert net.packets("host-punt") > before + 10, "nothing came to Linux but by the TAP"


@pytest.mark.parametrize("address", [H1, H2, NEAR6, FAR6])
def test_a_client_of_the_router(net, address):
    """Whom it calls answers to the TAP's address, which Linux chooses."""
    there = net.h1 if address in (H1, NEAR6) else net.h2
    own = {H1: LAN, H2: WAN, NEAR6: LAN6, FAR6: WAN6}[address]
    assert "2 received" in ping(net.lab.router, address, "-c2", "-l2", "-s1400")
    assert "2 received" in ping(net.lab.router, address, "-c2", "-l2", "-s4000", "-I", own)
    transfer(net.lab.router, there, address, 3_000_000)


@pytest.mark.parametrize("own", [LAN, WAN])
def test_the_first_hop_of_a_traceroute_is_the_host(net, own):
    """The router's own packets take no hop of it: TTL 1 is enough for a neighbor."""
    with net.lab.router.inside():
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe:
        probe.settimeout(10)
        probe.bind((own, 0))
        probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        probe.connect((H2, 33434))
        probe.send(b"who is there")
        with pytest.raises(ConnectionRefusedError):
            probe.recv(100)


def test_a_routing_protocol_both_ways(net):
    """Hellos of OSPF's kind: protocol 89 to 224.0.0.5, by raw sockets, with a TTL of 1."""
    group = socket.inet_aton(ALL_SPF_ROUTERS)
    ends = []
    for where, own in ((net.h1, H1), (net.lab.router, LAN)):
        with where.inside():
            end = socket.socket(socket.AF_INET, socket.SOCK_RAW, OSPF)
        interface = socket.inet_aton(own)
        end.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + interface)
        end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        end.settimeout(LONG)
        ends.append(end)
    host, router = ends
    with host, router:
        for sender, own, receiver in ((host, H1, router), (router, LAN, host)):
            sender.sendto(b"hello of " + own.encode(), (ALL_SPF_ROUTERS, 0))
            packet, who = receiver.recvfrom(1000)
            assert packet[20:] == b"hello of " + own.encode()
            assert (packet[8], who[0]) == (1, own)
            receiver.settimeout(0.1)
            with pytest.raises(TimeoutError):
                receiver.recv(1000)  # it comes once
            receiver.settimeout(LONG)


@pytest.mark.parametrize(
    ("own", "server", "host"), [(LAN, H2, "h2"), (WAN, H2, "h2"), (LAN, H1, "h1")]
)
def test_a_program_of_the_router_calls_out(net, own, server, host):
    with getattr(net, host).inside():
        listening = socket.create_server((server, 5003))
    with net.lab.router.inside():
        caller = socket.socket()
    heard = []

    def serve():
        connection, who = listening.accept()
        with connection:
            heard.append((who[0], connection.recv(100)))

    thread = threading.Thread(target=serve)
    listening.settimeout(LONG)
    caller.settimeout(LONG)
    with listening, caller:
        thread.start()
        caller.bind((own, 0))
        caller.connect((server, 5003))
        caller.sendall(b"hello")
        thread.join()
    assert heard == [(own, b"hello")]


def test_ipv6_both_ways(net):
    with net.lab.router.inside():
        program = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with net.h2.inside():
        far = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with program, far:
        program.bind((LAN6, 6001))
        program.settimeout(LONG)
        far.bind((FAR6, 6002))
        far.settimeout(LONG)
        far.sendto(b"question", (LAN6, 6001))
        said, who = program.recvfrom(100)
        assert (said, who[0]) == (b"question", FAR6)
        program.sendto(b"answer", who)
        assert far.recvfrom(100)[0] == b"answer"


def test_the_router_answers_pings_itself_and_forwards_as_before(net):
    before = net.view.graph()
    assert "2 received" in ping(net.h1, LAN, "-c2", "-l2")
    assert "2 received" in ping(net.h1, H2, "-c2", "-l2")
    punted = {row.name: row.packets for row in net.view.graph()}["host-punt"]
    assert punted == {row.name: row.packets for row in before}["host-punt"]


def test_multicast_of_the_host_is_on_the_link(net):
    """As a routing daemon's hellos: to 224.0.0.5 with a TTL of 1, to the lan only."""
    group = socket.inet_aton("224.0.0.5")
    with net.h1.inside():
        heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with net.lab.router.inside():
        program = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with heard, program:
        heard.bind(("224.0.0.5", 6003))
        heard.settimeout(LONG)
        heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton(H1))
        program.bind((LAN, 0))
        program.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LAN))
        program.sendto(b"hello", ("224.0.0.5", 6003))
        said, who = heard.recvfrom(100)
        assert (said, who[0]) == (b"hello", LAN)


def test_nothing_stays_behind(place):
    with routed(place, {"lan": f"{LAN}/24"}) as made:
        with place.router.inside():
            made.forwarder.add_host("lan-host", "host0", "lan")
        made.start()
        rules = place.router.run("ip", "rule", "show")
        assert f"from {LAN}" in rules
        links = json.loads(place.router.run("ip", "-j", "link", "show"))
        assert "host0" in {link["ifname"] for link in links}
    until(lambda: "host0" not in place.router.run("ip", "link", "show"), "the TAP stays")
    assert f"from {LAN}" not in place.router.run("ip", "rule", "show")
