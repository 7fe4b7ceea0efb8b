# SPDX-License-Identifier: Apache-2.0
"""Bridging: the control side of the switch. Domains, their members, MACs, ageing, tags.

    bridging = Bridging(arena, ports)
    lan = bridging.add_domain("lan", BridgeSettings(limit=1000))
    bridging.add_member(lan, 3)
    graph.tables |= bridging.tables
    ...
    due = bridging.step(time.monotonic())      # and again when that is due

One thread changes it and one calls step; any may ask. The worker may be running.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ConfigError
from vforward.memory.arena import Arena
from vforward.packet import ethernet as eth
from vforward.tables import bridge, mac, mac_restore

AGE_S = 300.0
"""IEEE 802.1Q-2018 table 8-6."""
AGE_MIN_S, AGE_MAX_S = 10.0, 1_000_000.0
TAGS_MAX = 2
VID_MAX = 4094
PUSHABLE = (eth.VLAN, eth.QINQ)


@dataclass(frozen=True)
class BridgeSettings:
    """What a bridge domain does. limit: of learned MACs; None: what the table has room for."""

    learn: bool = True
    flood_unknown: bool = True
    flood_broadcast: bool = True
    flood_multicast: bool = True
    forward_reserved: bool = False
    limit: int | None = None

    @property
    def flags(self) -> int:
        """As tables.bridge has them."""
        return (
            bridge.LEARN * self.learn
            | bridge.FLOOD_UNKNOWN * self.flood_unknown
            | bridge.FLOOD_BROADCAST * self.flood_broadcast
            | bridge.FLOOD_MULTICAST * self.flood_multicast
            | bridge.FORWARD_RESERVED * self.forward_reserved
        )


class Known(NamedTuple):
    """A MAC as users see it. age_s: since it was last heard, to a sixteenth of the ageing time."""

    domain: str
    mac: int
    port: int
    static: bool
    age_s: float


class Counters(NamedTuple):
    """Of a domain: MACs learned that it has now, and how often one was heard elsewhere."""

    learned: int
    moves: int


class Tag(NamedTuple):
    """A VLAN tag: its EtherType (0x8100 or 0x88a8) and VLAN id."""

    tpid: int
    vid: int


class Rewrite(NamedTuple):
    """Tags taken off, then put on (the outer first), of what comes in and of what goes out."""

    in_pop: int
    in_push: tuple[Tag, ...]
    out_pop: int
    out_push: tuple[Tag, ...]


def rewrite(match: Sequence[Tag], pop: int | None = None, push: Sequence[Tag] = ()) -> Rewrite:
    """The rewrite of a port whose frames carry the tags match, the outer first (a port's own: none).

    pop: how many of them come off on the way in; None: all. On the way out the inverse is done, so
    that the other side sees its own tags. Raises ConfigError.
    """
    pop = len(match) if pop is None else pop
    if not 0 <= pop <= len(match):
        msg = f"rewrite: pop = {pop}, but the frames carry {len(match)} known tags"
        raise ConfigError(msg)
    if len(push) > TAGS_MAX:
        msg = f"rewrite: push has {len(push)} tags, at most {TAGS_MAX} can be put on"
        raise ConfigError(msg)
    for tag in push:
        if not 1 <= tag.vid <= VID_MAX:
            msg = f"rewrite: push: VLAN id {tag.vid} is not in 1..{VID_MAX}"
            raise ConfigError(msg)
        if tag.tpid not in PUSHABLE:
            msg = f"rewrite: push: {tag.tpid:#06x} is no tag's EtherType: 0x8100 or 0x88a8"
            raise ConfigError(msg)
    return Rewrite(pop, tuple(push), len(push), tuple(match[:pop]))


class Bridging:
    """All bridge domains of a forwarder. ``tables`` is what the graph gets.

    ports is PORT[n_ports]; of it this writes how tags change. A port's domain and group lie in
    ``relay``, a port's MAC of a BVI in its MAC table.
    """

    def __init__(
        self,
        arena: Arena,
        ports: NDArray[Any],
        *,
        entries: int = mac.ENTRIES,
        age_s: float = AGE_S,
    ) -> None:
        if ports.size > mac.PORTS_MAX:
            msg = f"{ports.size} ports, but a MAC table knows {mac.PORTS_MAX}"
            raise ConfigError(msg)
        if not mac.ENTRIES_MIN <= entries <= mac.ENTRIES_MAX:
            msg = f"MAC table: {entries} entries, not {mac.ENTRIES_MIN} to {mac.ENTRIES_MAX}"
            raise ConfigError(msg)
        if not AGE_MIN_S <= age_s <= AGE_MAX_S:
            msg = f"MAC table: ageing time {age_s} s, not {AGE_MIN_S:g} to {AGE_MAX_S:g}"
            raise ConfigError(msg)
        shared = bridge.make_tables(arena, ports.size)
        self._ports = ports
        self._domains, self._members = shared["domains"], shared["members"]
        self._relay = shared["relay"]
        self._macs = mac.MacTable(arena, self._domains, entries)
        self._names: dict[int, str] = {}
        self._tick_s = age_s / mac.PER_AGE
        self._due: float | None = None
        self.tables: dict[str, NDArray[Any]] = {**shared, "mac": self._macs.table}

    def add_domain(self, name: str, settings: BridgeSettings | None = None) -> int:
        """Make a bridge domain; returns its number. Raises ConfigError."""
        if name in self._names.values():
            msg = f"bridge domain {name!r}: there is one already"
            raise ConfigError(msg)
        free = (n for n in range(1, bridge.DOMAINS) if n not in self._names)
        domain = next(free, 0)
        if not domain:
            msg = f"bridge domain {name!r}: there are {bridge.DOMAINS - 1} already, which is all"
            raise ConfigError(msg)
        settings = settings or BridgeSettings()
        self._refuse_limit(name, settings)
        self._names[domain] = name
        self._domains[domain]["moves"] = 0
        self.set(domain, settings)
        return domain

    def set(self, domain: int, settings: BridgeSettings) -> None:
        """Change what a domain does. One that learns no more forgets what it has learned."""
        self._refuse_limit(self._name(domain), settings)
        limit = bridge.NO_LIMIT if settings.limit is None else settings.limit
        self._domains[domain]["limit"] = limit
        self._domains[domain]["flags"] = settings.flags
        if not settings.learn:
            self._macs.flush(domain)

    def delete_domain(self, domain: int) -> None:
        """Take all ports out of a domain, and forget it and its MACs."""
        self._name(domain)
        for port in self.members(domain):
            self.delete_member(domain, port)
        self.set_bvi(domain, 0)
        self._domains[domain]["flags"] = 0
        self._macs.flush(domain, statics=True)
        del self._names[domain]

    def members(self, domain: int) -> list[int]:
        """The ports of a domain, in the order of a flood; the BVI is none of them."""
        return list(bridge.members_of(self._domains, self._members, domain))

    def add_member(self, domain: int, port: int, group: int = 0) -> None:
        """Put a BRIDGED port into a domain. group: its split-horizon group, 0: none."""
        self._refuse_port(domain, port)
        if not 0 <= group < 256:
            msg = f"port {port}: split-horizon group {group} is not in 0..255"
            raise ConfigError(msg)
        self._relay[port] = bridge.relay_word(port, domain, group)
        bridge.add_member(self._domains, self._members, domain, port)
        self._note_rewriting()

    def delete_member(self, domain: int, port: int) -> None:
        """Take a port out of its domain, its MACs with it. Raises KeyError when it is not in it."""
        bridge.delete_member(self._domains, self._members, domain, port)
        self._relay[port] = 0
        self._macs.flush(port=port, statics=True)
        self._note_rewriting()

    def set_bvi(self, domain: int, port: int) -> None:
        """Give a domain the BVI port as its routed interface, with that port's MAC; 0: none."""
        old = int(self._domains[domain]["bvi"])
        if port == old:
            return
        if port:
            self._refuse_port(domain, port)
        self._domains[domain]["bvi"] = 0
        if old:
            self._relay[old] = 0
            self._macs.flush(port=old, statics=True)
        if port:
            self._relay[port] = bridge.relay_word(port, domain, bvi=True)
            self._macs.add_static(domain, int(self._ports[port]["mac"]), port)
            self._domains[domain]["bvi"] = port

    def add_static(self, domain: int, address: int, port: int) -> None:
        """Bind a MAC to a port of the domain for good. Raises ConfigError, TableFull."""
        if not 0 < address < eth.BROADCAST or address & eth.GROUP_BIT:
            msg = f"bridge domain {self._name(domain)!r}: {address:012x} is no station's MAC"
            raise ConfigError(msg)
        if bridge.domain_of(int(self._relay[port])) != domain:
            msg = f"bridge domain {self._name(domain)!r}: port {port} is not in it"
            raise ConfigError(msg)
        self._macs.add_static(domain, address, port)

    def delete(self, domain: int, address: int) -> None:
        """Forget a MAC, static or learned. Raises KeyError when it is not known."""
        self._macs.delete(domain, address)

    def flush(self, domain: int = 0, port: int = 0) -> int:
        """Forget what was learned, in a domain, at a port (0: any). Returns how many MACs."""
        return self._macs.flush(domain, port)

    def count(self) -> int:
        """How many MACs all domains know, static ones too."""
        return int(np.count_nonzero(self._macs.table))

    def entries(self, most: int | None = None) -> list[Known]:
        """The MACs, by domain; at most so many, the first of them."""
        names = self._names.copy()
        return [
            Known(names[e.domain], e.mac, e.port, e.static, e.age * self._tick_s)
            for e in self._macs.entries(most)
            if e.domain in names
        ]

    def counters(self) -> dict[str, Counters]:
        """By name of the domain."""
        return {
            name: Counters(*(int(self._domains[domain][field]) for field in ("count", "moves")))
            for domain, name in self._names.copy().items()
        }

    def step(self, now: float) -> float:
        """Let MACs age: now is the time in seconds by any clock. Returns when the next step is due."""
        if self._due is None:
            self._due = now + self._tick_s
        for _ in range(mac.PER_AGE + 1):  # after that all are gone, however late it is
            if now < self._due:
                return self._due
            self._macs.tick()
            self._due += self._tick_s
        self._due = max(self._due, now + self._tick_s)
        return self._due

    def restore(
        self,
        macs: NDArray[np.uint64],
        domains: NDArray[Any],
        names: NDArray[np.int64],
        numbers: NDArray[np.int64],
        down_s: float,
    ) -> tuple[int, int]:
        """Know what another process had learned, of which macs and domains are the tables.

        names, numbers: see mac_restore. down_s: how long it has not run. Returns how many MACs are known
        by that, and how many entries were damaged. Raises ValueError. No worker runs.
        """
        for old in np.flatnonzero(names > 0).tolist():
            if old < domains.size:
                self._domains[int(names[old])]["moves"] += domains[old]["moves"]
        was = int(domains[0]["now"]) % mac.TICKS
        down = int(min(down_s / self._tick_s, mac.TICKS))
        table, relay = self._macs.table, self._relay
        found = mac_restore.restore(macs, table, self._domains, relay, names, numbers, was, down)
        return int(found[mac_restore.RESTORED]), int(found[mac_restore.DAMAGED])

    def set_tags(self, port: int, change: Rewrite) -> None:
        """Say how tags change at a port. Before it becomes a member, so that all frames are alike."""
        record = self._ports[port]
        for way, pop, push in (
            ("in", change.in_pop, change.in_push),
            ("out", change.out_pop, change.out_push),
        ):
            words = [tag.tpid << 16 | tag.vid for tag in push]
            record[f"{way}_tags"] = words + [0] * (TAGS_MAX - len(words))
            record[f"{way}_pop"], record[f"{way}_push"] = pop, len(push)
        self._note_rewriting()

    def check(self) -> None:
        """Assert all invariants. Only while no worker runs."""
        self._macs.check()
        for domain in range(1, bridge.DOMAINS):
            bvi = int(self._domains[domain]["bvi"])
            ours = self.members(domain)
            assert len(set(ours)) == len(ours), f"domain {domain}: a member twice"
            words = np.flatnonzero(self._relay >> 16 & 0xFF == domain).tolist()
            assert sorted(words) == sorted({*ours, bvi} - {0}), f"domain {domain}: relay"

    def _note_rewriting(self) -> None:
        """Tell the worker whether it has to look for tags at all."""
        changes = ("in_pop", "in_push", "out_pop", "out_push")
        ours = self._ports[np.flatnonzero(self._relay)]
        self._domains[0]["rewriting"] = any(ours[field].any() for field in changes)

    def _name(self, domain: int) -> str:
        if domain not in self._names:
            msg = f"there is no bridge domain {domain}"
            raise ConfigError(msg)
        return self._names[domain]

    @staticmethod
    def _refuse_limit(name: str, settings: BridgeSettings) -> None:
        if settings.limit is not None and not 0 <= settings.limit < bridge.NO_LIMIT:
            msg = f"bridge domain {name!r}: limit = {settings.limit} is no number of MACs"
            raise ConfigError(msg)

    def _refuse_port(self, domain: int, port: int) -> None:
        name = self._name(domain)
        if not 0 < port < self._relay.size:
            msg = f"bridge domain {name!r}: there is no port {port}"
            raise ConfigError(msg)
        other = bridge.domain_of(int(self._relay[port]))
        if other:
            msg = f"bridge domain {name!r}: port {port} is in {self._names[other]!r} already"
            raise ConfigError(msg)
