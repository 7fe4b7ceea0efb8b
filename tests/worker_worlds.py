"""Forwarders of several workers between memory ports, and what must hold in each."""

import random
import time
from collections import defaultdict

from vforward import FirewallSettings, Forwarder, MemoryPort
from vforward.graph.node import Kind
from vforward.tables.held import held_rows
from vforward.testing import packets as pk

LAN_MAC, WAN_MAC = "02:00:00:00:01:09", "02:00:00:00:02:09"
LAN, WAN = "10.0.1.", "10.0.2."
UDP, TCP, ICMP = 17, 6, 1
PER_FLOW = 30
BATCH = 500
"""Packets sent at once: what one worker hands to another fits its ring, however late that looks."""


class World:
    """Hosts at the ports lan and wan, and at as many more as are wished, each with a subnet of its own."""

    def __init__(
        self, n_workers, *, ports=2, firewall=False, nat=(), rules=(), hosts=40, **options
    ):
        options = {"buffers": 16384, **options}
        self.router = Forwarder(f"workers-{n_workers}", workers=n_workers, **options)
        self.ports = []
        names = ["lan", "wan", *(f"p{k}" for k in range(3, ports + 1))]
        for k, name in enumerate(names, 1):
            addresses = (f"10.0.{k}.1/24", f"2001:db8:{k}::1/64")
            self.ports.append(self.router.add_port(name, MemoryPort(), addresses))
            for host in range(9, 9 + hosts):
                self.router.add_neighbor(f"10.0.{k}.{host}", self.mac(k), name)
                self.router.add_neighbor(f"2001:db8:{k}::{host:x}", self.mac(k), name)
        self.lan, self.wan = self.ports[:2]
        if firewall:
            self.router.set_firewall(FirewallSettings(default="deny", sessions=4094))
            self.router.set_rules(rules)
            self.router.set_nat(nat)
        self.router.build()
        self.sent = self.received = 0

    @staticmethod
    def mac(k):
        return pk.mac_bytes(f"02:00:00:00:{k:02x}:09")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.settle()
                self.router.stop()
                self.check()
        finally:
            self.router.close()

    def send(self, port, packets):
        """Send IP packets by a port, waiting for room."""
        number = self.ports.index(port) + 1
        mac = self.mac(number).hex(":")
        frames = [pk.eth(port.mac, mac, 0x0800 if p[0] >> 4 == 4 else 0x86DD, p) for p in packets]
        self.sent += len(frames)
        while frames:
            frames = frames[port.send(frames) :]
            if frames:
                time.sleep(0.0005)

    def take(self, port):
        """The IP packets that came out of a port since."""
        got = [frame[14:] for frame in port.received()]
        self.received += len(got)
        return got

    def exchange(self, port, packets):
        """Send, run until idle (or, where the workers live, until it settles); what came out by port."""
        out = [[] for _ in self.ports]
        for first in range(0, len(packets), BATCH):
            self.send(port, packets[first : first + BATCH])
            self.settle()
            for got, each in zip(out, self.ports, strict=True):
                got += self.take(each)
        return out

    def settle(self, seconds=60):
        """Wait until nothing moves any more."""
        workers = self.router.workers
        if not workers.running:
            self.router.run_until_idle()
            return
        end, before = time.monotonic() + seconds, None
        while before != (before := self.moved()):
            assert time.monotonic() < end, "it does not settle"
            for _ in range(3):
                assert workers.quiesce(seconds)

    def wait(self, true, seconds=60):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it does not come true"
            time.sleep(0.002)

    def moved(self):
        return [self.node(m.name) for m in self.router.graph.order], self.router._hand_off and (
            self.router._hand_off.waiting()
        )

    def node(self, name, worker=None):
        """Packets of a node, of one worker or of all."""
        at = self.router.graph.members[name].number
        plans = self.router.graph.plans if worker is None else [self.router.graph.plans[worker]]
        return sum(int(plan.stats.reshape(-1, 8)[at, 1]) for plan in plans)

    def drops(self):
        """By node and reason, what was dropped."""
        found = {}
        for name, member in self.router.graph.members.items():
            for counter in sorted(member.node.counters or ()):
                if counter.drop and member.counts[counter]:
                    found[name, counter.label] = int(member.counts[counter])
        return found

    def held(self):
        """Packets that wait in tables."""
        rows = [row for own in self.router.neighbors.own for row in held_rows(own["held"])]
        return rows + [row for pieces in self.router.firewall.pieces for row in pieces.held_rows()]

    def check(self):
        """In is out, dropped and held; every buffer is in one place; tables make sense."""
        for port in self.ports:
            self.take(port)
        made = sum(
            int(plan.stats.reshape(-1, 8)[member.number, 6])
            for plan in self.router.graph.plans
            for member in self.router.graph.order
            if not member.name.endswith("reassembly")  # which emits what it held
        )
        made += self.node("control-inject")
        held = self.held()
        dropped = sum(self.drops().values())
        assert self.sent + made == self.received + dropped + len(held), self.drops()
        assert self.router._hand_off is None or self.router._hand_off.waiting() == 0
        self.router.pool.check(held)
        for shard in self.router.firewall.shards:
            shard.check()

    def inputs(self):
        return [m.name for m in self.router.graph.order if m.node.kind is Kind.INPUT]


def udp(src, dst, sport, dport, payload=b""):
    """An IPv4 packet."""
    return pk.ip4(src, dst, UDP, pk.udp(src, dst, sport, dport, payload))


def flow_of(packet):
    """Addresses, protocol and ports of a packet of IPv4 without options."""
    return packet[12:20], packet[9], packet[20:24]


def mix(seed, flows=60, per_flow=PER_FLOW):
    """Packets of flows from lan to wan, each numbered in its payload, the flows mixed."""
    draw = random.Random(seed)
    left = {
        (f"{LAN}{draw.randrange(9, 49)}", f"{WAN}{draw.randrange(9, 49)}", 2000 + k, 53): 0
        for k in range(flows)
    }
    packets = []
    while left:
        flow = draw.choice(list(left))
        packets.append(udp(*flow, left[flow].to_bytes(4, "big") + bytes(draw.randrange(40))))
        left[flow] += 1
        if left[flow] == per_flow:
            del left[flow]
    return packets


def in_order(packets):
    """Whether the numbers in each flow's payloads grow."""
    last = defaultdict(lambda: -1)
    for packet in packets:
        number = int.from_bytes(packet[28:32], "big")
        if number <= last[flow_of(packet)]:
            return False
        last[flow_of(packet)] = number
    return True
