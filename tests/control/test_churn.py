"""Routes change under traffic: each packet leaves by a way that is right then, and none is lost.

A compiled port makes packets in the worker, as fast as it can; compiled ports judge what they are to
send, against ``allowed``: for each destination the set of next hops that are right now. The test's
thread changes routes and neighbors. Before each change it lets in what is right behind it, and when
the worker has passed a quiet point since it takes out what was right before: so a packet is right
only where the way was its destination's during its flight.

The model of what is right knows three prefixes of a destination and no tables.
"""

from __future__ import annotations

import os
import random
import time
from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
import pytest

from vforward.control.forwarder import Forwarder
from vforward.control.routes import Path, wide
from vforward.graph.node import Kind, Node
from vforward.io.null import NULL_TX
from vforward.io.port import Port, RxCount, RxEdge, TxCount, TxEdge, default_mac
from vforward.jit.be import load16
from vforward.jit.intrinsics import address, copy
from vforward.jit.kernel import i64, kernel, u64
from vforward.layout import EDGE_HELD, HEADROOM, U8, U16, U64, Counts, Data, Edges, Meta, Rows
from vforward.memory.buffer import begin_packet, byte_address
from vforward.memory.pool import put, take
from vforward.testing import packets

DESTINATIONS = 4096
SIZE = 64
"""Bytes of a frame."""
SENT = 1 << 16
"""Packets after which the source begins anew."""
OUTPUTS = ("a", "b", "c")
PER_PORT = 4
HOPS = PER_PORT * len(OUTPUTS)
MOVING = HOPS  # a next hop at the last port, whose MAC changes
WIDE, NARROW = 64, 1024  # prefixes: of 64 destinations and of 4
STEADY = 48  # wide prefixes from this one on never change
BATCH = 32
CHANGES = int(os.environ.get("VFORWARD_CHURN", "5000"))
"""100 000 take a minute where nothing else runs."""

STOP, MADE, NEXT = range(3)  # words of the source
JUDGED, WRONG, LAST = 0, 1, 2  # words of the verdict; then of the last wrong one; then hops
BY_HOP = 8


@kernel
def make(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    pool: U64, frames: U8, order: U16, source: U64,
) -> int:  # fmt: skip
    """Packets, until they are not wanted any more."""
    if source[STOP]:
        return 0
    n = take(pool, idx, idx.size)
    if n < idx.size:
        count[RxCount.NO_BUFFER] += u64(1)
    base, first, at = address(data), address(frames), i64(source[NEXT])
    for i in range(n):
        row = i64(idx[i])
        begin_packet(meta, row, SIZE, 1)
        copy(byte_address(base, row, HEADROOM), first + i64(order[at]) * SIZE, SIZE)
        at = (at + 1) % SENT
        edge[i] = RxEdge.NEXT
    source[NEXT] = u64(at)
    source[MADE] += u64(n)
    return n


@kernel
def judge(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts,
    pool: U64, allowed: U64, moves: U64, verdict: U64, own: U64,
) -> None:  # fmt: skip
    """Take the packets, and tell whether the port and the header written are right."""
    for i in range(idx.size):
        row = i64(idx[i])
        off = i64(meta[row].off)
        six = load16(data, row, off + 12) == 0x86DD
        number = i64(load16(data, row, off + (54 if six else 34)))  # the UDP source port
        hop, moved = i64(data[row, off + 1]) & 15, i64(load16(data, row, off + 2))
        right = u64(own[0]) & allowed[number] & u64(1) << u64(hop) != 0
        right &= moved == i64(load16(data, row, off + 4))
        right &= (i64(moves[2 * hop]) <= moved) & (moved <= i64(moves[2 * hop + 1]))
        right &= data[row, off] == 2
        for k in range(3):
            right &= i64(load16(data, row, off + 6 + 2 * k)) == i64(own[1 + k])
        right &= data[row, off + (21 if six else 22)] == 63
        right &= i64(meta[row].end) - off == SIZE
        verdict[JUDGED] += u64(1)
        verdict[BY_HOP + hop] += u64(1)
        if not right:
            verdict[WRONG] += u64(1)
            verdict[LAST], verdict[LAST + 1] = u64(number), u64(hop)
            verdict[LAST + 2], verdict[LAST + 3] = u64(moved), allowed[number]
        edge[i] = EDGE_HELD
    put(pool, meta, idx, idx.size)


