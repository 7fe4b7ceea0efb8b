# SPDX-License-Identifier: Apache-2.0
"""Routes as users give and see them, and which routes an interface's address gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vforward.control.adjacencies import is_ip4
from vforward.control.route_table import (
    CONNECTED_RANK,
    LOCAL_RANK,
    RANKS,
    Key,
    Order,
    Target,
    key_of,
)
from vforward.errors import ConfigError
from vforward.tables.addresses import mapped_int

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

BITS = {4: 32, 6: 128}
ALWAYS: dict[int, tuple[Network, ...]] = {
    4: tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"))),
    6: (IPv6Network("ff00::/8"),),
}
"""Not routed in any VRF, by IP version: broadcast and multicast; what RFC 1812 section 5.3.7 forbids
(ip4-input does not look at destinations)."""


@dataclass(frozen=True)
class Path:
    """A way of a route: a next hop, or none (each destination is on the port's link)."""

    via: Address | None = None
    port: int | None = None
    weight: int = 1


@dataclass(frozen=True)
class ShownPath:
    """A next hop of a route as users see it."""

    via: str
    port: str
    weight: int


@dataclass(frozen=True)
class Route:
    """A route as users see it. source: local, connected or configured; who wins, in this order."""

    prefix: str
    kind: str  # local, connected, via, blackhole, unreachable, prohibit
    via: str = ""  # the next hops as text: "10.0.1.9", or of several "10.0.1.8*2 10.0.1.9*1"
    paths: tuple[ShownPath, ...] = ()
    port: str = ""  # of local, connected and a single next hop
    metric: int = 0
    vrf: int = 0
    source: str = ""


def key_of_prefix(prefix: Network) -> Key:
    """The prefix as a table's key."""
    return key_of(int(prefix.network_address), prefix.prefixlen)


def routable_key(prefix: Network) -> Key:
    """The same, of a prefix that users may route. Raises ConfigError."""
    for never in ALWAYS[prefix.version]:
        if prefix.subnet_of(never):  # type: ignore[arg-type]
            msg = (
                f"route {prefix}: {never} is not routed (RFC 1812 section 5.3.7, RFC 4291 section "
                "2.7): remove the route"
            )
            raise ConfigError(msg)
    return key_of_prefix(prefix)


def prefix_of(key: Key, bits: int) -> str:
    """A table's key as text."""
    address = IPv4Address(key >> 8) if bits == 32 else IPv6Address(key >> 8)
    return f"{address}/{key & 0xFF}"


def wide(address: Address) -> int:
    """An address as 128 bits."""
    return mapped_int(int(address)) if address.version == 4 else int(address)


def native(address: int) -> int:
    """A 128-bit address as its family's FIB takes it."""
    return address & 0xFFFFFFFF if is_ip4(address) else address


def text_of(address: int) -> str:
    """A 128-bit address as users write it."""
    return str(IPv4Address(native(address)) if is_ip4(address) else IPv6Address(address))


def version_of(address: int) -> int:
    """The IP version of a 128-bit address."""
    return 4 if is_ip4(address) else 6


def is_link_local(address: int) -> bool:
    """Whether a 128-bit address is in fe80::/10 (RFC 4291 section 2.5.6)."""
    return address >> 118 == 0xFE80 >> 6


def given(port: int, interface: Interface) -> dict[tuple[Key, Order], str]:
    """The routes that an address of a port gives, and their kinds.

    The address is local, its prefix connected. IPv4: none to its broadcast (but RFC 3021). IPv6: the
    subnet-router anycast address is local (RFC 4291 section 2.6.1; RFC 6164 section 5: not of a /127);
    a link-local address gives none.
    """
    if interface.version == 6 and is_link_local(int(interface)):
        return {}
    network, bits = interface.network, interface.max_prefixlen
    local, connected = (LOCAL_RANK, 0, port), (CONNECTED_RANK, 0, port)
    routes = {(key_of(int(interface.ip), bits), local): "local"}
    if network.prefixlen < bits:
        routes[key_of_prefix(network), connected] = "connected"
    if network.prefixlen < bits - 1:
        if interface.version == 4:
            routes[key_of(int(network.broadcast_address), bits), connected] = "blackhole"
        else:
            routes[key_of(int(network.network_address), bits), local] = "local"
    return routes


def shown(key: Key, bits: int, vrf: int, target: Target, name: Callable[[int], str]) -> Route:
    """A route as users see it. name: of ports."""
    paths = tuple(ShownPath(text_of(hop), name(port), n) for (port, hop), n in target.hops)
    rank, metric, _ = target.order
    port = name(target.port) if target.port else ""
    several = len(paths) > 1
    via = " ".join(f"{path.via}*{path.weight}" if several else path.via for path in paths)
    return Route(prefix_of(key, bits), target.kind, via, paths, port, metric, vrf, RANKS[rank])


def sorted_keys(
    prefixes: ArrayLike, lengths: ArrayLike, bits: int
) -> tuple[NDArray[Any], NDArray[np.intp], list[Key]]:
    """Many prefixes as u64 (for IPv6 [n, 2]) and their keys, sorted; and whence each came.

    Raises ConfigError when a prefix has host bits or a length is too long.
    """
    whole, length = np.asarray(prefixes, np.uint64), np.asarray(lengths, np.int64)
    if bits == 32:
        order = np.lexsort((length, whole))
        whole, length = whole[order], length[order]
        keys = (whole << np.uint64(8) | length.astype(np.uint64)).tolist()
    else:
        order = np.lexsort((length, whole[:, 1], whole[:, 0]))
        whole, length = whole[order], length[order]
        high, low = whole[:, 0].tolist(), whole[:, 1].tolist()
        keys = [(h << 64 | w) << 8 | n for h, w, n in zip(high, low, length.tolist())]
    if length.size and not 0 <= length.min() <= length.max() <= bits:
        msg = f"a prefix length is not in 0 to {bits}"
        raise ConfigError(msg)
    hosts = [(1 << 8 + bits - n) - 256 for n in range(bits + 1)]  # in a key
    for key in keys:
        if key & hosts[key & 0xFF]:
            msg = f"route {prefix_of(key, bits)}: has host bits set"
            raise ConfigError(msg)
    return whole, order, keys
