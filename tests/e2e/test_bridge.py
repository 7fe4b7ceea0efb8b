# SPDX-License-Identifier: Apache-2.0
"""Hosts of one subnet at the ports of a bridge, some of them behind VLAN tags."""

import itertools
import os
import socket

import pytest

from e2e.lab import lab, mac_of, ping, routed, transfer, until
from e2e.station import MAC, Station
from vforward.control.assembly import Tags
from vforward.testing import packets as pk
from vforward.testing.namespaces import offloads

pytestmark = pytest.mark.root

H1, H2, H3 = "10.0.0.1", "10.0.0.2", "10.0.0.3"
STATION = "10.0.0.7"
NOBODY = "02:00:00:00:00:99"
EVERY_BRIDGE = "01:80:c2:00:00:00"


@pytest.fixture(scope="module")
def whole():
    with lab(3) as place, routed(place, {"lan": (), "wan": (), "dmz": ()}) as made:
        place.address(f"{H1}/24", f"{H2}/24", f"{H3}/24")
        made.forwarder.add_bridge("office")
        for port in ("lan", "wan", "dmz"):
            made.forwarder.add_to_bridge("office", port)
        made.start()
        yield made


@pytest.fixture
def net(whole):
    """The bridge, which after each test has accounted for every packet."""
    whole.clear()
    yield whole
    whole.settle()


def forget(net):
    """No host knows another."""
    for host in net.lab.hosts:
        host.run("ip", "neigh", "flush", "dev", "eth0")


def where(net):
    """The ports of the MACs that the bridge knows."""
    return {
        known.mac.to_bytes(6, "big").hex(":"): net.forwarder.interfaces.name_of(known.port)
        for known in net.forwarder.bridging.entries()
    }


def heard(net, host):
    """Frames that a host has received since the counters were cleared."""
    at = net.lab.hosts.index(host)
    return net._moved()[at][1] - net.before[at][1]


def test_arp_and_ping_between_all(net):
    forget(net)
    hosts = zip(net.lab.hosts, (H1, H2, H3), strict=True)
    for (one, _), (_, address) in itertools.permutations(hosts, 2):
        said = ping(one, address, "-c3", "-l3")
        assert "3 received" in said
        assert "ttl=64" in said, "a bridge takes no hop"
    seen = net.h1.run("ip", "neigh", "show", H3)
    assert mac_of(net.h3) in seen, "its own MAC, not the bridge's"
    ports = where(net)
    for host, port in zip(net.lab.hosts, ("lan", "wan", "dmz"), strict=True):
        assert ports[mac_of(host)] == port
    assert net.drops() == {}


def test_known_destinations_are_not_flooded(net):
    assert "1 received" in ping(net.h1, H2, "-c1")
    net.clear()
    assert "100 received" in ping(net.h1, H2, "-c100", "-l100")
    net.settle()
    assert heard(net, net.h3) <= 6, "perhaps of ARP, but no echo"
    assert heard(net, net.h2) >= 100


def test_unknown_destinations_are_flooded(net):
    with net.h1.inside():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender:
        sender.bind(("eth0", 0))
        for _ in range(10):
            sender.send(pk.eth(NOBODY, mac_of(net.h1), 0x88B5, b"anybody" * 10))
    net.settle()
    assert heard(net, net.h2) >= 10
    assert heard(net, net.h3) >= 10
    assert net.count("l2-flood", "copies") >= 10


def test_reserved_groups_stay_on_their_link(net):
    with net.h1.inside():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender:
        sender.bind(("eth0", 0))
        sender.send(pk.eth(EVERY_BRIDGE, mac_of(net.h1), 0x88CC, b"lldp" * 20))
    net.settle()
    assert net.drops() == {("l2-forward", "reserved"): 1}


def test_fragments(net):
    assert "3 received" in ping(net.h1, H3, "-c3", "-l3", "-s", "20000")


@pytest.mark.parametrize("on", [True, False])
def test_tcp(net, on):
    offloads(net.h1, "eth0", on=on)
    try:
        transfer(net.h1, net.h2, H2, 10_000_000)
        transfer(net.h3, net.h1, H1, 10_000_000)
        transfer(net.h2, net.h3, H3, 10_000_000)
    finally:
        offloads(net.h1, "eth0", on=True)
    net.settle()
    assert net.drops() == {}


