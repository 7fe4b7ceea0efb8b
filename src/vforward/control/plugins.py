# SPDX-License-Identifier: Apache-2.0
"""The plug-ins of a forwarder: loaded, replaced and unloaded while it forwards. adr/0030.

A plug-in is tried and compiled in a process of its own (control.plugin_helper), then loaded here, laid
into a graph that takes the old one's place (control.succession), and only then switched on at its ports.
Whatever is wrong with it is said before a packet could meet it, and the old graph goes on.

Where a plug-in was unloaded its bit on the arc stays: packets that wait somewhere may have it, and pass.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vforward.control.not_found import NotFound
from vforward.control.plugin import DROP, Plugin, Tables
from vforward.control.plugin_helper import CPU_S, STAGES, WAIT_S, Helper
from vforward.control.plugin_rows import PluginChange, PluginRow
from vforward.control.plugin_source import Source, content_of, load
from vforward.control.wording import listed, nearest
from vforward.errors import ConfigError, KernelError, VforwardError
from vforward.graph.arcs import Arc
from vforward.graph.build import Graph
from vforward.layout import ARC_BITS
from vforward.nodes.interface import past

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder


@dataclass(frozen=True)
class Loaded:
    """A plug-in that is in the graph. bit: its place on its arc. tables: by worker."""

    source: Source
    bit: int
    tables: tuple[Tables, ...]
    since: float

    @property
    def plugin(self) -> Plugin:
        """What it says of itself."""
        return self.source.plugin

    @property
    def name(self) -> str:
        """Its node's name, by which it is known."""
        return self.plugin.node.name


