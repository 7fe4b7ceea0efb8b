# SPDX-License-Identifier: Apache-2.0
"""A station of a VLAN: a program on a packet socket, as the kernel here may have no 802.1Q devices."""

import socket
import struct

from vforward.io import linux
from vforward.testing import packets as pk

IGNORE_OUTGOING = 23
MAC = "02:00:00:00:00:07"


class Station:
    """Sends frames with tags, (EtherType, VLAN id) each, the outer first; receives any."""

    def __init__(self, host, tags=()):
        self.tags = tags
        with host.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(("eth0", 3))
        self.socket.setsockopt(linux.SOL_PACKET, IGNORE_OUTGOING, 1)
        self.socket.setsockopt(linux.SOL_PACKET, linux.PACKET_AUXDATA, 1)
        self.socket.settimeout(10)

    def send(self, to, ethertype, payload, tags=None, source=MAC):
        """Send a frame, with other tags than the station's if given."""
        for tpid, vid in reversed(self.tags if tags is None else tags):
            payload, ethertype = pk.vlan(vid, ethertype, payload), tpid
        self.socket.send(pk.eth(to, source, ethertype, payload))

    def receive(self):
        """The next frame: tags, EtherType, payload."""
        frame, aside, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(20))
        tags, at = [], 12
        for level, kind, value in aside:  # the kernel gives the outer tag aside
            if (level, kind) == (linux.SOL_PACKET, linux.PACKET_AUXDATA):
                status, *_, tci, tpid = struct.unpack("IIIHHHH", value)
                if status & linux.TP_STATUS_VLAN_VALID:
                    tags.append((tpid, tci & 0xFFF))
        while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
            tpid, tci = struct.unpack("!HH", frame[at : at + 4])
            tags.append((tpid, tci & 0xFFF))
            at += 4
        (ethertype,) = struct.unpack("!H", frame[at : at + 2])
        return tuple(tags), ethertype, frame[at + 2 :]

    def expect(self, ethertype, tags=None):
        """The payload of the next frame of that type with the station's tags."""
        tags = self.tags if tags is None else tags
        while True:
            found, kind, payload = self.receive()
            if (found, kind) == (tuple(tags), ethertype):
                return payload

    def resolve(self, own, address):
        """The MAC of who has an address."""
        self.send(pk.BROADCAST, pk.ETH_ARP, pk.arp_request(MAC, own, address))
        reply = self.expect(pk.ETH_ARP)
        assert reply[:8] == bytes([0, 1, 8, 0, 6, 4, 0, 2])
        return reply[8:14]

    def answer(self, own, asker):
        """Answer the question who the station is."""
        question = self.expect(pk.ETH_ARP)
        assert question[24:28] == socket.inet_aton(own)
        reply = pk.arp_reply(MAC, own, question[8:14], asker)
        self.send(question[8:14], pk.ETH_ARP, reply)