class Source(Port):
    """Makes packets."""

    def __init__(self, order):
        self.words = np.zeros(4, np.uint64)
        self.frames = np.zeros(DESTINATIONS * SIZE, np.uint8)
        self.order = order

    def open(self, number, pool):
        assert number == 1
        self.mac = default_mac(number)

    def rx(self):
        node = Node("churn-source", make, RxEdge, RxCount, Kind.INPUT)
        return node, {"frames": self.frames, "order": self.order, "source": self.words}

    def tx(self):
        return NULL_TX, {}

    def close(self):
        pass


class Judge(Port):
    """Judges what is sent to it."""

    def __init__(self, hops, allowed, moves):
        self.tables = {"allowed": allowed, "moves": moves}
        self.verdict = np.zeros(BY_HOP + 16, np.uint64)
        self.own = np.array([sum(1 << hop for hop in hops), 0, 0, 0], np.uint64)

    def open(self, number, pool):
        self.mac = default_mac(number)
        self.own[1:] = np.frombuffer(self.mac, ">u2")

    def rx(self):
        return None

    def tx(self):
        node = Node("churn-judge", judge, TxEdge, TxCount)
        return node, {**self.tables, "verdict": self.verdict, "own": self.own}

    def close(self):
        pass


def mac_of(hop: int, moved: int = 0) -> bytes:
    return bytes([2, hop]) + moved.to_bytes(2, "big") * 2


