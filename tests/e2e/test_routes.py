# SPDX-License-Identifier: Apache-2.0
"""What routes do: several next hops, VRFs, refusals, filters of sources, and the errors' rate."""

import errno
import re
import socket
import time

import pytest

from e2e.lab import family_of, ipv6, lab, ping, routed, transfer, until

pytestmark = pytest.mark.root

LAN, WAN, DMZ = "10.1.0.1", "10.2.0.1", "10.3.0.1"
H1, H2, H3 = "10.1.0.2", "10.2.0.2", "10.3.0.2"
LAN6, WAN6, DMZ6 = "2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1"
H1_6, H2_6, H3_6 = "2001:db8:1::2", "2001:db8:2::2", "2001:db8:3::2"
ANYCAST = {4: "192.0.2.1", 6: "2001:db8:ffff::1"}
IP_RECVERR, IPV6_RECVERR = 11, 25
FLOWS = 400


def sockets(host, address, n):
    """UDP sockets, connected: each a flow."""
    with host.inside():
        made = [socket.socket(family_of(address), socket.SOCK_DGRAM) for _ in range(n)]
    for one in made:
        one.connect((address, 7000))
    return made


def listener(host, address):
    with host.inside():
        made = socket.socket(family_of(address), socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    made.bind((address, 7000))
    made.settimeout(0)
    return made


class Spread:
    """Flows from h1 to an address that both h2 and h3 have."""

    def __init__(self, net, address):
        self.net = net
        for host in (net.h2, net.h3):
            host.run("ip", "address", "add", address, "dev", "lo")
        self.flows = sockets(net.h1, address, FLOWS)
        self.ends = [listener(host, address) for host in (net.h2, net.h3)]

    def close(self):
        for one in (*self.flows, *self.ends):
            one.close()

    def ask(self):
        """Send a datagram in each flow; returns the ports of those that came to h2, and to h3."""
        came = set(), set()
        for flow in self.flows:
            flow.send(b"?")

        def all_came():
            for ports, end in zip(came, self.ends, strict=True):
                try:
                    while True:
                        ports.add(end.recvfrom(10)[1][1])
                except BlockingIOError:
                    pass
            return len(came[0] | came[1]) == FLOWS

        until(all_came, lambda: f"{len(came[0])} + {len(came[1])} came")
        assert not came[0] & came[1], "a flow is split"
        return came


@pytest.fixture(scope="module")
def three():
    ports = {
        "lan": ((f"{LAN}/24", f"{LAN6}/64"), {}),
        "wan": ((f"{WAN}/24", f"{WAN6}/64"), {}),
        "dmz": ((f"{DMZ}/24", f"{DMZ6}/64"), {}),
    }
    with lab(3) as place, routed(place, ports) as made:
        place.address(f"{H1}/24", f"{H2}/24", f"{H3}/24")
        place.default_routes(LAN, WAN, DMZ)
        made.start()
        ipv6(place.h1, f"{H1_6}/64", via=LAN6)
        ipv6(place.h2, f"{H2_6}/64", via=WAN6)
        ipv6(place.h3, f"{H3_6}/64", via=DMZ6)
        yield made


@pytest.fixture
def net(three):
    """The router, which after each test has accounted for every packet."""
    three.clear()
    yield three
    three.settle()


@pytest.mark.parametrize("version", [4, 6])
def test_flows_over_two_next_hops(net, version):
    """3 to 1 by weight; then one is taken away, and comes back."""
    address = ANYCAST[version]
    prefix = f"{address}/{32 if version == 4 else 128}"
    two, three = (H2, H3) if version == 4 else (H2_6, H3_6)
    for hop in (two, three):
        assert "1 received" in ping(net.h1, hop, "-c1")
    both = [(two, None, 3), (three, None, 1)]
    spread = Spread(net, address)
    try:
        net.forwarder.add_route(prefix, paths=both)
        at_two, at_three = spread.ask()
        assert 0.6 * FLOWS < len(at_two) < 0.9 * FLOWS, "about 300 of 400"
        assert spread.ask() == (at_two, at_three), "a flow stays where it is"
        net.forwarder.add_route(prefix, paths=both[:1])
        assert spread.ask() == (at_two | at_three, set())
        net.forwarder.add_route(prefix, paths=both)
        again_two, again_three = spread.ask()
        assert 0.6 * FLOWS < len(again_two) < 0.9 * FLOWS
        net.forwarder.add_route(prefix, paths=both[1:])
        assert spread.ask() == (set(), again_two | again_three)
    finally:
        net.forwarder.delete_route(prefix)
        spread.close()
        for host in (net.h2, net.h3):
            host.run("ip", "address", "del", address, "dev", "lo")
    net.settle()
    assert net.drops() == {}


def test_of_three_next_hops_one_leaves(net):
    """Its flows go elsewhere; those of the others stay where they were."""
    extra = "10.2.0.3"  # h2 again, by another address
    net.h2.address("eth0", f"{extra}/24")
    for hop in (H2, H3, extra):
        assert "1 received" in ping(net.h1, hop, "-c1")
    spread = Spread(net, ANYCAST[4])
    paths = [(H2, None, 1), (H3, None, 1), (extra, None, 1)]
    try:
        net.forwarder.add_route(f"{ANYCAST[4]}/32", paths=paths)
        at_two, at_three = spread.ask()
        net.forwarder.add_route(f"{ANYCAST[4]}/32", paths=paths[:2])
        then_two, then_three = spread.ask()
        assert at_three <= then_three
        assert len(then_three) > len(at_three)
        assert len(then_two) < len(at_two)
    finally:
        net.forwarder.delete_route(f"{ANYCAST[4]}/32")
        spread.close()
        for host in (net.h2, net.h3):
            host.run("ip", "address", "del", ANYCAST[4], "dev", "lo")
        net.h2.run("ip", "address", "del", f"{extra}/24", "dev", "eth0")


def refusal(host, address):
    """What the kernel makes of the answer to a datagram: errno, ICMP type and code, by whom."""
    six = ":" in address
    (probe,) = sockets(host, address, 1)
    with probe:
        level, option = (41, IPV6_RECVERR) if six else (0, IP_RECVERR)
        probe.setsockopt(level, option, 1)
        probe.settimeout(10)
        probe.send(b"may I")
        with pytest.raises(OSError) as raised:
            probe.recv(100)
        _, aside, _, _ = probe.recvmsg(100, 512, socket.MSG_ERRQUEUE)
    (told,) = [value for _, kind, value in aside if kind == option]
    who = told[24:40] if six else told[20:24]
    return raised.value.errno, told[5], told[6], socket.inet_ntop(family_of(address), who)


@pytest.mark.parametrize(
    ("kind", "prefix", "expected"),
    [
        ("unreachable", "192.0.2.0/24", (errno.EHOSTUNREACH, 3, 1, LAN)),
        ("prohibit", "192.0.2.0/24", (errno.EHOSTUNREACH, 3, 13, LAN)),
        ("", "192.0.2.0/24", (errno.ENETUNREACH, 3, 0, LAN)),
        ("unreachable", "2001:db8:ffff::/48", (errno.EHOSTUNREACH, 1, 3, LAN6)),
        ("prohibit", "2001:db8:ffff::/48", (errno.EACCES, 1, 1, LAN6)),
        ("", "2001:db8:ffff::/48", (errno.ENETUNREACH, 1, 0, LAN6)),
    ],
)
def test_refusals(net, kind, prefix, expected):
    if kind:
        net.forwarder.add_route(prefix, kind=kind)
    try:
        assert refusal(net.h1, ANYCAST[6 if ":" in prefix else 4]) == expected
    finally:
        if kind:
            net.forwarder.delete_route(prefix)


@pytest.mark.parametrize("version", [4, 6])
def test_a_blackhole_is_silent(net, version):
    prefix = {4: "192.0.2.0/24", 6: "2001:db8:ffff::/48"}[version]
    net.forwarder.add_route(prefix, kind="blackhole")
    try:
        assert "0 received" in ping(net.h1, ANYCAST[version], "-c2", "-i0.01", "-W1")
        net.settle()
        assert net.drops() == {(f"ip{version}-lookup", "blackhole"): 2}
    finally:
        net.forwarder.delete_route(prefix)


def test_a_route_to_the_router_itself(net):
    """kind "local": an address of no port, and the router answers."""
    net.forwarder.add_route("192.0.2.1/32", kind="local")
    try:
        assert "2 received" in ping(net.h1, "192.0.2.1", "-c2", "-l2")
    finally:
        net.forwarder.delete_route("192.0.2.1/32")


def test_of_two_routes_the_lower_metric(net):
    """And when that one is gone, the other."""
    address = ANYCAST[4]
    for host in (net.h2, net.h3):
        host.run("ip", "address", "add", address, "dev", "lo")
    with listener(net.h2, address) as two, listener(net.h3, address) as three:
        (flow,) = sockets(net.h1, address, 1)
        with flow:
            for end in (two, three):
                end.settimeout(10)
            net.forwarder.add_route("192.0.2.0/24", via=H2, metric=10)
            net.forwarder.add_route("192.0.2.0/24", via=H3, metric=20)
            flow.send(b"lower")
            assert two.recv(10) == b"lower"
            net.forwarder.delete_route("192.0.2.0/24", metric=10)
            flow.send(b"higher")
            assert three.recv(10) == b"higher"
            net.forwarder.delete_route("192.0.2.0/24")
    for host in (net.h2, net.h3):
        host.run("ip", "address", "del", address, "dev", "lo")


STRANGE, ELSEWHERE = "10.9.0.1", "10.3.0.99"
STRANGE6, ELSEWHERE6 = "2001:db8:9::1", "2001:db8:3::99"


@pytest.mark.parametrize("mode", ["loose", "strict"])
def test_sources_are_filtered(mode):
    """Strange: no route leads there. Elsewhere: one does, by another port."""
    ports = {
        "lan": ((f"{LAN}/24", f"{LAN6}/64"), {"urpf": mode}),
        "wan": ((f"{WAN}/24", f"{WAN6}/64"), {}),
        "dmz": ((f"{DMZ}/24", f"{DMZ6}/64"), {}),
    }
    with lab(3) as place, routed(place, ports) as net:
        place.address(f"{H1}/24", f"{H2}/24", f"{H3}/24")
        place.default_routes(LAN, WAN, DMZ)
        net.start()
        ipv6(net.h1, f"{H1_6}/64", via=LAN6)
        ipv6(net.h2, f"{H2_6}/64", via=WAN6)
        for address in (STRANGE, ELSEWHERE, STRANGE6, ELSEWHERE6):
            net.h1.run("ip", "address", "add", address, "dev", "lo")
        for version, own, to, strange, elsewhere in (
            (4, H1, H2, STRANGE, ELSEWHERE),
            (6, H1_6, H2_6, STRANGE6, ELSEWHERE6),
        ):
            assert "1 received" in ping(net.h1, to, "-c1", "-I", own)
            assert "0 received" in ping(net.h1, to, "-c1", "-W1", "-I", strange)
            net.settle()
            assert net.drops() == {(f"ip{version}-urpf", mode): 1}
            with listener(net.h2, to) as end:
                with net.h1.inside():
                    sender = socket.socket(family_of(to), socket.SOCK_DGRAM)
                with sender:
                    sender.bind((elsewhere, 0))
                    sender.sendto(b"who am I", (to, 7000))
                if mode == "loose":
                    end.settimeout(10)
                    assert end.recvfrom(10)[1][0] == elsewhere
            expected = 1 if mode == "loose" else 2
            net.settle()
            assert net.drops() == {(f"ip{version}-urpf", mode): expected}
            net.clear()


def test_the_same_addresses_in_two_vrfs():
    """h1 and h2 are one customer's, h3 and h4 another's; nobody notices the other."""
    vrfs = {"lan": "red", "wan": "red", "dmz": "blue", "ext": "blue"}
    address = {"lan": (LAN, LAN6), "wan": (WAN, WAN6), "dmz": (LAN, LAN6), "ext": (WAN, WAN6)}
    ports = {
        port: ((f"{address[port][0]}/24", f"{address[port][1]}/64"), {"vrf": vrf})
        for port, vrf in vrfs.items()
    }
    with lab(4) as place, routed(place, ports) as net:
        h1, h2, h3, h4 = place.hosts
        place.address(f"{H1}/24", f"{H2}/24", f"{H1}/24", f"{H2}/24")
        place.default_routes(LAN, WAN, LAN, WAN)
        net.start()
        for host, own, via in (
            (h1, H1_6, LAN6),
            (h2, H2_6, WAN6),
            (h3, H1_6, LAN6),
            (h4, H2_6, WAN6),
        ):
            ipv6(host, f"{own}/64", via=via)
        for one, other in ((h1, h2), (h3, h4)):
            for to, own in ((H2, LAN), (H2_6, LAN6)):
                assert "3 received" in ping(one, to, "-c3", "-l3")
                assert "1 received" in ping(one, own, "-c1")
            transfer(one, other, H2, 3_000_000)
            transfer(other, one, H1_6, 3_000_000)
        net.settle()
        assert net.drops() == {}
        net.forwarder.add_route("192.0.2.0/24", via=H2, vrf="red")
        for host in (h2, h4):
            host.run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
        assert "1 received" in ping(h1, "192.0.2.1", "-c1")
        said = ping(h3, "192.0.2.1", "-c1")
        assert "Destination Net Unreachable" in said, "the route is the other VRF's"


RATE, BURST, EACH = 100, 50, 10


def test_errors_are_limited(place):
    """500 datagrams whose TTL runs out: from one host, then from 250 addresses."""
    place.address(f"{H1}/16", f"{H2}/24")
    place.default_routes(LAN, WAN)
    with routed(place, {"lan": f"{LAN}/16", "wan": f"{WAN}/24"}, icmp_errors=RATE) as net:
        net.start()
        assert "1 received" in ping(net.h1, H2, "-c1")
        one = _flood(net, [H1] * 500)
        assert EACH <= one.errors <= EACH * (2 + one.seconds)
        others = [f"10.1.1.{n}" for n in range(1, 251)]
        for address in others:
            net.h1.run("ip", "address", "add", f"{address}/16", "dev", "eth0")
        assert "1 received" in ping(net.h1, H2, "-c1")
        many = _flood(net, others * 2)
        assert EACH < many.errors <= BURST + RATE * (1 + many.seconds)


class _Flood:
    def __init__(self, errors, seconds):
        self.errors, self.seconds = errors, seconds


def _flood(net, sources):
    """Errors that the kernel got, and the time in which it did; the others are counted."""
    net.clear()
    before, start = _expired(net.h1), time.monotonic()
    for source in sources:
        with net.h1.inside():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            sender.bind((source, 0))
            sender.sendto(b"too far", (H2, 9))
    net.settle()
    got, seconds = _expired(net.h1) - before, time.monotonic() - start
    assert net.count("ip4-rewrite", "expired") == len(sources)
    assert net.drops() == {("icmp4-error", "rate-limited"): len(sources) - got}
    return _Flood(got, seconds)


def _expired(host):
    """ICMP messages "time exceeded" that the kernel has received."""
    head, row = re.findall(r"^Icmp: (.*)$", host.run("cat", "/proc/net/snmp"), re.M)
    return int(dict(zip(head.split(), row.split(), strict=True))["InTimeExcds"])
