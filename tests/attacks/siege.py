"""A firewall on memory ports between a few hosts inside and everybody else; flows, and floods of packets.

10.0.1.0/24, lan [ firewall ] wan, 192.0.2.1: all other addresses, by one neighbor
"""

import struct

import numpy as np

from vforward import Forwarder, MemoryPort
from vforward.testing import packets as pk

INSIDE, SERVER, OUTSIDE = "10.0.1.8", "10.0.1.9", "198.51.100.7"
WAN = "192.0.2.1"
INSIDE6, SERVER6 = "2001:db8:1::8", "2001:db8:1::9"
NEAR_MAC, FAR_MAC = "02:00:00:00:01:09", "02:00:00:00:02:fe"
BATCH = 4000
TCP, UDP, ICMP = 6, 17, 1


class Siege:
    """See the module. What is sent goes through at once; every packet's end is known in the end."""

    def __init__(self, settings, rules, nat=()):
        self.router = router = Forwarder()
        self.lan, self.wan = MemoryPort(room=16384), MemoryPort(room=16384)
        router.add_port("lan", self.lan, ["10.0.1.1/24", "2001:db8:1::1/64"])
        router.add_port("wan", self.wan, [f"{WAN}/24", "2001:db8:2::1/64"])
        for host in (INSIDE, SERVER, INSIDE6, SERVER6):
            router.add_neighbor(host, pk.mac_bytes(NEAR_MAC), "lan")
        for gateway, everywhere in (("192.0.2.254", "0.0.0.0/0"), ("2001:db8:2::fe", "::/0")):
            router.add_neighbor(gateway, pk.mac_bytes(FAR_MAC), "wan")
            router.add_route(everywhere, via=gateway)
        router.set_firewall(settings)
        router.set_rules(rules)
        router.set_nat(nat)
        router.build()
        self.table = router.firewall.shards[0]
        self.sent = self.got = 0

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        try:
            if failed[0] is None:
                self.check()
        finally:
            self.router.close()

    def frame(self, port, packet):
        """The frame of a packet that comes in by a port."""
        kind = pk.ETH_IP6 if packet[0] >> 4 == 6 else pk.ETH_IP4
        return pk.eth(port.mac, NEAR_MAC if port is self.lan else FAR_MAC, kind, packet)

    def frames(self, port, frames):
        """Let frames come in by a port; returns the packets that left by lan, and by wan."""
        out = [], []
        for first in range(0, len(frames), BATCH):
            batch = frames[first : first + BATCH]
            assert port.send(batch) == len(batch)
            self.sent += len(batch)
            self.router.run_until_idle()
            for left, each in zip(out, (self.lan, self.wan), strict=True):
                left += [frame[14:] for frame in each.received()]
        self.got += len(out[0]) + len(out[1])
        return out

    def packets(self, port, packets):
        """The same, of packets."""
        return self.frames(port, [self.frame(port, packet) for packet in packets])

    def kill(self, **only):
        """End sessions; returns how many, when they have ended."""
        told = self.router.kill_sessions(**only)
        while self.router.count_sessions(**only):
            self.router.run_until_idle()
        return told

    def counted(self, node):
        """A node's counters by label, those that count something."""
        member = self.router.graph.members[node]
        named = zip(member.node.counter_labels, member.counts.tolist(), strict=True)
        return {label: n for label, n in named if n}

    def dropped(self):
        """Packets that ended in a drop, by node and reason."""
        found = {}
        for name, member in self.router.graph.members.items():
            for counter in member.node.counters or ():
                if counter.drop and member.counts[counter]:
                    found[name, counter.label] = int(member.counts[counter])
        return found

    def check(self):
        """Packets in are packets out and counted drops; tables and pool make sense."""
        assert self.sent == self.got + sum(self.dropped().values())
        self.table.check()
        self.router.pool.check()


