# SPDX-License-Identifier: Apache-2.0
"""What happened between two looks at a forwarder: rates of its ports, clocks of its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from vforward.control.observe_rows import Moved, NodeRow, PortRow, Runtime


@dataclass(frozen=True)
class PortRate:
    """What goes through a port, per second."""

    name: str
    rx_packets: float
    rx_bits: float
    rx_drops: float
    tx_packets: float
    tx_bits: float
    tx_drops: float


@dataclass(frozen=True)
class NodeRate:
    """What a node does: packets per second; clocks per packet, packets per call, its part of the clocks."""

    name: str
    packets: float
    clocks_per_packet: float
    packets_per_call: float
    share: float


@dataclass(frozen=True)
class Top:
    """A forwarder over some seconds. packets: that came in, per second. load: part of the time spent."""

    name: str
    state: str
    seconds: float
    packets: float
    clocks_per_packet: float
    load: float
    sleeps: float
    ports: list[PortRate]
    nodes: list[NodeRate]  # those with packets, the most expensive first


@dataclass(frozen=True)
class Look:
    """One look."""

    runtime: Runtime
    ports: list[PortRow]


def between(before: Look, now: Look) -> Top:
    """What happened from one look to the next; since the counters were cleared, if that was in between."""
    if now.runtime.seconds < before.runtime.seconds or now.runtime.packets < before.runtime.packets:
        before = _nothing(now)
    seconds = max(1e-9, now.runtime.seconds - before.runtime.seconds)
    earlier = {node.name: node for node in before.runtime.nodes}
    busy = _busy(now.runtime) - _busy(before.runtime)
    nodes = [_node(earlier.get(node.name), node, seconds, busy) for node in now.runtime.nodes]
    spent = now.runtime.load * now.runtime.seconds - before.runtime.load * before.runtime.seconds
    packets = now.runtime.packets - before.runtime.packets
    ports = {port.name: port for port in before.ports}
    return Top(
        name=now.runtime.name,
        state=now.runtime.state,
        seconds=seconds,
        packets=packets / seconds,
        clocks_per_packet=busy / packets if packets else 0.0,
        load=min(1.0, max(0.0, spent / seconds)),
        sleeps=(now.runtime.sleeps - before.runtime.sleeps) / seconds,
        ports=[_port(ports.get(p.name), p, seconds) for p in now.ports if p.rx or p.tx],
        nodes=sorted((n for n in nodes if n.packets), key=lambda n: -n.share),
    )


def _nothing(now: Look) -> Look:
    r = now.runtime
    zero = Runtime(r.name, r.pid, r.state, r.vector, 0.0, 0, 0.0, 0.0, 0.0, 0, 0, [])
    return Look(zero, [])


def _clocks(node: NodeRow) -> float:
    return node.clocks_per_packet * node.packets


def _busy(runtime: Runtime) -> float:
    return sum(map(_clocks, runtime.nodes))


def _node(before: NodeRow | None, now: NodeRow, seconds: float, busy: float) -> NodeRate:
    calls, packets, clocks = now.calls, now.packets, _clocks(now)
    if before is not None:
        calls, packets = calls - before.calls, packets - before.packets
        clocks -= _clocks(before)
    return NodeRate(
        now.name,
        packets / seconds,
        clocks / packets if packets else 0.0,
        packets / calls if calls else 0.0,
        clocks / busy if busy else 0.0,
    )


def _port(before: PortRow | None, now: PortRow, seconds: float) -> PortRate:
    rx, tx = (
        _moved(getattr(before, way, None), getattr(now, way), seconds) for way in ("rx", "tx")
    )
    return PortRate(now.name, *rx, *tx)


def _moved(before: Moved | None, now: Moved | None, seconds: float) -> tuple[float, float, float]:
    if now is None:
        return 0.0, 0.0, 0.0
    earlier = before or Moved(0, 0, 0)
    return (
        (now.packets - earlier.packets) / seconds,
        8 * (now.bytes - earlier.bytes) / seconds,
        (now.drops - earlier.drops) / seconds,
    )
