# SPDX-License-Identifier: Apache-2.0
"""Adjacencies by use: allocated for a next hop, counted, rewritten and freed at quiet points.

A next hop ("hop") is a port and a 128-bit address there (IPv4 as ::ffff:a.b.c.d), or address 0: each
destination is its own. All who use a hop share its record, which says RESOLVE while the neighbor's MAC
is not known, REWRITE while it is, NOTIFY while it is stale: one store changes all of their packets' way.

A record without users, and the bytes of a header that packets have left, may still be read by workers:
they are written anew only after a quiet point. The caller has the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ConfigError, VforwardError
from vforward.jit.atomics import store_release64
from vforward.jit.intrinsics import address
from vforward.jit.kernel import kernel, u64
from vforward.memory.arena import Arena
from vforward.packet import ethernet as eth
from vforward.tables.addresses import MAPPED, halves
from vforward.tables.adjacency import ADJACENCY, NO_ROUTE, REWRITE_MAX, Way

LOCAL, BLACKHOLE = 1, 2
UNREACHABLE, PROHIBIT = 3, 4
NO_ROUTE6, UNREACHABLE6, PROHIBIT6 = 5, 6, 7
"""IPv6 has its own: the codes of ICMPv6 are others."""
FIXED = {
    NO_ROUTE: (Way.ERROR, 3, 0),  # RFC 1812 section 5.2.7.1: net unreachable
    LOCAL: (Way.LOCAL, 0, 0),
    BLACKHOLE: (Way.DROP, 0, 0),
    UNREACHABLE: (Way.ERROR, 3, 1),
    PROHIBIT: (Way.ERROR, 3, 13),
    NO_ROUTE6: (Way.ERROR, 1, 0),  # RFC 4443 section 3.1: no route to destination
    UNREACHABLE6: (Way.ERROR, 1, 3),
    PROHIBIT6: (Way.ERROR, 1, 1),
}
RESERVED = max(FIXED)

Hop = tuple[int, int]


def is_ip4(address: int) -> bool:
    """Whether a 128-bit address is an IPv4 one."""
    return address >> 32 == MAPPED >> 32


RECORD = ADJACENCY.itemsize


@kernel
def _put_word(table: Any, number: int, word: int, value: Any) -> None:
    """Change one of the three words of a header that workers may be reading."""
    store_release64(address(table) + RECORD * number + 8 * word, u64(value))


class Adjacencies:
    """The records ``table``; numbers up to RESERVED are fixed. quiet waits for a quiet point.

    quiesce: returns True when no worker uses anymore what it read before, False when it gave up.
    """

    def __init__(self, arena: Arena, ports: NDArray[Any], n: int) -> None:
        self.table: NDArray[Any] = arena.make("adjacencies", n, ADJACENCY)
        self.quiesce: Callable[[], bool] = lambda: True
        self._ports = ports
        self._free = list(range(n - 1, RESERVED, -1))
        self._later: list[Callable[[], None]] = []  # what a quiet point allows
        self._left: set[int] = set()  # left REWRITE, but workers may still read their bytes
        self._users: dict[int, int] = {}  # adjacency -> how many
        self._hops: dict[Hop, int] = {}
        for number, (way, kind, code) in FIXED.items():
            self.table[number]["icmp"], self.table[number]["edge"] = kind << 8 | code, way
        _put_word(self.table, NO_ROUTE, 0, 0)  # has its code loaded: not while workers wait for it

    @property
    def free(self) -> int:
        """Records that can be taken."""
        return len(self._free)

    @property
    def waiting(self) -> int:
        """How much waits for a quiet point to be freed."""
        return len(self._later)

    def at_quiet(self, what: Callable[[], None]) -> None:
        """Do something when no worker uses anymore what it reads now."""
        self._later.append(what)

    def quiet(self) -> bool:
        """Wait for a quiet point, and free what waited for one. False: there was none in time."""
        if not self.quiesce():
            return False
        for what in self._later:
            what()
        self._later.clear()
        self._left.clear()
        return True

    def take(self) -> int:
        """The first use of a record that was free: which RESOLVEs. Raises ConfigError."""
        if not self._free and self._later:
            self.quiet()
        if not self._free:
            msg = f"all {self.table.size} adjacencies are in use"
            raise ConfigError(msg)
        number = self._free.pop()
        self._users[number] = 1
        self.table[number] = np.zeros((), ADJACENCY)
        self.table[number]["edge"] = Way.RESOLVE
        return number

    def hop(self, hop: Hop) -> int:
        """A use of a hop's adjacency. Raises ConfigError."""
        if hop in self._hops:
            return self.hold(self._hops[hop])
        number = self._hops[hop] = self.take()
        port, address = hop
        record = self.table[number]
        record["next_hop"], record["tx_port"] = halves(address), port
        record["mtu"] = self._ports[port]["mtu"]
        return number

    def hold(self, number: int) -> int:
        """One more use of an adjacency."""
        if number > RESERVED:
            self._users[number] += 1
        return number

    def users(self, number: int) -> int:
        """How many uses an adjacency has."""
        return self._users.get(number, 0)

    def leads_to(self, port: int) -> bool:
        """Whether an adjacency that is in use, or may be, leads out of a port."""
        return bool((self.table["tx_port"][[*self._users]] == port).any())

    def release(self, number: int) -> bool:
        """End a use, when no table leads there on its behalf. Returns whether it was the last one."""
        if number <= RESERVED:
            return False
        self._users[number] -= 1
        if self._users[number]:
            return False
        del self._users[number]
        record = self.table[number]
        high, low = (int(half) for half in record["next_hop"])
        hop = int(record["tx_port"]), high << 64 | low
        if self._hops.get(hop) == number:  # a MULTIPATH one is no hop's
            del self._hops[hop]
        self.at_quiet(lambda: self._free.append(number))
        return True

    def leave(self, number: int) -> None:
        """Let packets wait for resolution. Workers may read the header until the next quiet point."""
        record = self.table[number]
        if record["edge"] in (Way.REWRITE, Way.NOTIFY):
            record["edge"] = Way.RESOLVE
            self._left.add(number)

    def stale(self, number: int) -> None:
        """Let packets go on, but tell the control plane of the first."""
        if self.table[number]["edge"] == Way.REWRITE:
            self.table[number]["edge"] = Way.NOTIFY

    def write(self, number: int, mac: bytes) -> None:
        """Let packets leave to a MAC. Raises VforwardError, and changes nothing then.

        The header's bytes change only while no worker can read them; but where one of its words
        changes, by one store: any MAC of an untagged header, and of one with two tags.
        """
        record = self.table[number]
        header = self._header(record, mac)
        words = np.frombuffer(header.rjust(REWRITE_MAX, b"\0"), np.uint64)
        changed = np.flatnonzero(record["rewrite"] != words)
        same_length = record["rewrite_len"] == len(header)
        if same_length and len(changed) == 1:
            _put_word(self.table, number, int(changed[0]), words[changed[0]])
        elif not same_length or len(changed):
            was = int(record["edge"])
            self.leave(number)
            if number in self._left and not self.quiet():
                record["edge"] = was
                msg = f"adjacency {number}: workers may still use the old header; try again"
                raise VforwardError(msg)
            record["rewrite"] = words
            record["rewrite_len"] = len(header)
        record["edge"] = Way.REWRITE

    def _header(self, record: Any, mac: bytes) -> bytes:
        """MACs, the sub-interface's tags (IEEE 802.1Q-2018 section 9.6), EtherType."""
        port = self._ports[int(record["tx_port"])]
        words: list[Any] = []
        if port["tags"] >= 1:
            words += [port["tpid"], port["vlan"]]
        if port["tags"] == 2:
            words += [eth.VLAN, port["inner"]]
        ip4 = is_ip4(int(record["next_hop"][0]) << 64 | int(record["next_hop"][1]))
        words.append(eth.IP4 if ip4 else eth.IP6)
        source = int(port["mac"]).to_bytes(6, "big")
        return mac + source + b"".join(int(word).to_bytes(2, "big") for word in words)