class Flow:
    """A TCP connection of which both ends are here: the first of them has called the other."""

    def __init__(self, siege, ends, *, inside=True, window=60_000):
        """ends: (address, port) of who calls, and of whom. inside: it calls from there."""
        self.siege, self.ends, self.window = siege, ends, window
        self.seen = ends
        """As the other knows them."""
        self.ports = (siege.lan, siege.wan) if inside else (siege.wan, siege.lan)
        self.next = [(2**32 - 900 + 7919 * ends[0][1]) % 2**32, (104729 * ends[0][1]) % 2**32]
        self.count = 0

    def packet(self, d, flags="A", payload=b"", seq=0, ack=0):
        """A segment that d sends, next in order; seq, ack: how far off it is."""
        src, dst = self.ends if d == 0 else self.seen[::-1]
        own, other = self.next[d] + seq, self.next[1 - d] + ack if "A" in flags else 0
        segment = pk.tcp(
            src[0], dst[0], src[1], dst[1], payload, seq=own % 2**32, ack=other % 2**32,
            flags=flags, window=self.window,
        )  # fmt: skip
        return pk.ip4(src[0], dst[0], TCP, segment)

    def send(self, d, flags="A", payload=b"", **off):
        """Send it; returns what left on the other side, and goes on if something did."""
        packet = self.packet(d, flags, payload, **off)
        out = self.siege.packets(self.ports[d], [packet])
        left = out[0 if self.ports[1 - d] is self.siege.lan else 1]
        if left and not any(off.values()):
            self.went(d, flags, payload)
        return left

    def went(self, d, flags, payload):
        """Note that a segment got through."""
        self.next[d] = (self.next[d] + len(payload) + ("S" in flags) + ("F" in flags)) % 2**32

    def open(self):
        """The handshake."""
        (there,) = self.send(0, "S")
        sport, dport = struct.unpack(">HH", there[20:24])
        text = [".".join(map(str, there[at : at + 4])) for at in (12, 16)]
        self.seen = (text[0], sport), (text[1], dport)
        (back,) = self.send(1, "SA")
        (done,) = self.send(0, "A")
        assert (back[33], done[33]) == (0x12, 0x10)
        return self

    def data(self, d):
        """A segment with data that are nobody else's, to be sent among others, and these data."""
        self.count += 1
        payload = struct.pack(
            ">4sHHBxIQ", b"flow", self.ends[0][1], self.ends[1][1], d, self.count, 0
        )
        packet = self.packet(d, "PA", payload)
        self.went(d, "PA", payload)
        return packet, payload

    def goes_on(self):
        """Data pass in both directions."""
        for d in (0, 1):
            (packet,) = self.send(d, "PA", b"still here")
            assert packet[40:] == b"still here"
        assert self.send(0, "A")

    def state(self):
        """Of its session, as the operator sees it; "" if there is none."""
        rows = self.siege.router.sessions(protocol="tcp", port=self.ends[0][1])
        return rows[0]["state"] if rows else ""


def spoofed_syns(siege, n, rng, to=SERVER, port=80):
    """Frames of SYNs from n random addresses and ports."""
    frame = siege.frame(siege.wan, pk.ip4(0, to, TCP, pk.tcp("0.0.0.0", to, 0, port), checksum=0))
    made = np.tile(np.frombuffer(frame, np.uint8), (n, 1))
    source = rng.integers(0x0B000000, 0x4B000000, n, dtype=np.uint32)
    made[:, 26:30] = source.astype(">u4").view(np.uint8).reshape(n, 4)
    made[:, 34:36] = rng.integers(1024, 65536, (n, 1), dtype=np.uint16).astype(">u2").view(np.uint8)
    made[:, 38:42] = rng.integers(0, 256, (n, 4), dtype=np.uint8)
    words = made[:, 14:34].copy().view(">u2").astype(np.uint32).sum(axis=1)
    for _ in range(2):
        words = (words & 0xFFFF) + (words >> 16)
    made[:, 24:26] = (~words).astype(">u2").view(np.uint8).reshape(n, 2)
    blob, size = made.tobytes(), len(frame)
    return [blob[at : at + size] for at in range(0, n * size, size)]


def udp4(src, sport, dst, dport, payload=b"x"):
    """An IPv4 packet with a datagram."""
    return pk.ip4(src, dst, UDP, pk.udp(src, dst, sport, dport, payload))


def udp6(src, sport, dst, dport, payload=b"x"):
    """An IPv6 packet with a datagram."""
    return pk.ip6(src, dst, UDP, pk.udp(src, dst, sport, dport, payload))
