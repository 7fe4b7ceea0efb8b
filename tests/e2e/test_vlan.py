"""A sub-interface: a station of VLAN 7 on the lan port, and a Linux host on the wan port."""

import os
import socket

import pytest

from e2e.lab import ping, routed, until
from e2e.station import Station
from vforward.testing import packets as pk

pytestmark = pytest.mark.root

VID, OTHER_VID = 7, 8
STATION = "10.7.0.2"
VLAN, WAN, H2 = "10.7.0.1", "10.2.0.1", "10.2.0.2"


@pytest.fixture
def net(place):
    place.h2.address("eth0", f"{H2}/24")
    place.h2.run("ip", "route", "add", "default", "via", WAN)
    with routed(place, {"lan": (), "wan": f"{WAN}/24"}) as made:
        made.forwarder.add_vlan("seven", "lan", VID, f"{VLAN}/24")
        made.start()
        yield made


@pytest.fixture
def station(net):
    made = Station(net.h1, [(0x8100, VID)])
    with made.socket:
        yield made


def echo(number, size):
    content = os.urandom(size)
    return content, pk.ip4(STATION, H2, 1, pk.icmp_echo(1, number, content))


def test_linux_answers_the_pings_of_a_tagged_station(net, station):
    router = station.resolve(STATION, VLAN)
    for number, size in enumerate((0, 56, 1400, 1472)):
        content, packet = echo(number, size)
        station.send(router, pk.ETH_IP4, packet)
        reply = station.expect(pk.ETH_IP4)[: 28 + size]
        assert reply[12:20] == socket.inet_aton(H2) + socket.inet_aton(STATION)
        assert reply[8] == 63
        assert reply[20:22] == b"\0\0"
        assert reply[28:] == content
    assert net.drops() == {}


def test_a_tagged_station_pings_the_router(net, station):
    router = station.resolve(STATION, VLAN)
    packet = pk.ip4(STATION, VLAN, 1, pk.icmp_echo(1, 1, b"router"))
    station.send(router, pk.ETH_IP4, packet)
    assert station.expect(pk.ETH_IP4)[20:][:14] == pk.icmp_echo(1, 1, b"router", reply=True)


def test_a_station_that_is_asked_for_first(net, station):
    """The router asks on the VLAN, keeps the datagram meanwhile, and sends it tagged."""
    with net.h2.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"to a VLAN", (STATION, 9))
    station.answer(STATION, VLAN)
    assert station.expect(pk.ETH_IP4)[28:37] == b"to a VLAN"


def test_other_vlans_are_not_let_in(net, station):
    router = station.resolve(STATION, VLAN)
    _, packet = echo(1, 56)
    station.send(router, pk.ETH_IP4, packet, tags=[(0x8100, OTHER_VID)])
    net.settle()
    until(lambda: net.drops() == {("ethernet-input", "unknown-vlan"): 1}, net.drops)


def test_ping_of_the_vlans_address_from_the_other_side(net):
    assert "2 received" in ping(net.h2, VLAN, "-c2", "-l2")
