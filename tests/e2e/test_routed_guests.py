# SPDX-License-Identifier: Apache-2.0
"""`vforward run` as a router with an address on two vhost-user ports, which are backends or frontends: who
is behind one talks to who is behind the other, and to the router, by queues of either layout.
"""

import tempfile
import time
from pathlib import Path

import pytest

from backends import MERGED, PROTOCOL, RING_PACKED, VERSION_1, Backend
from e2e import process
from e2e.lab import DONE_WITH, LONG, until
from frontends import Frontend
from vforward.control import observe
from vforward.testing import packets as pk

PORT = """
[ports.{name}]
type = "vhost-user"
side = "{side}"
packed = {packed}
socket = "{place}/{name}"
mac = "02:00:00:00:0{n}:01"
address = "10.0.{n}.1/24"
"""
NAMES = ("one", "two")
AGAIN_S = 5
"""Then what has not arrived is sent once more: a neighbor that answers late has cost it."""
SIZES = [0, 1, 18, 1000, 1472]
"""Of UDP payloads; the last fills the MTU."""


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:
        yield Path(directory)


def meet(path, side, packed):
    """Who is at the other end of a port of that side."""
    more = RING_PACKED if packed else 0
    if side == "frontend":
        return Backend.connect(path, VERSION_1 | PROTOCOL | MERGED | more).begin()
    made = Frontend.connect(path)
    made.begin(1 << 32 | 1 << 30 | 1 << 15 | more)
    return made


class Guest:
    """Two hosts with one MAC address, 10.0.n.9 and 10.0.n.10, behind port n. They answer by ARP."""

    def __init__(self, peer, n):
        self.peer = peer
        self.mac, self.router_mac = (pk.mac_bytes(f"02:00:00:00:0{n}:{k}") for k in ("09", "01"))
        self.router, *self.hosts = (pk.ip4_bytes(f"10.0.{n}.{k}") for k in (1, 9, 10))
        self.known, self.asked = {}, set()  # MACs of others; those of its hosts that were asked for
        self.got = []  # frames that are no ARP
        self.expected = []  # functions, of which one is true of each of those

    def hear(self):
        """Take what has come, if anything comes soon."""
        for frame in self.peer.receive(1, 0.02):
            if frame[12:14] == b"\x08\x06":
                self._arp(frame)
            else:
                assert any(is_it(frame) for is_it in self.expected), frame.hex()
                self.got.append(frame)

    def _arp(self, frame):
        operation, mac, ip, target = frame[20:22], frame[22:28], frame[28:32], frame[38:42]
        self.known[ip] = mac
        if operation == b"\0\1" and target in self.hosts:
            self.asked.add(target)
            answer = pk.arp_reply(self.mac, target, mac, ip)
            self.peer.send([pk.eth(mac, self.mac, pk.ETH_ARP, answer)])

    def ask(self):
        """Learn the router's MAC address."""
        end, again = time.monotonic() + LONG, 0
        while self.router not in self.known:
            assert time.monotonic() < end, "no answer to ARP"
            if time.monotonic() >= again:
                again = time.monotonic() + AGAIN_S
                question = pk.arp_request(self.mac, self.hosts[0], self.router)
                self.peer.send([pk.eth(pk.BROADCAST, self.mac, pk.ETH_ARP, question)])
            self.hear()
        assert self.known[self.router] == self.router_mac

    def frame(self, packet):
        """As the router sends it here."""
        return pk.eth(self.mac, self.router_mac, pk.ETH_IP4, packet)


def arrives(sender, receiver, packet, is_it):
    """Send a packet to the router until is_it(frame) is true of one that comes."""
    receiver.expected.append(is_it)
    end, again = time.monotonic() + LONG, 0
    while not any(map(is_it, receiver.got)):
        assert time.monotonic() < end, packet.hex()
        if time.monotonic() >= again:
            again = time.monotonic() + AGAIN_S
            sender.peer.send([pk.eth(sender.router_mac, sender.mac, pk.ETH_IP4, packet)])
        for guest in {sender, receiver}:
            guest.hear()


def crosses(sender, receiver, src, dst, size):
    """A datagram arrives with its TTL less by one, and nothing else changed."""
    segment = pk.udp(src, dst, 4000, 5000, (bytes(range(256)) * 6)[:size])
    packets = [pk.ip4(src, dst, pk.PROTO_UDP, segment, ttl=t, ident=size + 1) for t in (64, 63)]
    arrives(sender, receiver, packets[0], receiver.frame(packets[1]).__eq__)


def answers(guest, address):
    """The router answers to a ping of an address of its own."""
    host = guest.hosts[0]
    ping, pong = (pk.icmp_echo(7, 1, b"to be sent back", reply=reply) for reply in (False, True))
    request = pk.ip4(host, address, pk.PROTO_ICMP, ping, ident=5000)
    reply = pk.ip4(address, host, pk.PROTO_ICMP, pong, ident=5000)
    arrives(guest, guest, request, guest.frame(reply).__eq__)


def expires(guest, dst):
    """The router says so when a TTL runs out, and quotes the packet."""
    host = guest.hosts[0]
    packet = pk.ip4(host, dst, pk.PROTO_UDP, pk.udp(host, dst, 1, 2, b"too far"), ttl=1, ident=6000)

    def says_so(frame):
        ends = frame[:14] == guest.frame(b"") and frame[26:34] == guest.router + host
        return ends and frame[23] == pk.PROTO_ICMP and frame[34:36] == b"\x0b\0" and packet in frame

    arrives(guest, guest, packet, says_so)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("side", ["backend", "frontend"])
def test_guests_and_the_router_between_them(place, side, packed):
    file = place / "guests.toml"
    text = '[forwarder]\nname = "guests"\nbuffers = 4096\n'
    ours = "true" if packed and side == "frontend" else "false"  # else the guest chooses
    for n, name in enumerate(NAMES, 1):
        text += PORT.format(name=name, n=n, place=place, side=side, packed=ours)
    file.write_text(text)
    with process.daemon(file), observe.attach("guests") as view:
        one, two = (Guest(meet(place / name, side, packed), n) for n, name in enumerate(NAMES, 1))
        one.ask()
        two.ask()
        for size in SIZES:
            crosses(one, two, one.hosts[0], two.hosts[1], size)
            crosses(two, one, two.hosts[0], one.hosts[1], size)
        assert one.hosts[1] in one.asked  # of whom the router had heard nothing
        assert two.hosts[1] in two.asked
        for guest, other in ((one, two), (two, one)):
            answers(guest, guest.router)
            answers(guest, other.router)
            expires(guest, other.hosts[1])
        least = len(SIZES) + 5  # of each: ARP in both roles, two pings, a TTL
        until(
            lambda: all(min(row.rx.packets, row.tx.packets) >= least for row in view.ports()),
            view.ports,
        )
        drops = {(row.node, row.reason) for row in view.errors() if row.drop}
        # A queue may answer before the one by which the answer goes is there.
        assert drops <= DONE_WITH | {(f"{name}-tx", "no-peer") for name in NAMES}
        one.peer.close()
        two.peer.close()
