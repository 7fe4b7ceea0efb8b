# SPDX-License-Identifier: Apache-2.0
"""A forwarder's counters as metrics for Prometheus, read from its arena when they are asked for.

Counters count since the forwarder began, whatever was cleared. Clocks are those of the time stamp counter,
of which vforward_clocks_per_second are a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import vforward
from vforward.control import observe_firewall
from vforward.graph import control as c

if TYPE_CHECKING:
    from vforward.control.observe import View
    from vforward.control.observe_rows import Moved

CONTENT_TYPE = CONTENT_TYPE_LATEST
FREE = 2
"""Word of the segment "stack", as u32, that counts free buffers (memory.pool)."""


def text(view: View) -> bytes:
    """All metrics, in Prometheus' text format. view: one that does not heed clear."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(view))
    return generate_latest(registry)


class _Collector:
    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        yield from self._forwarder()
        yield from self._worker()
        yield from self._ports()
        yield from self._nodes()
        yield from self._tables()
        if (self._view.arena.path / "firewall.json").exists():
            yield from self._firewall()

    def _forwarder(self) -> Iterator[Metric]:
        about = self._view.about
        info = InfoMetricFamily("vforward", "the forwarder")
        info.add_metric([], {"name": about["name"], "version": vforward.__version__})
        yield info
        yield _gauge(
            "start_time_seconds", "when it was built, seconds since 1970", about["started"]
        )
        yield _gauge("clocks_per_second", "of the time stamp counter", about["tsc_hz"])

    def _worker(self) -> Iterator[Metric]:
        view = self._view
        running = GaugeMetricFamily(
            "vforward_worker_running", "1 while the worker forwards", labels=["worker"]
        )
        for worker, state in enumerate(view.words(c.STATE)):
            running.add_metric([str(worker)], float(state == c.RUNNING))
        yield running
        for name, meaning, word in (
            ("rounds", "rounds of the worker's loop", c.ROUNDS),
            ("sleeps", "times that the worker slept", c.SLEEPS),
        ):
            made = _counters(name, meaning, "worker")
            for worker, n in enumerate(view.words(word)):
                made.add_metric([str(worker)], n)
            yield made
        yield self._rounds()

    def _rounds(self) -> Metric:
        """How long rounds with packets took, by powers of two."""
        hz = self._view.about["tsc_hz"]
        made = HistogramMetricFamily(
            "vforward_round_seconds",
            "how long a round with packets took: what one adds to latency",
            labels=["worker"],
        )
        for worker, control in enumerate(self._view.controls):
            total, buckets = 0, []
            for bucket, count in enumerate(control[c.ROUND_TIMES :][: c.ROUND_BUCKETS].tolist()):
                total += count
                last = bucket == c.ROUND_BUCKETS - 1
                upto = "+Inf" if last else f"{c.round_clocks(bucket) / hz:.3g}"
                buckets.append((upto, float(total)))
            made.add_metric([str(worker)], buckets, int(control[c.ROUND_CLOCKS]) / hz)
        return made

    def _ports(self) -> Iterator[Metric]:
        rows = self._view.ports()
        received = [(row.name, row.rx) for row in rows]
        sent = [(row.name, row.tx) for row in rows]
        for way, moved in (("received", received), ("sent", sent)):
            for what in ("packets", "bytes", "drops"):
                made = _counters(f"port_{way}_{what}", f"{what} of the port, {way}", "port")
                for name, one in moved:
                    if one is not None:
                        made.add_metric([name], _of(one, what))
                yield made

    def _nodes(self) -> Iterator[Metric]:
        nodes = self._view.runtime().nodes
        for what, text_, values in (
            ("calls", "calls of the node", [n.calls for n in nodes]),
            ("packets", "packets that the node was given", [n.packets for n in nodes]),
            (
                "clocks",
                "clocks spent in it",
                [round(n.clocks_per_packet * n.packets) for n in nodes],
            ),
            (
                "empty_polls",
                "polls of the input that found nothing",
                [n.empty_polls for n in nodes],
            ),
        ):
            made = _counters(f"node_{what}", text_, "node")
            for node, value in zip(nodes, values, strict=True):
                made.add_metric([node.name], value)
            yield made
        drops = _counters("drops", "packets dropped", "node", "reason")
        events = _counters("events", "what nodes count besides drops", "node", "event")
        for row in self._view.errors():
            (drops if row.drop else events).add_metric([row.node, row.reason], row.count)
        yield drops
        yield events

    def _tables(self) -> Iterator[Metric]:
        view = self._view
        yield _gauge("routes", "routes in force", view.routes().count)
        yield _gauge("neighbors", "neighbors known or asked for", view.neighbors().count)
        macs = GaugeMetricFamily("vforward_macs", "MACs that a bridge knows", labels=["bridge"])
        for row in view.bridges():
            macs.add_metric([row["bridge"]], row["macs"])
        yield macs
        if view.has("stack"):
            stack = view.arena.open("stack")
            yield _gauge("buffers", "buffers of the pool", stack.size - 2 * FREE)
            free = int(stack[FREE : FREE + 2].view("u8")[0])
            yield _gauge("buffers_free", "of them those that nobody has, caches included", free)

    def _firewall(self) -> Iterator[Metric]:
        found = observe_firewall.about(self._view)
        states = GaugeMetricFamily("vforward_sessions", "sessions, by state", labels=["state"])
        for state, n in observe_firewall.sessions(self._view).by_state().items():
            states.add_metric([state], n)
        yield states
        yield _gauge("sessions_max", "sessions that there is room for", found["capacity"])
        policed = {
            what: _counters(f"policer_{what}", f"{what} that it has seen", "policer", "colour")
            for what in ("packets", "bytes")
        }
        for row in observe_firewall.policers(self._view):
            for colour in observe_firewall.COLOURS:
                for what, made in policed.items():
                    made.add_metric([row["name"], colour], row[f"{colour}_{what}"])
        yield from policed.values()
        for what, meaning in (
            ("allocated", "ports found"),
            ("exhausted", "times that none was free"),
        ):
            made = _counters(f"nat_{what}", f"of the pool of a rule of NAT: {meaning}", "rule")
            for row in observe_firewall.nat(self._view):
                if row[what] is not None:
                    made.add_metric([row["name"] or str(row["number"])], row[what])
            yield made


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"vforward_{name}", meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"vforward_{name}", meaning, value=value)


def _counters(name: str, meaning: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"vforward_{name}", meaning, labels=labels)


def _of(moved: Moved, what: str) -> int:
    return int(getattr(moved, what))
