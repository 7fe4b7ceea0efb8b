# SPDX-License-Identifier: Apache-2.0
"""fib4: IPv4 longest prefix match (RFC 4632 section 5.1), a 16-8-8 trie with leaf pushing.

    address   aaaaaaaaaaaaaaaa bbbbbbbb cccccccc

    root   u32[65536]                 entry of a
    blocks u32[n_blocks * 256]        entry of b, in the block that root[a] names; then of c;
                                      block 0 is none: its first word says how many are in use

    entry     0 llllll vvvvvvvvvvvvvvvvvvvvvvvvv   leaf: prefix length + 1, and the route's value;
                                                   0: no route, value 0
              1 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn    child: number of a block

A leaf is the longest prefix of every address that leads to it; so a lookup is one to three loads
and compares nothing. Full feeds are answered at the second load: /17 to /24 lie in the first block.

Owner   One writer, the control plane: ``Fib4``. Any number of readers: ``lookup`` in workers.

        root, blocks            in the arena, shared: every word that readers can reach changes by
                                one release store, and is right before and after it
        refs u16[n_blocks]      the writer's: routes and children that a block is there for
        spare u32[2, n_blocks]  the writer's: blocks free, a stack; blocks retired, oldest first
        rib i64[2**k]           the writer's: every route as one word, prefix << 31 | leaf, in an
                                open-addressed hash table by prefix and length; 0: empty slot

        A block is filled with the leaf that it replaces, then linked by one store, then changed
        entry by entry. When its last route goes, the leaf is stored over the link and the block is
        *retired*: a reader may still be in it. ``reclaim`` frees it for reuse, and may be called
        for blocks retired before the moment since when every worker has passed a quiet point.

Complexity  a change of /25 to /32 writes up to 256 words (a new block); shorter ones up to all that
            they cover: a default route in a full table takes some 10 ms. A delete needs no block.
Limits      values below 2**25. Blocks: one per /16 that holds longer routes, one per /24 likewise.

In a kernel, ``lookup``; or two passes, where ``is_large`` says that the blocks do not fit the first
level of cache: ``begin`` for all of the vector, which asks for the entries in the blocks, then ``finish``::

    for i in range(n):
        begun[i] = begin(root, blocks, destination[i])
    for i in range(n):
        value = finish(blocks, begun[i])
        if value == UNFINISHED:
            value = lookup(root, blocks, destination[i])

512 000 /24 routes side by side: 15 clocks per address instead of 20; a handful of routes: 11 for 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vforward.jit.atomics import load_acquire32, store_release32
from vforward.jit.intrinsics import address as address_of
from vforward.jit.intrinsics import prefetch
from vforward.jit.kernel import BOUNDSCHECK, inline, kernel
from vforward.memory.arena import Arena
from vforward.tables import TableFull

CHILD = 1 << 31
LEAF = CHILD - 1
UNFINISHED = CHILD
LENGTH = 25  # where a leaf's length + 1 begins
VALUE_MAX = (1 << LENGTH) - 1
ADDRESS = 0xFFFFFFFF
BLOCK = 256
LARGE = 32
"""Blocks (of 1 KiB) from which on two passes pay."""

OP = np.dtype(
    [
        ("prefix", np.uint32),
        ("value", np.uint32),
        ("length", np.uint8),
        ("add", np.uint8),  # 1: add or replace; 0: delete
        ("spare", np.uint16),
    ]
)
"""One change, for Fib4.apply. Bits of prefix beyond length do not matter."""

# state i64[]: the writer's counters
ROUTES, FREE, RETIRED, TOP, ABSENT = range(5)  # TOP: blocks from here on were never used
LENGTHS = 5  # and on: routes of each length
STATE_WORDS = LENGTHS + 33

RIB_MIN = 1024
HASH = 0x9E3779B97F4A7C15 - (1 << 64)  # 2**64 / golden ratio (Knuth, TAOCP 6.4), as i64


@inline
def _check(words: Any, at: Any) -> None:
    if BOUNDSCHECK:
        if at < 0 or at >= words.size:
            raise IndexError


@inline
def _word(words: Any, at: Any) -> Any:
    _check(words, at)
    return np.int64(load_acquire32(address_of(words) + 4 * at))


@inline
def lookup(root: Any, blocks: Any, address: Any) -> Any:
    """The value of the longest prefix that covers an address; 0 when none does."""
    a = np.int64(np.uint32(address))
    entry = _word(root, a >> 16)
    if entry & CHILD:
        entry = _word(blocks, (entry & LEAF) << 8 | (a >> 8 & 0xFF))
        if entry & CHILD:
            entry = _word(blocks, (entry & LEAF) << 8 | (a & 0xFF))
    return np.uint32(entry & VALUE_MAX)


@inline
def begin(root: Any, blocks: Any, address: Any) -> Any:
    """First half of a lookup: read the root and ask for the entry in the block. u32, for finish."""
    a = np.int64(np.uint32(address))
    entry = _word(root, a >> 16)
    # No branch, which random destinations would mispredict: for a leaf it is the first entry.
    child = -(entry >> 31)
    at = ((entry & LEAF) << 8 | (a >> 8 & 0xFF)) & child
    prefetch(blocks, at)
    return np.uint32(at | CHILD if child else entry)


@inline
def finish(blocks: Any, begun: Any) -> Any:
    """Second half of a lookup: the value; or UNFINISHED at the third level, then lookup is to be asked."""
    entry = np.int64(begun)
    if entry & CHILD:
        entry = _word(blocks, entry & LEAF)
        if entry & CHILD:
            return np.uint32(UNFINISHED)
    return np.uint32(entry & VALUE_MAX)


@inline
def is_large(blocks: Any) -> Any:
    """Whether two passes are faster than one: asked once per vector."""
    return _word(blocks, 0) > LARGE


@inline
def _publish(words: Any, at: Any, entry: Any) -> None:
    _check(words, at)
    store_release32(address_of(words) + 4 * at, np.uint64(entry))


@inline
def _home(rib: Any, key: Any) -> Any:
    return key * HASH >> 32 & (rib.size - 1)


@inline
def _slot(rib: Any, key: Any) -> Any:
    """Where the route with the key prefix << 6 | length + 1 is, or the empty slot it would take."""
    at = _home(rib, key)
    while rib[at] != 0 and rib[at] >> LENGTH != key:
        at = at + 1 & (rib.size - 1)
    return at


@inline
def _remove(rib: Any, hole: Any) -> None:
    """Empty a slot, and move back into it what only lies behind because it was taken."""
    mask = rib.size - 1
    at = hole + 1 & mask
    while rib[at] != 0:
        if (at - _home(rib, rib[at] >> LENGTH) & mask) >= (at - hole & mask):
            rib[hole] = rib[at]
            hole = at
        at = at + 1 & mask
    rib[hole] = 0


@kernel
def _rehash(old: Any, new: Any) -> None:
    for word in old:
        if word != 0:
            new[_slot(new, word >> LENGTH)] = word


@inline
def _cover(rib: Any, state: Any, prefix: Any, length: Any) -> Any:
    """The leaf of the longest route that covers prefix/length but is shorter, or 0."""
    for shorter in range(length - 1, -1, -1):
        if state[LENGTHS + shorter] != 0:
            at = _slot(rib, (prefix & ADDRESS << 32 - shorter) << 6 | shorter + 1)
            if rib[at] != 0:
                return rib[at] & LEAF
    return np.int64(0)


@inline
def _paint(words: Any, first: Any, n: Any, below: Any, leaf: Any) -> None:
    """Put leaf over those of n entries that are less than below: leaves of no longer prefixes."""
    for at in range(first, first + n):
        if words[at] < below:
            _publish(words, at, leaf)


@kernel
def _paint2(words: Any, blocks: Any, first: Any, n: Any, below: Any, leaf: Any) -> None:
    """The same, and in the blocks that they name."""
    for at in range(first, first + n):
        entry = np.int64(words[at])
        if entry < below:
            _publish(words, at, leaf)
        elif entry & CHILD:
            _paint(blocks, (entry & LEAF) * BLOCK, BLOCK, below, leaf)


@kernel
def _paint3(root: Any, blocks: Any, first: Any, n: Any, below: Any, leaf: Any) -> None:
    """The same, in all three levels."""
    for at in range(first, first + n):
        entry = np.int64(root[at])
        if entry < below:
            _publish(root, at, leaf)
        elif entry & CHILD:
            _paint2(blocks, blocks, (entry & LEAF) * BLOCK, BLOCK, below, leaf)


@kernel
def _child(words: Any, at: Any, blocks: Any, refs: Any, spare: Any, state: Any) -> Any:
    """The block that entry words[at] names; where it is a leaf, a new block full of that leaf."""
    entry = np.int64(words[at])
    if entry & CHILD:
        return entry & LEAF
    if state[FREE]:
        state[FREE] -= 1
        block = np.int64(spare[0, state[FREE]])
    else:
        block = state[TOP]
        state[TOP] += 1
    for i in range(block * BLOCK, block * BLOCK + BLOCK):
        blocks[i] = entry
    refs[block] = 0
    _publish(words, at, CHILD | block)
    return block


@inline
def _release(words: Any, at: Any, refs: Any, spare: Any, state: Any, leaf: Any) -> Any:
    """One route or child less in the block at words[at]; tells whether it was the last.

    If so the block is retired, and leaf takes its place.
    """
    block = np.int64(words[at]) & LEAF
    refs[block] -= 1
    if refs[block]:
        return False
    _publish(words, at, leaf)
    spare[1, state[RETIRED]] = block
    state[RETIRED] += 1
    return True


@inline
def _has_room(root: Any, blocks: Any, state: Any, prefix: Any, length: Any) -> Any:
    """Whether there are blocks enough to add a route (of more than 16 bits)."""
    entry = np.int64(root[prefix >> 16])
    needed = 0
    if not entry & CHILD:
        needed = 1 + (length > 24)
    elif length > 24 and not blocks[(entry & LEAF) * BLOCK + (prefix >> 8 & 0xFF)] & CHILD:
        needed = 1
    return state[FREE] + blocks.size // BLOCK - state[TOP] >= needed


@kernel
def _add(root: Any, blocks: Any, refs: Any, spare: Any, rib: Any, state: Any, op: Any) -> bool:
    """Add or replace a route. False, and nothing changed, when blocks or rib have no room."""
    length = np.int64(op.length)
    prefix = np.int64(op.prefix) & ADDRESS << 32 - length
    leaf = length + 1 << LENGTH | np.int64(op.value)
    below = length + 2 << LENGTH
    at = _slot(rib, prefix << 6 | length + 1)
    new = np.int64(rib[at] == 0)
    if new and state[ROUTES] * 8 >= rib.size * 5:
        return False
    if length > 16 and not _has_room(root, blocks, state, prefix, length):
        return False
    rib[at] = prefix << 31 | leaf
    state[ROUTES] += new
    state[LENGTHS + length] += new
    if length <= 16:
        _paint3(root, blocks, prefix >> 16, 1 << 16 - length, below, leaf)
        return True
    block = _child(root, prefix >> 16, blocks, refs, spare, state)
    second = block * BLOCK + (prefix >> 8 & 0xFF)
    if length <= 24:
        refs[block] += new
        _paint2(blocks, blocks, second, 1 << 24 - length, below, leaf)
        return True
    refs[block] += not blocks[second] & CHILD
    block = _child(blocks, second, blocks, refs, spare, state)
    refs[block] += new
    _paint(blocks, block * BLOCK + (prefix & 0xFF), 1 << 32 - length, below, leaf)
    return True


@kernel
def _delete(root: Any, blocks: Any, refs: Any, spare: Any, rib: Any, state: Any, op: Any) -> bool:
    """Delete a route. False when it is not there."""
    length = np.int64(op.length)
    prefix = np.int64(op.prefix) & ADDRESS << 32 - length
    below = length + 2 << LENGTH
    at = _slot(rib, prefix << 6 | length + 1)
    if rib[at] == 0:
        return False
    _remove(rib, at)
    state[ROUTES] -= 1
    state[LENGTHS + length] -= 1
    leaf = _cover(rib, state, prefix, length)
    first = prefix >> 16
    if length <= 16:
        _paint3(root, blocks, first, 1 << 16 - length, below, leaf)
        return True
    second = (np.int64(root[first]) & LEAF) * BLOCK + (prefix >> 8 & 0xFF)
    if length <= 24:
        if not _release(root, first, refs, spare, state, leaf):
            _paint2(blocks, blocks, second, 1 << 24 - length, below, leaf)
        return True
    third = (np.int64(blocks[second]) & LEAF) * BLOCK + (prefix & 0xFF)
    if not _release(blocks, second, refs, spare, state, leaf):
        _paint(blocks, third, 1 << 32 - length, below, leaf)
    else:
        _release(root, first, refs, spare, state, leaf)
    return True


@kernel
def _apply(
    root: Any, blocks: Any, refs: Any, spare: Any, rib: Any, state: Any, ops: Any, first: Any
) -> Any:
    """Apply ops from first on; returns the number of the one for which there was no room."""
    for i in range(first, ops.size):
        if ops[i].add:
            if not _add(root, blocks, refs, spare, rib, state, ops[i]):
                return i
        elif not _delete(root, blocks, refs, spare, rib, state, ops[i]):
            state[ABSENT] += 1
    return np.int64(ops.size)


@kernel
def _lookup(root: Any, blocks: Any, address: Any) -> Any:
    return lookup(root, blocks, address)


class Fib4:
    """The table and its writer. One thread at a time may call what changes it.

    ``root`` and ``blocks`` are what kernels get. The default of 2**17 blocks holds all /24s there
    are, and longer routes in 65536 of them: 128 MiB, of which memory is taken for what is used.
    """

    def __init__(self, arena: Arena, name: str = "fib4", max_blocks: int = 1 << 17) -> None:
        if not 2 <= max_blocks <= 1 << 22:
            msg = f"{name}: max_blocks is 2 to {1 << 22}, not {max_blocks}"
            raise ValueError(msg)
        self.name = name
        max_blocks += 1  # block 0
        self.root: NDArray[np.uint32] = arena.make(f"{name}.root", 1 << 16, np.uint32)
        words = max_blocks * BLOCK
        self.blocks: NDArray[np.uint32] = arena.make(
            f"{name}.blocks", words, np.uint32, sparse=True
        )
        self._refs = np.zeros(max_blocks, np.uint16)
        self._spare = np.zeros((2, max_blocks), np.uint32)
        self._rib = np.zeros(RIB_MIN, np.int64)
        self._state = np.zeros(STATE_WORDS, np.int64)
        self._state[TOP] = 1
        self._one = np.zeros(1, OP)

    def add(self, prefix: int, length: int, value: int) -> None:
        """Add a route, or give it a new value. Raises TableFull, and changes nothing then."""
        if not 0 <= value <= VALUE_MAX:
            msg = f"{self.name}: value {value} is not in 0..{VALUE_MAX}"
            raise ValueError(msg)
        self._change(prefix, length, value, add=True)

    def delete(self, prefix: int, length: int) -> None:
        """Delete a route. Raises KeyError when there is none."""
        if self._change(prefix, length, 0, add=False):
            raise KeyError((prefix, length))

    def lookup(self, address: int) -> int:
        """The value for an address, as workers see it now; 0 when no route covers it."""
        return int(_lookup(self.root, self.blocks, address))

    def add_many(self, prefixes: ArrayLike, lengths: ArrayLike, values: ArrayLike) -> None:
        """Add many routes, shortest first; of several with the same prefix the last one stays."""
        ops = np.zeros(len(np.asarray(prefixes)), OP)
        ops["prefix"], ops["length"], ops["value"], ops["add"] = prefixes, lengths, values, 1
        self.apply(ops[np.argsort(ops["length"], kind="stable")])

    def apply(self, ops: NDArray[Any]) -> int:
        """Apply an array of OP in order; returns how many deletes found no route.

        Raises TableFull at the first add for which no block is free; those before it are done.
        """
        if ops.size and (ops["length"].max() > 32 or ops["value"].max() > VALUE_MAX):
            msg = f"{self.name}: a length above 32, or a value above {VALUE_MAX}"
            raise ValueError(msg)
        return self._run(ops)

    @property
    def retired(self) -> int:
        """Blocks that wait for reclaim, the oldest first."""
        return int(self._state[RETIRED])

    def reclaim(self, n: int | None = None) -> None:
        """Free the n oldest retired blocks (default: all) for use.

        Call it when every worker has passed a quiet point since ``retired`` was n.
        """
        n = self.retired if n is None else n
        if not 0 <= n <= self.retired:
            msg = f"{self.name}: {n} of {self.retired} retired blocks"
            raise ValueError(msg)
        free, left = int(self._state[FREE]), self.retired - n
        self._spare[0, free : free + n] = self._spare[1, :n]
        self._spare[1, :left] = self._spare[1, n : n + left].copy()
        self._state[FREE], self._state[RETIRED] = free + n, left

    def items(self) -> Iterator[tuple[int, int, int]]:
        """All routes as (prefix, length, value), by prefix, shorter ones first."""
        for word in np.sort(self._rib[self._rib != 0]).tolist():
            yield word >> 31, (word >> LENGTH & 0x3F) - 1, word & VALUE_MAX

    def __len__(self) -> int:
        return int(self._state[ROUTES])

    def memory(self) -> int:
        """Bytes in use: the root, the blocks that are not free, the routes."""
        blocks = int(self._state[TOP] - self._state[FREE])
        return self.root.nbytes + blocks * BLOCK * 4 + self._rib.nbytes  # block 0 included

    def check(self) -> None:
        """Assert all invariants, against a trie made anew from the routes. Only between changes."""
        routes = sorted(self.items(), key=lambda route: route[1])
        counts = np.bincount([length for _, length, _ in routes], minlength=33)
        assert len(routes) == len(self), f"{len(routes)} routes, counted as {len(self)}"
        assert (counts == self._state[LENGTHS:]).all(), "routes by length are miscounted"
        for prefix, length, value in routes:
            word = prefix << 31 | length + 1 << LENGTH | value
            slot = _slot(self._rib, word >> LENGTH)
            assert self._rib[slot] == word, f"{prefix:#x}/{length} is lost"
        root, second, third, refs = _expected(routes)
        where: dict[int, int] = {}  # key of an expected block -> its number
        for at in np.flatnonzero(self.root >= CHILD).tolist():
            where[at] = int(self.root[at]) & LEAF
            for b in np.flatnonzero(self._block(where[at]) >= CHILD).tolist():
                where[1 << 24 | at << 8 | b] = int(self._block(where[at])[b]) & LEAF
        assert where.keys() == second.keys() | third.keys(), "blocks missing, or needless"
        assert ((self.root == root) | (self.root >= CHILD)).all(), "the root is wrong"
        for key, expected in (second | third).items():
            block = self._block(where[key])
            assert ((block == expected) | (block >= CHILD)).all(), f"block {where[key]} is wrong"
            assert self._refs[where[key]] == refs[key], f"block {where[key]}: refs"
        _, free, retired, top = (int(n) for n in self._state[:4])
        places = [*where.values(), *self._spare[0, :free], *self._spare[1, :retired]]
        assert sorted(places) == list(range(1, top)), "a block is lost, or in two places"

    def _block(self, number: int) -> NDArray[np.uint32]:
        return self.blocks[number * BLOCK : (number + 1) * BLOCK]

    def _change(self, prefix: int, length: int, value: int, *, add: bool) -> int:
        if not (0 <= length <= 32 and 0 <= prefix <= ADDRESS):
            msg = f"{self.name}: {prefix:#x}/{length} is no IPv4 prefix"
            raise ValueError(msg)
        self._one[0] = (prefix, value, length, add, 0)
        return self._run(self._one)

    def _run(self, ops: NDArray[Any]) -> int:
        state, done = self._state, 0
        state[ABSENT] = 0
        while True:
            done = _apply(
                self.root, self.blocks, self._refs, self._spare, self._rib, state, ops, done
            )
            if done == ops.size or len(self) * 8 < self._rib.size * 5:
                break
            self._resize(self._rib.size * 2)
        if done < ops.size:
            msg = (
                f"{self.name}: all {self._refs.size - 1} blocks are in use ({self.retired} of them "
                f"retired: reclaim them) after {done} of {ops.size} changes; raise max_blocks"
            )
            raise TableFull(msg, done)
        if len(self) * 16 < self._rib.size and self._rib.size > RIB_MIN:
            self._resize(max(RIB_MIN, 1 << (len(self) * 4).bit_length()))
        self.blocks[0] = state[TOP] - state[FREE] - 1
        return int(state[ABSENT])

    def _resize(self, slots: int) -> None:
        rib = np.zeros(slots, np.int64)
        _rehash(self._rib, rib)
        self._rib = rib


def _expected(routes: list[tuple[int, int, int]]) -> tuple[Any, Any, Any, Any]:
    """The trie of routes sorted by length: root, second and third level blocks, their references.

    Keys: the address's first 16 bits; 1 << 24 and its first 24 bits. Child entries hold their leaf.
    """
    root = np.zeros(1 << 16, np.uint32)
    second: dict[int, Any] = {}
    third: dict[int, Any] = {}
    refs: dict[int, int] = {}
    for prefix, length, value in routes:
        a, b, c = prefix >> 16, prefix >> 8 & 0xFF, prefix & 0xFF
        leaf = length + 1 << LENGTH | value
        if length <= 16:
            root[a : a + (1 << 16 - length)] = leaf
            continue
        block = second.setdefault(a, np.full(BLOCK, root[a]))
        if length <= 24:
            block[b : b + (1 << 24 - length)] = leaf
            refs[a] = refs.get(a, 0) + 1
            continue
        key = 1 << 24 | a << 8 | b
        if key not in third:
            third[key] = np.full(BLOCK, block[b])
            refs[a] = refs.get(a, 0) + 1
        third[key][c : c + (1 << 32 - length)] = leaf
        refs[key] = refs.get(key, 0) + 1
    return root, second, third, refs
