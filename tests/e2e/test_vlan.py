"""A sub-interface: a station of VLAN 7 on the lan port, and a Linux host on the wan port.

The kernel here may have no 802.1Q devices, so the station is this program, on a packet socket.
"""

import os
import socket
import struct

import pytest

from e2e.lab import ping, routed, until
from vforward.io import linux
from vforward.testing import packets as pk

pytestmark = pytest.mark.root

VID, OTHER_VID = 7, 8
STATION, STATION_MAC = "10.7.0.2", "02:00:00:00:00:07"
VLAN, WAN, H2 = "10.7.0.1", "10.2.0.1", "10.2.0.2"
IGNORE_OUTGOING = 23


class Station:
    """A host of one VLAN. Tags are sent as they are; the kernel gives received ones aside."""

    def __init__(self, host):
        with host.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(("eth0", 3))
        self.socket.setsockopt(linux.SOL_PACKET, IGNORE_OUTGOING, 1)
        self.socket.setsockopt(linux.SOL_PACKET, linux.PACKET_AUXDATA, 1)
        self.socket.settimeout(10)

    def send(self, to, ethertype, payload, vid=VID):
        self.socket.send(pk.eth(to, STATION_MAC, 0x8100, pk.vlan(vid, ethertype, payload)))

    def receive(self):
        """The next frame with its VLAN (0: none), and without its tag."""
        frame, aside, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(20))
        for level, kind, value in aside:
            if (level, kind) == (linux.SOL_PACKET, linux.PACKET_AUXDATA):
                status, *_, tci, _ = struct.unpack("IIIHHHH", value)
                if status & linux.TP_STATUS_VLAN_VALID:
                    return tci & 0xFFF, frame
        return 0, frame

    def expect(self, ethertype, vid=VID):
        """The payload of the next frame of that VLAN and type."""
        while True:
            found, frame = self.receive()
            if (found, frame[12:14]) == (vid, ethertype.to_bytes(2, "big")):
                return frame[14:]

    def resolve(self):
        """The router's MAC."""
        request = pk.arp_request(STATION_MAC, STATION, VLAN)
        self.send(pk.BROADCAST, pk.ETH_ARP, request)
        reply = self.expect(pk.ETH_ARP)
        assert reply[:8] == bytes([0, 1, 8, 0, 6, 4, 0, 2])
        return reply[8:14]

    def answer(self):
        """Answer the router's question who the station is."""
        question = self.expect(pk.ETH_ARP)
        assert question[24:28] == socket.inet_aton(STATION)
        self.send(
            question[8:14],
            pk.ETH_ARP,
            pk.arp_reply(STATION_MAC, STATION, question[8:14], VLAN),
        )


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
    made = Station(net.h1)
    with made.socket:
        yield made


def echo(number, size):
    content = os.urandom(size)
    return content, pk.ip4(STATION, H2, 1, pk.icmp_echo(1, number, content))


def test_linux_answers_the_pings_of_a_tagged_station(net, station):
    router = station.resolve()
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
    router = station.resolve()
    packet = pk.ip4(STATION, VLAN, 1, pk.icmp_echo(1, 1, b"router"))
    station.send(router, pk.ETH_IP4, packet)
    assert station.expect(pk.ETH_IP4)[20:][:14] == pk.icmp_echo(1, 1, b"router", reply=True)


def test_a_station_that_is_asked_for_first(net, station):
    """The router asks on the VLAN, keeps the datagram meanwhile, and sends it tagged."""
    with net.h2.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"to a VLAN", (STATION, 9))
    station.answer()
    assert station.expect(pk.ETH_IP4)[28:37] == b"to a VLAN"


def test_other_vlans_are_not_let_in(net, station):
    router = station.resolve()
    _, packet = echo(1, 56)
    station.send(router, pk.ETH_IP4, packet, vid=OTHER_VID)
    net.settle()
    until(lambda: net.drops() == {("ethernet-input", "unknown-vlan"): 1}, net.drops)


def test_ping_of_the_vlans_address_from_the_other_side(net):
    assert "2 received" in ping(net.h2, VLAN, "-c2", "-i0.01")
