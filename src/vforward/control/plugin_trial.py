# SPDX-License-Identifier: Apache-2.0
"""A plug-in's kernel is tried on packets of all kinds, in a private pool, before packets depend on it.

What must hold for any node on an arc: every packet gets an edge that it may take, no buffer is lost or
doubled, and nothing is written but to the packets given and the plug-in's own tables. A plug-in may bring
more of its own (Plugin.check).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.plugin import Plugin, Tables
from vforward.graph import emit
from vforward.graph.build import WORK
from vforward.jit import entries
from vforward.layout import ARC_BITS, BUF_ROOM, VECTOR_MAX
from vforward.memory.pool import HEADER_WORDS
from vforward.tables.ports import PORT
from vforward.testing import packets as pk
from vforward.testing.run_node import SPARE, Result, heap_pool, run_node

GUARD = 4096
CANARY = 0x5C
PORTS = 8
ETHERNET = bytes(range(2, 16))
LATER = 3
"""How many features may follow, in the trial; MASKS: all sets of them."""
MASKS = [1 << ARC_BITS - 1 | later for later in range(1 << LATER)]
PATTERN = 0xA5
"""What free buffers are full of (heap_pool)."""


class Guarded:
    """Arrays that lie between bytes which nobody may write to."""

    def __init__(self) -> None:
        self._around: list[tuple[str, NDArray[np.uint8]]] = []

    def copy(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """The array's content, in a place with guards."""
        room = np.full(array.nbytes + 2 * GUARD + 64, CANARY, np.uint8)
        first = GUARD + -(room.ctypes.data + GUARD) % 64
        made = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
        made[...] = array
        self._around += [(name, room[:first]), (name, room[first + array.nbytes :])]
        return made

    def check(self) -> None:
        """Raise AssertionError when something was written around one of them."""
        for name, around in self._around:
            assert (around == CANARY).all(), f"it writes beyond its table {name!r}"


class Trial:
    """A function that runs packets through the plug-in's kernel, and asserts what must always hold.

    Its tables are as they would be after loading, and stay from call to call.
    """

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.tables = new_tables(plugin)
        self.ports: NDArray[Any] = np.zeros(PORTS, PORT)

    def compile(self) -> None:
        """Have the kernel compiled, by a call without any packet. Raises what compiling may raise."""
        pool = heap_pool(4)
        given = {
            "data": pool.data,
            "meta": pool.meta,
            "pool": pool.caches[0],
            "ports": self.ports,
            "work": np.zeros(WORK, np.uint64),
            "emitted": emit.new(),
            **self.tables,
            "idx": np.zeros(0, np.uint32),
            "edge": np.zeros(0, np.uint8),
            "count": np.zeros(max(1, len(self.plugin.node.counter_labels)), np.uint64),
        }
        kernel = self.plugin.node.kernel
        kernel(*(given[name] for name in entries.parameters(kernel)))

    def __call__(
        self,
        packets: Sequence[bytes],
        *,
        rx_port: int = 1,
        vector: int = VECTOR_MAX,
        framed: bool = True,
        tables: Mapping[str, NDArray[Any]] | None = None,
        meta: Callable[[Any, int], None] | None = None,
    ) -> Result:
        """Send IP packets, as they come along the plug-in's arc, through its node; see testing.run_node.

        framed: an Ethernet header is before them; False: none is, as of what the router itself makes.
        tables: in place of its own. meta(record, i): changes a packet's record before.
        """
        plugin, guarded = self.plugin, Guarded()
        own = {**self.tables, **(tables or {})}
        given = {name: guarded.copy(name, array) for name, array in own.items()}
        frames = [_framed(packet) for packet in packets] if framed else [*packets]
        pool = heap_pool(sum(-(-len(f) // BUF_ROOM) or 1 for f in frames) + SPARE)
        shared = {"ports": self.ports, "work": np.zeros(WORK, np.uint64)}

        def record(row: Any, i: int) -> None:
            row["features"] = MASKS[i % len(MASKS)]
            row["tx_port"] = rx_port
            if meta is not None:
                meta(row, i)

        result = run_node(
            plugin.node, frames, tables={**shared, **given}, vector=vector, rx_port=rx_port,
            l3=len(ETHERNET) if framed else 0, meta=record, pool=pool,
        )  # fmt: skip
        guarded.check()
        for name in set(self.tables).difference(tables or ()):
            self.tables[name][...] = given[name]
        for i, edge in enumerate(result.edges):
            may = {f"arc-{b}" for b in range(LATER) if MASKS[i % len(MASKS)] >> b & 1}
            assert edge in may | {"arc-end", "held", *plugin.node.edge_labels}, (
                f"packet {i} left by {edge}: a feature that its port has not on, or one before this; "
                "answer arcs.proceed(meta, row)"
            )
        if "pool" not in plugin.node.tables:
            _check_free(pool)
            assert "held" not in result.edges, (
                "it says EDGE_HELD, and has no table pool to free packets"
            )
        return result


def new_tables(plugin: Plugin) -> Tables:
    """The plug-in's tables as they begin. Raises KernelError."""
    return plugin.begin({name: table.make() for name, table in plugin.tables.items()})


def begin_some(plugin: Plugin) -> None:
    """Begin each of the tables alone, and all but each: where it is replaced others may stay as they are.

    Raises KernelError.
    """
    names = [*plugin.tables]
    alone = [(name,) for name in names]
    for some in dict.fromkeys([*alone, *(tuple(n for n in names if n != one) for one in names)]):
        plugin.begin({name: plugin.tables[name].make() for name in some})


def standard(trial: Trial) -> None:
    """Packets of all kinds, in vectors of all sizes. Raises AssertionError, and IndexError."""
    kinds = packets(_version(trial))
    for vector in (1, 3, VECTOR_MAX):
        trial(kinds, vector=vector)
        trial(kinds[::-1], vector=vector, rx_port=PORTS - 1)
    trial((kinds * VECTOR_MAX)[:VECTOR_MAX])
    if trial.plugin.arc.endswith("-input"):
        trial(kinds, framed=False)


def packets(version: int) -> list[bytes]:
    """Valid packets of IP: of each protocol, whole and cut short, long and short, as fragments."""
    rng = random.Random(version)
    made = []
    for protocol in (pk.PROTO_TCP, pk.PROTO_UDP, pk.PROTO_ICMP, pk.PROTO_ICMP6, 47, 255):
        for size in (0, 1, 7, 8, 19, 20, 64, 1400, 3000, 9000):
            payload = rng.randbytes(size)
            if version == 6:
                made.append(pk.ip6("2001:db8::9", "2001:db8:1::7", protocol, payload))
                continue
            made.append(pk.ip4("192.0.2.9", "198.51.100.7", protocol, payload))
            at, options = 8 * rng.randrange(0x1FFF), bytes([1] * 4 * rng.randrange(11))
            more: Any = {"frag_off": at, "options": options, "ttl": rng.randrange(256)}
            made.append(pk.ip4("192.0.2.9", "198.51.100.7", protocol, payload, **more))
    return made


def _version(trial: Trial) -> int:
    return 6 if trial.plugin.arc.startswith("ip6") else 4


def _framed(packet: bytes) -> bytes:
    return ETHERNET[:-2] + (b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def _check_free(pool: Any) -> None:
    """No buffer that nobody was given has been written to."""
    free, row = [], int(pool.stack[:2].view(np.uint64)[0]) & 0xFFFFFFFF
    while row < pool.size:
        free.append(row)
        row = int(pool.stack[HEADER_WORDS + row])
    assert (pool.data[free] == PATTERN).all(), "it writes to buffers that it was not given"