class Addresses:
    """Where all is, in one family. Destination n is in the wide prefix n // 64 and the narrow n // 4."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.base = int(ip_address("16.0.0.0" if version == 4 else "2a00::"))
        self.shift = 2 if version == 4 else 74
        self.bits = 32 if version == 4 else 128

    def interface(self, port: int) -> str:
        return f"10.0.{port}.1/24" if self.version == 4 else f"2001:db8:0:{port}::1/64"

    def hop(self, hop: int) -> Any:
        port = min(hop // PER_PORT, len(OUTPUTS) - 1) + 1
        text = f"10.0.{port}.{10 + hop}" if self.version == 4 else f"2001:db8:0:{port}::{10 + hop}"
        return ip_address(text)

    def prefix(self, size: int, number: int) -> Any:
        """The number-th prefix of so many destinations."""
        size *= 1 << self.shift
        length = self.bits - size.bit_length() + 1
        kind = type(ip_network("::/0" if self.version == 6 else "0.0.0.0/0"))
        return kind((self.base + number * size, length))

    def frame(self, mac: bytes, number: int) -> bytes:
        dst = str(ip_address(self.base + (number << self.shift)))
        if self.version == 4:
            udp = packets.udp("10.0.0.2", dst, number, 9, bytes(22))
            return packets.eth(mac, mac_of(15), 0x0800, packets.ip4("10.0.0.2", dst, 17, udp))
        src = "2001:db8::2"
        udp = packets.udp(src, dst, number, 9, bytes(2))
        return packets.eth(mac, mac_of(15), 0x86DD, packets.ip6(src, dst, 17, udp))


class Bench:
    """A forwarder that runs, what changes in it, and the model of what is right."""

    def __init__(self, version: int) -> None:
        self.at, self.random = Addresses(version), random.Random(version)
        self.cover = 0
        self.wide, self.narrow = np.zeros(WIDE, np.uint64), np.zeros(NARROW, np.uint64)
        self.paths: dict[Any, dict[int, int]] = {}  # of each prefix: hop -> weight
        self.allowed, self.moves = np.zeros(DESTINATIONS, np.uint64), np.zeros(32, np.uint64)
        self.touched: set[int] = set()
        rng = np.random.default_rng(version)
        order = rng.integers(0, DESTINATIONS - 4, SENT).astype(np.uint16)
        order[SENT // 2] = DESTINATIONS - 1  # few to the next hop that moves: a short queue waits
        self.source = Source(order)
        self.judges = [
            Judge(range(i * PER_PORT, (i + 1) * PER_PORT), self.allowed, self.moves)
            for i in range(len(OUTPUTS))
        ]
        self.judges[-1].own[0] |= np.uint64(1 << MOVING)
        self.forwarder = Forwarder(f"churn{version}")
        self.routing = self.forwarder.routing

    def prepare(self) -> None:
        router = self.forwarder
        router.add_port("in", self.source, self.at.interface(0))
        for i, (name, port) in enumerate(zip(OUTPUTS, self.judges)):
            router.add_port(name, port, self.at.interface(i + 1))
        frames = b"".join(self.at.frame(self.source.mac, n) for n in range(DESTINATIONS))
        self.source.frames[:] = np.frombuffer(frames, np.uint8)
        self.free = self.resources()
        for hop in range(HOPS + 1):
            self.neighbor(hop)
        self.cover_with({0: 1})
        for number in range(STEADY, WIDE):
            self.put(WIDE, number, {number % HOPS: 1})
        self.put(NARROW, NARROW - 1, {MOVING: 1})
        self.settle()
        router.build()

    def resources(self) -> tuple[int, int, int]:
        self.routing.reclaim()
        groups = self.routing._groups
        return self.routing._adjacencies.free, groups.free, len(groups)

    # Changes, and what they mean.

    def neighbor(self, hop: int, moved: int = 0) -> None:
        name = OUTPUTS[min(hop // PER_PORT, len(OUTPUTS) - 1)]
        self.forwarder.add_neighbor(str(self.at.hop(hop)), mac_of(hop, moved), name)

    def move(self) -> None:
        """The neighbor gets another MAC; then the old one is wrong."""
        moved = int(self.moves[2 * MOVING + 1]) + 1
        self.moves[2 * MOVING + 1] = moved
        self.neighbor(MOVING, moved)
        assert self.forwarder.workers.quiesce(10)
        self.moves[2 * MOVING] = moved

    def cover_with(self, hops: dict[int, int]) -> None:
        self.cover = sum(1 << hop for hop in hops)
        self.let_in(0, DESTINATIONS)
        self.add(self.at.prefix(DESTINATIONS, 0), hops)

    def put(self, kind: int, number: int, hops: dict[int, int]) -> None:
        """Add, change or (no hops) delete a wide or narrow prefix's route."""
        of = self.wide if kind == WIDE else self.narrow
        of[number] = sum(1 << hop for hop in hops)
        size = DESTINATIONS // kind
        self.let_in(number * size, size)
        prefix = self.at.prefix(size, number)
        if hops:
            self.add(prefix, hops)
        else:
            del self.paths[prefix]
            self.routing.delete(prefix)

    def add(self, prefix: Any, hops: dict[int, int]) -> None:
        self.paths[prefix] = hops
        paths = [Path(self.at.hop(hop), None, weight) for hop, weight in hops.items()]
        self.routing.add(prefix, paths=paths)

    def right(self) -> Any:
        """The next hops of each destination, as bits."""
        wide = np.where(self.wide, self.wide, np.uint64(self.cover))
        narrow = np.where(self.narrow, self.narrow, wide.repeat(NARROW // WIDE))
        return narrow.repeat(DESTINATIONS // NARROW)

    def let_in(self, first: int, n: int) -> None:
        at = slice(first, first + n)
        self.allowed[at] |= self.right()[at]

    def settle(self) -> None:
        """What is right now is all that is right, when what was looked up before has left."""
        workers = self.forwarder.workers
        assert workers is None or workers.quiesce(10)
        self.allowed[:] = self.right()

    def drawn(self, hops: dict[int, int]) -> dict[int, int]:
        """Next hops for a prefix that has these: others, or one more, or one less, or none."""
        choice = self.random.random()
        if not hops or choice < 0.3:
            n = self.random.choice([1, 1, 2, 3, 4])
            return {hop: self.random.randint(1, 3) for hop in self.random.sample(range(HOPS), n)}
        if choice < 0.5:
            return {}
        hops = dict(hops)
        if choice < 0.75 and len(hops) > 1:
            del hops[self.random.choice(list(hops))]
        else:
            hops[self.random.randrange(HOPS)] = 1
        return hops

    def change(self) -> None:
        choice = self.random.random()
        if choice < 0.02:
            self.move()
        elif choice < 0.03:
            self.cover_with(self.drawn(self.paths[self.at.prefix(DESTINATIONS, 0)]) or {0: 1})
        elif choice < 0.4:
            self.change_of(WIDE, self.random.randrange(STEADY))
        else:
            self.change_of(NARROW, self.random.randrange(STEADY * NARROW // WIDE))

    def change_of(self, kind: int, number: int) -> None:
        prefix = self.at.prefix(DESTINATIONS // kind, number)
        self.put(kind, number, self.drawn(self.paths.get(prefix, {})))

    # What is asserted.

    def judged(self) -> int:
        return int(sum(port.verdict[JUDGED] for port in self.judges))

    def nothing_wrong(self) -> None:
        for port in self.judges:
            number, hop, moved, allowed = (int(word) for word in port.verdict[LAST : LAST + 4])
            told = f"destination {number} to hop {hop}, moved {moved}, allowed {allowed:#x}"
            assert port.verdict[WRONG] == 0, f"{int(port.verdict[WRONG])} wrong, the last: {told}"

    def nothing_lost(self) -> None:
        """All that was made was judged, and no node counts a drop."""
        for member in self.forwarder.graph.members.values():
            if member.node.counters:
                for counter in member.node.counters:
                    drops = int(member.counts[counter]) if counter.drop else 0
                    assert drops == 0, f"{member.name}: {counter.label} {drops}"
        assert self.source.words[MADE] == self.judged()

    def take_all_away(self) -> None:
        for prefix in list(self.paths):
            self.routing.delete(prefix)
        for hop in range(HOPS + 1):
            port = self.forwarder.interfaces.find(OUTPUTS[min(hop // PER_PORT, 2)]).number
            assert self.forwarder.neighbors.delete(port, wide(self.at.hop(hop)))


@pytest.mark.parametrize(("version", "changes"), [(4, CHANGES), (6, CHANGES // 2)])
def test_nothing_is_lost_or_misrouted(tmp_path, monkeypatch, version, changes):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    bench = Bench(version)
    with bench.forwarder:
        bench.prepare()
        bench.forwarder.start()
        start = time.monotonic()
        for n in range(changes):
            bench.change()
            if n % BATCH == BATCH - 1:
                bench.settle()
                bench.nothing_wrong()
        spent = time.monotonic() - start
        bench.settle()
        seen = bench.judged()
        deadline = time.monotonic() + 20
        while bench.judged() < seen + 10 * SENT and time.monotonic() < deadline:
            time.sleep(0.01)  # some more, of the last routes
        bench.source.words[STOP] = 1
        assert bench.forwarder.workers.quiesce(10)
        while bench.judged() < bench.source.words[MADE] and time.monotonic() < deadline:
            time.sleep(0.01)  # what waits for the neighbor that moved
        bench.forwarder.stop()
        total = bench.judged()
        print(f"{changes / spent:,.0f} changes/s, {total / spent:,.0f} packets/s: {total:,}")
        bench.nothing_wrong()
        bench.nothing_lost()
        bench.forwarder.pool.check()
        used = sum(port.verdict[BY_HOP:] for port in bench.judges)
        assert (used[: HOPS + 1] > 0).all()
        assert used.sum() == total > 10 * SENT
        fib = bench.routing.fib4 if version == 4 else bench.routing.fib6
        fib.check()
        assert {r.prefix for r in bench.routing.routes() if r.source == "configured"} == {
            str(prefix) for prefix in bench.paths
        }
        bench.take_all_away()
        assert bench.resources() == bench.free
        fib.check()
        assert fib.retired == 0