def test_stations_that_move(net):
    """h1 and h3 exchange their MACs: the bridge follows with the first frame of each."""
    assert "1 received" in ping(net.h1, H3, "-c1")
    net.clear()
    one, other = mac_of(net.h1), mac_of(net.h3)
    try:
        net.h1.run("ip", "link", "set", "dev", "eth0", "address", other)
        net.h3.run("ip", "link", "set", "dev", "eth0", "address", one)
        forget(net)
        assert "3 received" in ping(net.h2, H1, "-c3", "-l3")
        assert "3 received" in ping(net.h2, H3, "-c3", "-l3")
        assert "3 received" in ping(net.h1, H3, "-c3", "-l3")
        assert where(net)[other] == "lan"
        assert where(net)[one] == "dmz"
        assert net.count("l2-forward", "moved") == 2
    finally:
        net.h1.run("ip", "link", "set", "dev", "eth0", "address", one)
        net.h3.run("ip", "link", "set", "dev", "eth0", "address", other)
        forget(net)
    assert net.forwarder.bridging.counters()["office"].moves >= 2


def test_split_horizon():
    """h2 and h3 are of one group: each reaches h1, they do not reach each other."""
    with lab(3) as place, routed(place, {"lan": (), "wan": (), "dmz": ()}) as net:
        place.address(f"{H1}/24", f"{H2}/24", f"{H3}/24")
        net.forwarder.add_bridge("office")
        for port, group in (("lan", 0), ("wan", 1), ("dmz", 1)):
            net.forwarder.add_to_bridge("office", port, group)
        net.start()
        assert "2 received" in ping(net.h1, H2, "-c2", "-l2")
        assert "2 received" in ping(net.h3, H1, "-c2", "-l2")
        assert "0 received" in ping(net.h2, H3, "-c1", "-W1"), "ARP is not flooded to it"
        net.settle()
        assert net.drops() == {}
        known = ("lladdr", mac_of(net.h3), "dev", "eth0", "nud", "permanent")
        net.h2.run("ip", "neigh", "replace", H3, *known)
        assert "0 received" in ping(net.h2, H3, "-c1", "-W1"), "nor sent to it"
        net.settle()
        assert set(net.drops()) == {("l2-forward", "split-horizon")}


TAGGED = {
    "vlan": {"vlan": 7},
    "qinq": {"vlan": 100, "inner": 7},
    "802.1ad": {"vlan": 100, "inner": 7, "dot1ad": True},
}


@pytest.fixture(params=TAGGED)
def trunk(request, place):
    """lan carries tagged frames, which a bridge joins with the untagged ones of wan."""
    place.h2.address("eth0", f"{H2}/24")
    given = TAGGED[request.param]
    tags = [(0x88A8 if "dot1ad" in given else 0x8100, given["vlan"])]
    tags += [(0x8100, given["inner"])] if "inner" in given else []
    with routed(place, {"lan": (), "wan": ()}) as made:
        made.forwarder.add_vlan("tagged", "lan", **given)
        made.forwarder.add_bridge("office")
        made.forwarder.add_to_bridge("office", "tagged")
        made.forwarder.add_to_bridge("office", "wan")
        made.start()
        station = Station(made.h1, tags)
        with station.socket:
            yield made, station


def test_a_tagged_station_in_a_bridge(trunk):
    """Its tags come off on the way to Linux, and are put on the answers."""
    net, station = trunk
    router = station.resolve(STATION, H2)
    assert router.hex(":") == mac_of(net.h2)
    for number, size in enumerate((0, 56, 1400, 1464)):
        content = os.urandom(size)
        packet = pk.ip4(STATION, H2, 1, pk.icmp_echo(1, number, content))
        station.send(router, pk.ETH_IP4, packet)
        reply = station.expect(pk.ETH_IP4)[: 28 + size]
        assert reply[8] == 64
        assert reply[28:] == content
    station.send(router, pk.ETH_IP4, packet, tags=[(0x8100, 8)])
    until(lambda: [*net.drops().values()] == [1], net.drops)
    assert where(net)[MAC] == "tagged"


def test_linux_asks_for_the_tagged_station(trunk):
    net, station = trunk
    with net.h2.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"to a VLAN", (STATION, 9))
    station.answer(STATION, H2)
    assert station.expect(pk.ETH_IP4)[28:37] == b"to a VLAN"


def test_translation_of_tags_in_a_cross_connect(place):
    """What comes tagged 100.7 at lan leaves tagged 20 at wan, and back."""
    with routed(place, {"lan": (), "wan": ()}) as net:
        net.forwarder.add_vlan("outer", "lan", 100, inner=7, dot1ad=True)
        net.forwarder.cross_connect("outer", "wan", (Tags(2, ((0x8100, 20),)), None))
        net.start()
        one = Station(net.h1, [(0x88A8, 100), (0x8100, 7)])
        other = Station(net.h2, [(0x8100, 20)])
        with one.socket, other.socket:
            one.send(NOBODY, 0x88B5, b"there" * 12)
            assert other.expect(0x88B5) == b"there" * 12
            other.send(MAC, 0x88B5, b"back!" * 12, source=NOBODY)
            assert one.expect(0x88B5) == b"back!" * 12