class Plugins:
    """All of them. Any thread."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._loaded: dict[str, Loaded] = {}
        self._left: dict[str, frozenset[int]] = {}
        """By arc, bits where a plug-in was."""
        self._good: set[tuple[str, str]] = set()
        """What was tried and found good: place, digest."""
        self._trying = threading.Lock()
        self.helper = Helper()

    def rows(self) -> list[PluginRow]:
        """Those that are loaded, in the order in which they were."""
        return [
            PluginRow(
                name=one.name,
                place=one.source.place,
                digest=one.source.digest,
                arc=one.plugin.arc,
                after=one.plugin.after,
                before=one.plugin.before,
                ports=[*one.plugin.ports],
                tables=[*one.plugin.tables],
                since=one.since,
            )
            for one in [*self._loaded.values()]
        ]

    def load(self, place: str) -> PluginChange:
        """Load a plug-in: a file's path, or an entry point's name.

        Raises KernelError, WiringError, ConfigError for what is wrong with it, VforwardError for what
        cannot be now; then all is as it was.
        """
        source = self._tried(place)  # takes its time, so it holds up no other change
        name = source.plugin.node.name
        with self._forwarder.changing:
            if name in self._loaded:
                raise VforwardError(
                    f"plug-in {name} is loaded already; replace it, or unload it first"
                )
            return self._put(source, None)

    def replace(self, name: str, place: str = "") -> PluginChange:
        """Load a plug-in in place of one that is loaded; from the same place, if none is given.

        What is in its tables stays, where name and layout are the same. Raises as load, and NotFound.
        """
        source = self._tried(place or self._find(name).source.place)
        with self._forwarder.changing:
            old = self._find(name)
            if source.plugin.node.name != name:
                raise ConfigError(
                    f"plug-in {name}: {source.place} is {source.plugin.node.name}: "
                    "load that, and unload this"
                )
            return self._put(source, old)

    def unload(self, name: str) -> PluginChange:
        """Take a plug-in out of the graph; its state is forgotten. Raises NotFound, VforwardError."""
        with self._forwarder.changing:
            old = self._find(name)
            self._switch(old, ())
            wanted = {key: one for key, one in self._loaded.items() if key != name}
            left = self._leaving(old)
            try:
                stood = self._forwarder.replace_graph(lambda graph: _lay(graph, wanted, left))
            except BaseException:
                self._switch(old, self._ports(old.plugin))
                raise
            self._loaded, self._left = wanted, left
            old.source.let_go()
            return PluginChange(name, [], [], max(stood, default=0.0))

    def lay(self, graph: Graph) -> None:
        """Lay those that are loaded into a graph, as it is laid out anew. Raises WiringError."""
        _lay(graph, self._loaded, self._left)

    def enable(self) -> None:
        """Switch all on at their ports: there may be new ones."""
        for one in self._loaded.values():
            there = [i for i in self._forwarder.interfaces if i.name in one.plugin.ports]
            self._switch(
                one, [i.number for i in there] if one.plugin.ports else self._ports(one.plugin)
            )

    def close(self) -> None:
        """End the process that tries them. Harmless when repeated."""
        self.helper.close()

    def _find(self, name: str) -> Loaded:
        if name not in self._loaded:
            there = listed(self._loaded) or "none"
            raise NotFound(f"no plug-in {name!r} is loaded; there are: {there}")
        return self._loaded[name]

    def _tried(self, place: str) -> Source:
        """Try a plug-in in a process of its own, unless that was done, and then load it."""
        with self._trying:
            tried = content_of(place)
            for checked in () if tried in self._good else (True, False):
                error = _outcome(self.helper.ask({"place": place}, checked=checked))
                if error:
                    raise KernelError(error)
            source = load(place, tried)
            if tried:
                self._good.add(tried)
            return source

    def _put(self, source: Source, old: Loaded | None) -> PluginChange:
        plugin, name = source.plugin, source.plugin.node.name
        arc = self._arc(plugin)
        ports = self._ports(plugin)
        bit = _place(plugin, arc, old)
        tables, kept = self._tables(plugin, old)
        wanted = {**self._loaded, name: Loaded(source, bit, tables, time.time())}
        moved = old is not None and (old.plugin.arc, old.bit) != (plugin.arc, bit)
        left = self._leaving(old) if old is not None and moved else {**self._left}
        left[arc.name] = left.get(arc.name, frozenset()) - {bit}
        stood = self._forwarder.replace_graph(lambda graph: _lay(graph, wanted, left))
        self._loaded, self._left = wanted, left
        if old is not None and moved:
            with self._forwarder.moving:  # as in _switch
                gone = self._forwarder.graph.arcs[old.plugin.arc]
                for interface in self._forwarder.interfaces:
                    gone.disable(_past(gone.name, old.bit), interface.number)
        self._switch(wanted[name], ports)
        if old is not None:
            old.source.let_go()
        begun = [table for table in plugin.tables if table not in kept]
        return PluginChange(name, sorted(kept), sorted(begun), max(stood, default=0.0))

    def _leaving(self, one: Loaded) -> dict[str, frozenset[int]]:
        """The bits that stay, when one goes as well."""
        arc = one.plugin.arc
        return {**self._left, arc: self._left.get(arc, frozenset()) | {one.bit}}

    def _arc(self, plugin: Plugin) -> Arc:
        arcs = self._forwarder.graph.arcs
        if plugin.arc not in arcs:
            raise ConfigError(
                f"plug-in {plugin.node.name}: no arc {plugin.arc!r}{nearest(plugin.arc, [*arcs])}; "
                f"there are: {listed(arcs)}"
            )
        return arcs[plugin.arc]

    def _ports(self, plugin: Plugin) -> tuple[int, ...]:
        """Numbers of the ports whose packets visit it. Raises ConfigError."""
        interfaces = self._forwarder.interfaces
        if plugin.ports:
            return tuple(interfaces.find(name).number for name in plugin.ports)
        return tuple(interface.number for interface in interfaces)

    def _tables(self, plugin: Plugin, old: Loaded | None) -> tuple[tuple[Tables, ...], set[str]]:
        """By worker, the plug-in's tables, and the names of those that are the old one's."""
        before = {} if old is None else old.plugin.tables
        kept = {n for n, t in plugin.tables.items() if n in before and t.layout == before[n].layout}
        shared = {n: t.make() for n, t in plugin.tables.items() if n not in kept and not t.each}
        by_worker: list[Tables] = []
        for worker in range(self._forwarder.n_workers):
            own = {n: t.make() for n, t in plugin.tables.items() if n not in kept and t.each}
            fresh = plugin.begin({**shared, **own})
            there = {} if old is None else {n: old.tables[worker][n] for n in kept}
            by_worker.append({**fresh, **there})
        return tuple(by_worker), kept

    def _switch(self, one: Loaded, ports: Iterable[int]) -> None:
        """Send the packets of these ports through it, and of no other."""
        wanted = set(ports)
        with self._forwarder.moving:  # a change of the configuration switches other bits of a word
            arc = self._forwarder.graph.arcs[one.plugin.arc]
            for interface in self._forwarder.interfaces:
                switch = arc.enable if interface.number in wanted else arc.disable
                switch(one.name, interface.number)


def _lay(graph: Graph, loaded: Mapping[str, Loaded], left: Mapping[str, Iterable[int]]) -> None:
    for one in loaded.values():
        graph.add(one.plugin.node, own=one.tables)
        for edge in one.plugin.node.edge_labels:
            graph.wire(one.name, edge, one.plugin.ways.get(edge, DROP))
        graph.add_feature(one.plugin.arc, one.name, one.bit)
    for arc, bits in left.items():
        for bit in bits:
            graph.add_feature(arc, graph.add(past.NODE, _past(arc, bit)), bit)


def _past(arc: str, bit: int) -> str:
    return f"{arc}-past-{bit}"


def _place(plugin: Plugin, arc: Arc, old: Loaded | None) -> int:
    """A bit where it may stand: that of the old one, one that is free, or one where another stood.

    Raises ConfigError.
    """
    where = f"plug-in {plugin.node.name}"
    others = {f: bit for f, bit in arc.bits.items() if old is None or f != old.name}
    real = {f: bit for f, bit in others.items() if f != _past(arc.name, bit)}
    named = {name: _bit(where, name, arc, real) for name in (plugin.after, plugin.before) if name}
    end = ARC_BITS - 1
    if plugin.after:
        low = named[plugin.after] + 1
    else:  # right before what it is to be before, or at the end
        low = max((b for b in real.values() if b < named.get(plugin.before, end)), default=-1) + 1
    if plugin.before:
        high = named[plugin.before]
    else:
        high = min((b for b in real.values() if b >= low), default=end)
    room = range(low, high)
    if old is not None and old.plugin.arc == arc.name and old.bit in room:
        return old.bit
    for taken in (others, real):
        free = [bit for bit in room if bit not in taken.values()]
        if free:
            return min(free, key=lambda bit: abs(bit - (low + high - 1) / 2))
    between = " and ".join(
        f"{word} {n}" for word, n in (("after", plugin.after), ("before", plugin.before)) if n
    )
    raise ConfigError(f"{where}: there is no place {between or 'at the end'} on arc {arc.name}")


def _bit(where: str, name: str, arc: Arc, known: Mapping[str, int]) -> int:
    """Of a feature, by its name or by that without the arc's family."""
    for full in (name, f"{arc.name.partition('-')[0]}-{name}"):
        if full in known:
            return known[full]
    names = [*known]
    raise ConfigError(
        f"{where}: no feature {name!r} on arc {arc.name}{nearest(name, names)}; it has: {listed(names)}"
    )


def _outcome(answer: Mapping[str, Any]) -> str:
    """What the process in which a plug-in was tried says is wrong with it; empty: nothing."""
    said = [json.loads(line) for line in answer["out"].splitlines() if line.startswith("{")]
    if said and "error" in said[-1]:
        return str(said[-1]["error"])
    stage = said[-1]["stage"] if said else STAGES[0]
    status = answer["status"]
    if status is None:
        return f"{stage} the plug-in took more than {WAIT_S:.0f} s"
    if status == -signal.SIGVTALRM:
        return (
            f"its kernel does not return: {CPU_S:.0f} s were not enough for a few hundred packets"
        )
    if status < 0:
        name = signal.Signals(-status).name
        return f"{stage} it ended its process by {name}: it reads or writes where there is nothing"
    return f"{stage} it ended its process, status {status}: {answer['err'].strip()[-300:]}"
