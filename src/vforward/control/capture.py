# SPDX-License-Identifier: Apache-2.0
"""Captures of a running forwarder: whole packets at a port or a node, as a pcap file.

    worker  -- ring of private memory (graph.capture) -->  capture: filter, clock, pcap records

At a port they are the frames that come in and those that go out; at a node the packets that come to it (of
an input node: that leave it). Where a packet begins with its IP header an Ethernet header without addresses
is put before it. One capture at a time.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vforward.control.capture_filter import ARP, HEAD, IP4, IP6, TAGS, Heads, Test, compiled
from vforward.control.capture_progress import Progress
from vforward.control.router_graph import rx_name, tx_name
from vforward.control.wording import listed, nearest
from vforward.errors import ArenaError, ConfigError
from vforward.graph.capture import CaptureRing, Packets
from vforward.graph.node import Kind
from vforward.graph.worker import Worker, clock_hz, read_clock
from vforward.io.pcap_file import file_header

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder
    from vforward.control.placement import Placement
    from vforward.graph.build import Graph
    from vforward.graph.succession import Run

SNAP = 65535 + 14
QUIET_S = 5.0
_RECORD = struct.Struct("<IIII")
_BARE_KINDS = (0x86, 0xDD), (0x08, 0x00)
"""Types of Ethernet: of IPv6, of IPv4."""
_ETHERNET = 14
_KEPT: list[CaptureRing] = []
"""Rings that a worker may still write to: it has passed no quiet point in time."""


class Captures:
    """The captures of one forwarder: one at a time, and how the last one stood. Any thread."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._one = threading.Lock()
        self._last: Capture | None = None

    def begin(self, at: str, text: str = "", *, count: int = 0, snap: int = SNAP) -> Capture:
        """Begin to capture. count: end after so many packets, 0: when closed. snap: bytes of each.

        Raises ConfigError when there is no such port or node, or the filter is wrong; ArenaError when
        another capture is running.
        """
        test = self._test(at, text)
        if not self._one.acquire(blocking=False):
            msg = f"forwarder {self._forwarder.name!r} is captured from already; end that first"
            raise ArenaError(msg)
        try:
            workers = self._forwarder.workers
            assert workers is not None, "build comes before a capture"
            with self._forwarder.moving:  # the graph stays what it is
                leaving, coming = self._nodes(at, self._forwarder.graph, self._forwarder.placement)
                self._last = Capture(
                    [(one, CaptureRing(leaving, coming, snap=snap, spare=HEAD)) for one in workers],
                    Progress(at, text),
                    test,
                    count=count,
                    frames=bool(leaving),  # of a port, or of an input: they begin with Ethernet
                    ended=self._end,
                )
        except BaseException:
            self._one.release()
            raise
        return self._last

    def follow(self, graph: Graph, placement: Placement) -> list[list[Run]]:
        """By worker, what is to be stored when a graph takes the place of that which is captured from."""
        if self._last is None or self._last.done:
            return [[] for _ in range(graph.workers)]
        try:
            nodes = self._nodes(self._last.progress.at, graph, placement)
        except ConfigError:  # that port or node is no more: no packet comes there
            nodes = [], []
        return [ring.follow(*nodes) for ring in self._last.rings]

    def progress(self) -> list[Progress]:
        """The capture that is running, or the last one; empty when there was none."""
        return [] if self._last is None else [self._last.progress]

    def _end(self) -> None:
        """Let go of the last one's rings, unless a graph is just about to write to them (follow)."""
        assert self._last is not None
        if self._forwarder.moving.acquire(blocking=False):  # else they go with the next capture
            self._last.drop()
            self._forwarder.moving.release()
        self._one.release()

    def _nodes(self, at: str, graph: Graph, placement: Placement) -> tuple[list[int], list[int]]:
        """The nodes that the packets leave, and those that they come to. Raises ConfigError."""
        members = graph.members
        interfaces = self._forwarder.interfaces.by_name
        if at in interfaces:
            name = interfaces[at].parent or at
            queues = [q.number for q in placement.queues.values() if q.port == name]
            ways = [[rx_name(name, queue) for queue in queues], [tx_name(name)]]
            rx, tx = ([members[node].number for node in way if node in members] for way in ways)
            if not rx and not tx:
                msg = (
                    f"port {at!r} has no nodes of its own: capture at a node, see `vforward graph`"
                )
                raise ConfigError(msg)
            return rx, tx
        if at not in members:
            near = nearest(at, [*interfaces, *members])
            raise ConfigError(f"no port and no node {at!r}{near}; ports: {listed(interfaces)}")
        member = members[at]
        number = [member.number]
        return (number, []) if member.node.kind is Kind.INPUT else ([], number)

    def _test(self, at: str, text: str) -> Test:
        """The filter; of a sub-interface's packets, those of its port's that have its tags."""
        tests = [compiled(text)]
        interface = self._forwarder.interfaces.by_name.get(at)
        if interface is not None:
            tests += [compiled(f"vlan {tag}") for tag in (interface.vlan, interface.inner) if tag]
        return lambda heads: np.logical_and.reduce([test(heads) for test in tests])


