# SPDX-License-Identifier: Apache-2.0
"""The forwarding tables: longest prefix match for IPv4 and IPv6, in up to 64 VRFs.

A table is a trie that workers read (tables.trie), all routes in a hash table (tables.rib), and one
writer, who may be any thread, one at a time. In a kernel, with the parameters ``fib4_root: U32,
fib4_nodes: U32``, and the same for fib6::

    number = trie.lookup4(fib4_root, fib4_nodes, vrf, address)
    number = trie.lookup6(fib6_root, fib6_nodes, vrf, high, low)

What a change takes out of use is *retired*: a reader may still be in it. ``reclaim`` lets it be used
anew, for what was retired before the moment since when every worker has passed a quiet point.
Between ``stage`` and ``unstage`` changes are made aside, in copies of the VRFs' tries (tables.trie_copy).

Complexity  a change makes one node anew, 0.3 to 1 us; one of /16 or shorter writes all that it covers:
            a default route in a full table takes some 10 ms
Limits      values up to trie.VALUE_MAX (2**23 - 1); max_lines lines of 64 bytes for nodes. 1 M IPv4
            routes of an Internet table take some 8 MiB of them, and 48 MiB for the routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vforward.errors import ArenaError
from vforward.jit.kernel import i64, kernel, u64
from vforward.memory.arena import Arena
from vforward.tables import TableFull, rib, trie, trie_check
from vforward.tables import trie_change as changes
from vforward.tables.trie_change import ABSENT, RETIRED, ROUTES, TOP, USED
from vforward.tables.trie_copy import Aside

OP = np.dtype(
    [
        ("high", np.uint64),  # the prefix, its first bit the highest; an IPv4 one is shifted by 32
        ("low", np.uint64),
        ("value", np.uint32),
        ("vrf", np.uint16),
        ("length", np.uint8),
        ("add", np.uint8),  # 1: add or replace; 0: delete
    ]
)
"""One change, for apply. Bits of the prefix beyond length do not matter."""

CHUNK = 4096
"""Changes of add_many between two calls of ``between``."""
AHEAD_BYTES = 8192 * trie.WORDS * 4
"""Of lines that a few changes may need: so much memory is there before it is asked for."""


@kernel
def _apply(
    root: Any, nodes: Any, retired: Any, work: Any, stack: Any, state: Any,
    routes: Any, counts: Any, ops: Any, done: Any,
) -> Any:  # fmt: skip
    """Apply ops from done on; returns the number of the one for which trie or routes have no room."""
    while done < ops.size:
        op = ops[done]
        vrf, length = i64(op.vrf), i64(op.length)
        high, low = op.high & rib.upper_mask(length), op.low & rib.lower_mask(length)
        at = rib.find(routes, vrf, high, low, length)
        there = routes[at].leaf != 0
        if op.add:
            if state[ROUTES] * 2 >= routes.size:
                break
            leaf = length + 1 << trie.LENGTH | i64(op.value)
        else:
            leaf = i64(0)
            if there:
                leaf = rib.cover(routes, counts, vrf, high, low, length)
        if vrf:
            nodes[1] = 1
        if op.add or there:
            if not changes.change(
                root, nodes, retired, work, stack, state, vrf, high, low, length, leaf
            ):
                break
        if op.add:
            rib.put(routes, at, vrf, high, low, leaf)
            state[ROUTES] += not there
            counts[vrf, length] += not there
        elif there:
            rib.remove(routes, at)
            state[ROUTES] -= 1
            counts[vrf, length] -= 1
        else:
            state[ABSENT] += 1
        done += 1
    nodes[0] = state[USED]
    return done


@kernel
def _reclaim(nodes: Any, retired: Any, state: Any, n: Any) -> None:
    for i in range(n):
        changes.free(nodes, state, i64(retired[i]))
    state[RETIRED] -= n
    for i in range(state[RETIRED]):
        retired[i] = retired[n + i]


@kernel
def _lookup4(root: Any, nodes: Any, vrf: Any, high: Any, low: Any) -> Any:
    return trie.lookup4(root, nodes, vrf, i64(u64(high) >> u64(32)))


@kernel
def _lookup6(root: Any, nodes: Any, vrf: Any, high: Any, low: Any) -> Any:
    return trie.lookup6(root, nodes, vrf, high, low)


class Fib:
    """What both tables have in common; ``Fib4`` and ``Fib6`` say what an address is.

    ``tables`` is what kernels get. Memory is taken for what is used, not for max_lines.
    """

    bits: int
    shift: int
    """How far an address is shifted to be a prefix of 128 bits."""
    name: str
    _reader: Callable[..., Any]

    def __init__(
        self, arena: Arena, name: str = "", n_vrfs: int = 64, max_lines: int = 1 << 20
    ) -> None:
        self.name = name or self.name
        if not 32 <= max_lines <= 1 << 28:
            msg = f"{self.name}: max_lines is 32 to {1 << 28}, not {max_lines}"
            raise ValueError(msg)
        self.n_vrfs = n_vrfs
        self.root: NDArray[np.uint32] = arena.make(
            f"{self.name}.root", n_vrfs << trie.ROOT_BITS, np.uint32, sparse=True
        )
        self.nodes: NDArray[np.uint32] = arena.make(
            f"{self.name}.nodes", max_lines * trie.WORDS, np.uint32, sparse=True
        )
        self._arena = arena
        self._use_root(0)
        self._there = arena.use(f"{self.name}.nodes", 0, min(AHEAD_BYTES, self.nodes.nbytes))
        """Bytes of nodes that there is memory for."""
        self._retired = np.zeros(max_lines, np.uint32)
        self._work = np.zeros(changes.WORK_WORDS, np.uint32)
        self._stack = np.zeros(3 * changes.LEVELS, np.int64)
        self._state = np.zeros(changes.STATE_WORDS, np.int64)
        self._state[TOP] = 1
        self._counts = np.zeros((n_vrfs, rib.LENGTHS), np.int64)
        self._rib = rib.empty()
        self._one = np.zeros(1, OP)
        self._aside: Aside | None = None

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """The arrays by the names of the kernels' parameters."""
        return {f"{self.name}_root": self.root, f"{self.name}_nodes": self.nodes}

    def use_vrf(self, vrf: int) -> None:
        """Say that a port is in this VRF. To be called before it is: readers skip what is not used."""
        self._refuse(0, 0, vrf)
        if vrf:
            self._use_root(vrf)
            self.nodes[1] = 1

    def add(self, prefix: int, length: int, value: int, vrf: int = 0) -> None:
        """Add a route, or give it a new value. Raises TableFull, and changes nothing then."""
        if not 0 <= value <= trie.VALUE_MAX:
            msg = f"{self.name}: value {value} is not in 0..{trie.VALUE_MAX}"
            raise ValueError(msg)
        self._change(prefix, length, value, vrf, add=1)

    def delete(self, prefix: int, length: int, vrf: int = 0) -> None:
        """Delete a route. Raises KeyError when there is none; TableFull as add does.

        For a delete there is room but where all is in use or retired: then reclaim helps.
        """
        if self._change(prefix, length, 0, vrf, add=0):
            raise KeyError((prefix, length))

    def lookup(self, address: int, vrf: int = 0) -> int:
        """The value for an address, as workers see it now; 0 when no route covers it."""
        self._refuse(address, 0, vrf)
        high, low = self._halves(address)
        return int(self._reader(self.root, self.nodes, vrf, high, low))

    def add_many(
        self,
        prefixes: ArrayLike | Sequence[int],
        lengths: ArrayLike,
        values: ArrayLike,
        vrf: int = 0,
        between: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """Add many routes; of several with the same prefix the last one stays.

        prefixes: integers, or for IPv6 u64[n, 2], high and low halves. between is called after each
        CHUNK with the number of those done: where it reclaims, no more room is needed than for the
        routes. Raises TableFull as apply does.
        """
        ops = np.zeros(len(np.asarray(lengths)), OP)
        ops["high"], ops["low"] = self._many(prefixes)
        ops["length"], ops["value"], ops["vrf"], ops["add"] = lengths, values, vrf, 1
        ops = ops[np.lexsort((ops["length"], ops["low"], ops["high"]))]  # neighbors in one node
        self._refuse_ops(ops)
        for start in range(0, ops.size, CHUNK):
            try:
                self._run(ops[start : start + CHUNK])
            except TableFull as error:
                raise TableFull(str(error), start + error.done) from None
            between(min(start + CHUNK, ops.size))

    def delete_many(self, keys: Sequence[int], vrf: int = 0) -> None:
        """Delete many routes, ``prefix << 8 | length``, that are there. Raises TableFull as apply does."""
        ops = np.zeros(len(keys), OP)
        ops["high"], ops["low"] = self._many([key >> 8 for key in keys])
        ops["length"], ops["vrf"] = [key & 0xFF for key in keys], vrf
        self.apply(ops)

    def apply(self, ops: NDArray[Any]) -> int:
        """Apply an array of OP in order; returns how many deletes found no route.

        Raises TableFull at the first for which there is no room; those before it are done.
        """
        self._refuse_ops(ops)
        return self._run(ops)

    @property
    def retired(self) -> int:
        """Nodes that wait for reclaim, the oldest first."""
        return int(self._state[RETIRED])

    def reclaim(self, n: int | None = None) -> None:
        """Let the n oldest retired nodes (default: all) be used anew.

        Call it when every worker has passed a quiet point since ``retired`` was n.
        """
        n = self.retired if n is None else n
        if not 0 <= n <= self.retired:
            msg = f"{self.name}: {n} of {self.retired} retired nodes"
            raise ValueError(msg)
        _reclaim(self.nodes, self._retired, self._state, n)
        self.nodes[0] = self._state[USED]

    def stage(self) -> Aside:
        """Make changes aside, until unstage; see Aside for how they are put in force."""
        assert self._aside is None, "staged already"
        assert not self.retired, "a reader may be in what is retired: reclaim first"
        self._aside = Aside(self.root, self.nodes, self._stack, self._state)
        return self._aside

    def unstage(self) -> None:
        """End what stage began. What was not put in force has to be undone before: routes have no copy."""
        assert self._aside is not None
        self._aside.discard()
        self._aside = None
        self.nodes[0] = self._state[USED]

    def items(self, vrf: int = 0) -> Iterator[tuple[int, int, int]]:
        """All routes of a VRF as (prefix, length, value), by prefix, shorter ones first."""
        mine = self._rib[(self._rib["leaf"] != 0) & (self._rib["vrf"] == vrf)]
        for route in np.sort(mine, order=["high", "low", "leaf"]):
            high, low, leaf = int(route["high"]), int(route["low"]), int(route["leaf"])
            prefix = (high << 64 | low) >> self.shift
            yield prefix, (leaf >> trie.LENGTH) - 1, leaf & trie.VALUE_MAX

    def __len__(self) -> int:
        """Routes of all VRFs."""
        return int(self._state[ROUTES])

    def memory(self) -> int:
        """Bytes taken: VRFs' roots, all lines ever used, the routes, the list of what is retired."""
        roots = 1 + int(self._counts[1:].any(axis=1).sum())
        lines = int(self._state[TOP]) * trie.WORDS * 4
        return (4 << trie.ROOT_BITS) * roots + lines + self._rib.nbytes + 4 * self.retired

    def check(self) -> None:
        """Assert all invariants, against a trie made anew from the routes. Only between changes."""
        for vrf in range(self.n_vrfs):
            routes = list(self.items(vrf))
            counts = np.bincount([length for _, length, _ in routes], minlength=rib.LENGTHS)
            assert (counts == self._counts[vrf]).all(), f"VRF {vrf}: miscounted by length"
            for prefix, length, value in routes:
                high, low = self._halves(prefix)
                at = rib.find_one(self._rib, vrf, high, low, length)
                leaf = length + 1 << trie.LENGTH | value
                assert self._rib[at]["leaf"] == leaf, f"{prefix:#x}/{length} is lost"
        assert self._counts.sum() == len(self), "routes are miscounted"
        routes_of = {vrf: list(self.items(vrf)) for vrf in range(self.n_vrfs)}
        trie_check.check(
            self.root, self.nodes, self._state, self._retired[: self.retired], routes_of, self.bits
        )

    def _halves(self, prefix: int) -> tuple[np.uint64, np.uint64]:
        whole = prefix << self.shift
        return np.uint64(whole >> 64), np.uint64(whole & 0xFFFFFFFFFFFFFFFF)

    def _many(self, prefixes: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def _refuse(self, prefix: int, length: int, vrf: int) -> None:
        if not (0 <= length <= self.bits and 0 <= prefix < 1 << self.bits):
            msg = f"{self.name}: {prefix:#x}/{length} is no prefix of {self.bits} bits"
            raise ValueError(msg)
        if not 0 <= vrf < self.n_vrfs:
            msg = f"{self.name}: VRF {vrf} is not in 0..{self.n_vrfs - 1}"
            raise ValueError(msg)

    def _refuse_ops(self, ops: NDArray[Any]) -> None:
        if ops.size and (
            ops["length"].max() > self.bits
            or ops["value"].max() > trie.VALUE_MAX
            or ops["vrf"].max() >= self.n_vrfs
        ):
            msg = (
                f"{self.name}: a length above {self.bits}, a value above {trie.VALUE_MAX}, "
                f"or a VRF above {self.n_vrfs - 1}"
            )
            raise ValueError(msg)

    def _change(self, prefix: int, length: int, value: int, vrf: int, *, add: int) -> int:
        self._refuse(prefix, length, vrf)
        self._one[0] = (*self._halves(prefix), value, vrf, length, add)
        return self._run(self._one)

    def _use_root(self, vrf: int) -> None:
        size = self.root.itemsize << trie.ROOT_BITS
        self._arena.use(f"{self.name}.root", vrf * size, (vrf + 1) * size)

    def _have(self, more: int = 0) -> str:
        """Have memory for so many lines and the next nodes, or say why not: a store there would end us."""
        lines = int(self._state[TOP]) + more
        wanted = lines * trie.WORDS * self.nodes.itemsize + AHEAD_BYTES
        wanted = min(wanted, self.nodes.nbytes)
        if wanted > self._there:
            try:
                self._there = self._arena.use(f"{self.name}.nodes", self._there, wanted)
            except ArenaError as error:
                return str(error)
        return ""

    def _run(self, ops: NDArray[Any]) -> int:
        state, done = self._state, 0
        state[ABSENT] = 0
        own = (self._retired, self._work, self._stack, state)
        lack = self._have(int(state[USED]) if self._aside else 0)
        if self._aside and (lack or not self._aside.copy(set(ops["vrf"].tolist()))):
            raise TableFull(
                lack or f"{self.name}: no room for a second trie, to be changed aside", 0
            )
        root = self._aside.root if self._aside else self.root
        while True:
            there = self._there
            nodes = self.nodes[: there // self.nodes.itemsize]
            done = _apply(root, nodes, *own, self._rib, self._counts, ops, done)
            if done == ops.size:
                break
            if len(self) * 2 >= self._rib.size:
                self._rib = rib.copied(self._rib, self._rib.size * 2)
                continue
            lack = self._have()
            if self._there == there:
                break
        if self._aside:  # where no reader was
            self.reclaim()
        if done < ops.size:
            msg = lack or (
                f"{self.name}: all {self.nodes.size // trie.WORDS - 1} lines are in use "
                f"({self.retired} nodes retired: reclaim them) after {done} of {ops.size} changes; "
                "raise max_lines"
            )
            raise TableFull(msg, done)
        if len(self) * 16 < self._rib.size and self._rib.size > rib.RIB_MIN:
            self._rib = rib.copied(self._rib, max(rib.RIB_MIN, 1 << (len(self) * 4).bit_length()))
        return int(state[ABSENT])


class Fib4(Fib):
    """IPv4: addresses are integers of 32 bits."""

    bits, shift, name = 32, 96, "fib4"
    _reader = staticmethod(_lookup4)

    def _many(self, prefixes: Any) -> tuple[Any, Any]:
        return np.asarray(prefixes).astype(np.uint64) << np.uint64(32), 0


class Fib6(Fib):
    """IPv6: addresses are integers of 128 bits."""

    bits, shift, name = 128, 0, "fib6"
    _reader = staticmethod(_lookup6)

    def _many(self, prefixes: Any) -> tuple[Any, Any]:
        if isinstance(prefixes, np.ndarray) and prefixes.ndim == 2:
            return prefixes[:, 0], prefixes[:, 1]
        halves = [self._halves(int(prefix)) for prefix in prefixes]
        return [high for high, _ in halves], [low for _, low in halves]
