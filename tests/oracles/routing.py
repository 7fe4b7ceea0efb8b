# SPDX-License-Identifier: Apache-2.0
"""What becomes of a destination, from plain lists of addresses, routes and neighbors.

Longest match (RFC 1812 section 5.2.4.3); then local, connected, configured; then the lowest metric.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

LINK_LOCAL = ip_network("fe80::/10")
NO_ROUTE = {4: ("error", 3, 0), 6: ("error", 1, 0)}
KINDS = {
    "local": {4: ("local",), 6: ("local",)},
    "blackhole": {4: ("drop",), 6: ("drop",)},
    "unreachable": {4: ("error", 3, 1), 6: ("error", 1, 3)},
    "prohibit": {4: ("error", 3, 13), 6: ("error", 1, 1)},
}
NEVER = tuple(
    map(ip_network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8"))
)


@dataclass
class World:
    """vrf_of: of each port. routes: (VRF, prefix, metric) -> a kind, ("port", n) or {hop: weight}."""

    vrf_of: dict
    addresses: set = field(default_factory=set)  # (port, interface)
    routes: dict = field(default_factory=dict)
    neighbors: dict = field(default_factory=dict)  # (port, address) -> (MAC, stale)

    def port_towards(self, vrf, address):
        """The port with the longest connected prefix, or None."""
        fitting = [
            (i.network.prefixlen, -port)
            for port, i in self.addresses
            if self.vrf_of[port] == vrf
            and i.version == address.version
            and i.network.prefixlen < i.max_prefixlen
            and address in i.network
            and not (i.version == 6 and i.ip in LINK_LOCAL)
        ]
        return -max(fitting)[1] if fitting else None

    def candidates(self, vrf):
        """(prefix, rank, what) of all routes of a VRF; the lowest rank of a prefix counts."""
        for prefix in NEVER:
            yield prefix, (1, 0), "blackhole"
        for port, i in self.addresses:
            if self.vrf_of[port] != vrf or (i.version == 6 and i.ip in LINK_LOCAL):
                continue
            yield ip_network(i.ip), (0, port), "local"
            spare = i.max_prefixlen - i.network.prefixlen
            if spare >= 1:
                yield i.network, (1, port), ("port", port)
            if spare >= 2 and i.version == 4:
                yield ip_network(i.network.broadcast_address), (1, port), "blackhole"
            if spare >= 2 and i.version == 6:
                yield ip_network(i.network.network_address), (0, port), "local"
        for (of, prefix, metric), what in self.routes.items():
            if of == vrf:
                yield prefix, (2, metric), what

    def best(self, vrf, address):
        """What the longest and best route says, or None."""
        fitting = [
            (-prefix.prefixlen, rank, n, what)
            for n, (prefix, rank, what) in enumerate(self.candidates(vrf))
            if address.version == prefix.version and address in prefix
        ]
        return min(fitting)[3] if fitting else None

    def hop(self, port, address, final):
        """What becomes of packets to a next hop; final: it is the destination itself."""
        known = self.neighbors.get((port, address))
        if known is None or (final and address.version == 6 and address in LINK_LOCAL):
            return "resolve", port, None if final else address
        mac, stale = known
        return "notify" if stale else "rewrite", port, mac

    def fate(self, vrf, address):
        """What becomes of a packet to an address; of a multipath one, its {hop: weight}."""
        address = ip_address(address)
        what = self.best(vrf, address)
        if what is None:
            return NO_ROUTE[address.version]
        if isinstance(what, str):
            return KINDS[what][address.version]
        if isinstance(what, tuple):
            return self.hop(what[1], address, final=True)
        if len(what) == 1:
            return self.hop(*next(iter(what)), final=False)
        return what