class Capture:
    """A capture that runs until it is closed, by any thread. Made by Captures.begin."""

    def __init__(
        self,
        workers: Sequence[tuple[Worker, CaptureRing]],
        progress: Progress,
        test: Test,
        *,
        count: int,
        frames: bool,
        ended: Callable[[], None],
    ) -> None:
        self._workers, self._test = workers, test
        self._progress, self._count, self._frames, self._ended = progress, count, frames, ended
        self._hz = clock_hz()
        self._turn = threading.Lock()
        """Of who takes packets, or ends it."""
        for worker, ring in workers:
            ring.begin(worker.plan.control)

    @property
    def progress(self) -> Progress:
        """How it stands."""
        workers = self._workers
        if not workers:  # they were let go of
            return self._progress
        return replace(self._progress, missed=sum(ring.missed for _, ring in workers))

    @property
    def rings(self) -> list[CaptureRing]:
        """By worker, where it copies to."""
        return [ring for _, ring in self._workers]

    @property
    def done(self) -> bool:
        """Whether it is closed, or all packets that were asked for are there."""
        said = self._progress
        return not said.running or bool(self._count and said.packets >= self._count)

    @staticmethod
    def header() -> bytes:
        """What the file begins with: nanoseconds, Ethernet."""
        return file_header()

    def take(self) -> bytes:
        """The records of packets that came since, some thousands at most; empty when none is wanted."""
        records: list[tuple[int, bytes]] = []
        with self._turn:
            for _, ring in self._workers:
                packets = ring.waiting()
                if packets.records.size and not self.done:
                    records += self._written(packets)
                    ring.free(packets)
        if len(self._workers) > 1:
            records.sort(key=lambda record: record[0])
        return b"".join(content for _, content in records)

    def close(self) -> None:
        """End it; what waits is forgotten. Harmless when repeated."""
        with self._turn:
            if not self._progress.running:
                return
            self._progress = replace(self._progress, running=False)
        for worker, ring in self._workers:
            ring.end(worker.plan.control)
        for worker, ring in self._workers:
            deadline = time.monotonic() + QUIET_S
            while not (quiet := worker.quiesce()) and time.monotonic() < deadline:
                pass
            if not quiet:
                _KEPT.append(ring)
        self._ended()

    def drop(self) -> None:
        """Let go of the rings: it is closed, and nobody writes to them."""
        self._progress = self.progress
        self._workers = ()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _written(self, packets: Packets) -> list[tuple[int, bytes]]:
        """Of those that are wanted, when each was, and its record."""
        records = packets.records
        heads = _heads(packets)
        bare = self._bare(records, heads)
        if bare.any():
            heads[bare, _ETHERNET:] = heads[bare, :-_ETHERNET]
            heads[bare, :12] = 0
            six = heads[:, _ETHERNET] >> 4 == 6
            heads[bare, 12:_ETHERNET] = np.where(six[bare, None], *_BARE_KINDS)
        lengths = records["total"] + np.where(bare, _ETHERNET, 0)
        right = self._test(Heads(heads, lengths))
        if self._count:  # what came after the last one is nobody's
            right = right[
                : np.searchsorted(np.cumsum(right), self._count - self._progress.packets) + 1
            ]
        wanted = np.flatnonzero(right)
        said = self._progress
        self._progress = replace(
            said,
            packets=said.packets + wanted.size,
            bytes=said.bytes + int(lengths[wanted].sum()),
            unwanted=said.unwanted + right.size - wanted.size,
        )
        times = self._times(records["clock"])
        parts = []
        for i in wanted.tolist():
            start, here = int(packets.starts[i]), int(records["length"][i])
            packet = packets.data[start : start + here].tobytes()
            if bare[i]:
                packet = heads[i, :_ETHERNET].tobytes() + packet
            seconds, rest = divmod(times[i], 10**9)
            head = _RECORD.pack(seconds, rest, len(packet), int(lengths[i]))
            parts.append((times[i], head + packet))
        return parts

    def _bare(self, records: NDArray[Any], heads: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which packets begin with their IP header."""
        if self._frames:
            return np.zeros(records.size, np.bool_)
        version, kind = heads[:, 0] >> 4, heads[:, 12].astype(int) << 8 | heads[:, 13]
        behind = heads[:, _ETHERNET] >> 4
        framed = np.isin(kind, (ARP, *TAGS))
        framed |= ((kind == IP4) & (behind == 4)) | ((kind == IP6) & (behind == 6))
        return (records["bare"] != 0) & np.isin(version, (4, 6)) & ~framed

    def _times(self, clocks: NDArray[np.uint64]) -> list[int]:
        """Nanoseconds since 1970, from the time stamp counter."""
        now, wall = read_clock(), time.time_ns()
        ago = (np.uint64(now) - clocks).astype(np.int64) * (1e9 / self._hz)
        return [wall - int(one) for one in ago]


def _heads(packets: Packets) -> NDArray[np.uint8]:
    """The first HEAD bytes of each packet, zeros behind its end."""
    heads = np.asarray(sliding_window_view(packets.data, HEAD)[packets.starts])
    heads[np.arange(HEAD) >= packets.records["length"][:, None]] = 0
    return heads
