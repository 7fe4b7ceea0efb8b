# SPDX-License-Identifier: Apache-2.0
"""What routes lead to, made of paths and kinds: next hops found, targets shared and counted.

A target has one use of its adjacency (of a next hop, a group of them, or a fixed one), however many
routes lead to it. Who asks for one gets a use of it, to be ended by unuse. The caller has the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from vforward.control import adjacencies as adj
from vforward.control.adjacencies import Adjacencies, Hop, is_ip4
from vforward.control.multipath import PATHS_MAX, WEIGHT_MAX, Groups
from vforward.control.route_table import Order, RouteTable, Target
from vforward.control.routes import BITS, Address, Interface, Path, wide
from vforward.errors import ConfigError

KINDS = {
    "local": (adj.LOCAL, adj.LOCAL),
    "blackhole": (adj.BLACKHOLE, adj.BLACKHOLE),
    "unreachable": (adj.UNREACHABLE, adj.UNREACHABLE6),
    "prohibit": (adj.PROHIBIT, adj.PROHIBIT6),
}
"""Routes to no next hop: the adjacencies of IPv4 and of IPv6."""


class Targets:
    """All targets. interfaces: the addresses of ports, and their VRFs, as they are now."""

    def __init__(
        self,
        adjacencies: Adjacencies,
        groups: Groups,
        ports: NDArray[Any],
        interfaces: dict[tuple[int, Interface], int],
    ) -> None:
        self._adjacencies, self._groups = adjacencies, groups
        self._ports, self._interfaces = ports, interfaces
        self._targets: dict[tuple[Any, ...], Target] = {}
        self._users: dict[Target, int] = {}  # routes

    def __len__(self) -> int:
        return len(self._targets)

    def use(self, target: Target, n: int = 1) -> Target:
        """More uses of a target; less than 0: fewer."""
        self._users[target] += n
        if n < 0:
            self._groups.left(target.number)
        if not self._users[target]:
            del self._users[target], self._targets[target.what]
            self._groups.release(target.number)
        return target

    def unuse(self, target: Target) -> None:
        """End a use, when no table leads there on its behalf."""
        self.use(target, -1)

    def _target(self, *what: Any) -> Target:
        """A use of a target, for a use of its adjacency."""
        target = self._targets.get(what)
        if target is None:
            target = self._targets[what] = Target(*what)
            self._users[target] = 1
        else:
            self._users[target] += 1
            self._groups.release(target.number)
        return target

    def own(self, table: RouteTable, port: int, order: Order, kind: str) -> Target:
        """A use of a target without a next hop. Raises ConfigError."""
        if kind == "connected":
            return self._target(order, kind, self._adjacencies.hop((port, 0)), (), port, port)
        if kind not in KINDS:
            msg = f"no kind of route {kind!r}; there are: {', '.join(KINDS)}"
            raise ConfigError(msg)
        return self._target(order, kind, KINDS[kind][table.bits == 128], (), port, 0)

    def via(
        self,
        table: RouteTable,
        order: Order,
        paths: Sequence[Path],
        what: str,
        old: Target | None = None,
    ) -> Target:
        """A use of a target by paths, in place of another one. Raises ConfigError."""
        if not paths or len(paths) > PATHS_MAX:
            msg = f"{what}: takes 1 to {PATHS_MAX} next hops, or a kind"
            raise ConfigError(msg)
        if len(paths) == 1 and paths[0].via is None:
            port = paths[0].port
            if port is None or self._ports[port]["vrf"] != table.vrf:
                msg = f"{what}: give a next hop, or a port of its own VRF"
                raise ConfigError(msg)
            return self.own(table, port, order, "connected")
        weights: dict[Hop, int] = {}
        for path in paths:
            hop = self._hop(table, path, what)
            weights[hop] = weights.get(hop, 0) + path.weight
        if len(weights) == 1:
            hop = next(iter(weights))
            number = self._adjacencies.hop(hop)
            return self._target(order, "via", number, ((hop, 1),), hop[0], 0)
        hops = tuple(sorted(weights.items()))
        if old is None or len(old.hops) < 2:
            number = self._groups.use(weights)
        else:
            alone = self._users[old] == self._adjacencies.users(old.number) == 1
            number = self._groups.use(weights, old.number, alone=alone)
        return self._target(order, "via", number, hops, 0, 0)

    def _hop(self, table: RouteTable, path: Path, what: str) -> Hop:
        via, port = path.via, path.port
        if via is None:
            msg = f"{what}: a path without a next hop stands alone"
            raise ConfigError(msg)
        if BITS[via.version] != table.bits or (via.version == 6 and is_ip4(int(via))):
            msg = f"{what}: next hop {via} is of another family"
            raise ConfigError(msg)
        if not 1 <= path.weight <= WEIGHT_MAX:
            msg = f"{what}: weight {path.weight} of next hop {via} is not in 1 to {WEIGHT_MAX}"
            raise ConfigError(msg)
        if port is None:
            port = self._port_of(table.vrf, via)
        if port is None:
            msg = (
                f"{what}: next hop without a route: {via} is in no port's prefix; "
                "give a port that reaches it"
            )
            raise ConfigError(msg)
        return port, wide(via)

    def _port_of(self, vrf: int, via: Address) -> int | None:
        """The port on whose connected prefix an address is; a link-local one is on any."""
        if via.is_link_local and via.version == 6:
            return None
        covering = [
            (interface.network.prefixlen, -port)
            for (port, interface), there in self._interfaces.items()
            if there == vrf
            and interface.version == via.version
            and interface.network.prefixlen < interface.max_prefixlen
            and via in interface.network
        ]
        return -max(covering)[1] if covering else None
