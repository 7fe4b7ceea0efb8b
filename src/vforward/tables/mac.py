# SPDX-License-Identifier: Apache-2.0
"""mac: which port a station was last heard at, for each bridge domain (IEEE 802.1Q-2018 section 8.8).

    mac   u64[8 * 2**k]   2**k buckets of one cache line, 8 entries each; k at least 10

    key   56 bits: MAC (48), domain (8); times an odd number modulo 2**56, which can be undone: x,
          kept in the high bits of a u64. Its highest k bits are the number of its bucket.

    entry  63               16 15       6 5    1   0
           low 48 bits of x    port       tick   static      0: empty

The highest 8 bits of a bucket's number and the tag are all of x, so an entry tells its key. An entry
whose bucket is full lies in one of three others, all with the same highest 8 bits: with tables half
full that are 1 % of them, and of a million keys some ten find no room.

Age is counted in ticks, modulo 32: domains[0].now is the tick, which control advances PER_AGE times
in the time that an entry lives. With each tick control removes entries of more than PER_AGE ticks,
so the worker need not ask for an entry's age; and gives static ones the tick that it is now, so it
need not tell them apart.

Owner       Nobody alone: worker (learn) and control (all else) change entries by compare-and-swap,
            and count learned entries of a domain in domains[].count by atomic additions. Two that
            add the same key at the same time look for one another afterwards.
Complexity  look-up: one bucket, or four when it is not there. The worker writes an entry when it is
            new, has moved, or was last seen in an earlier tick.
Limits      ports below 1024; one worker.
        The multiplier is no secret: who may send from any MAC can fill a bucket, or the table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.atomics import compare_swap64, fence, fetch_add64, load_acquire64
from vforward.jit.intrinsics import address, ctz, prefetch
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.jit.vector import any_near, near
from vforward.memory.arena import Arena
from vforward.tables import TableFull
from vforward.tables.bridge import LEARN, count_address, moves_address

WAYS = 8
PROBES = 4
ENTRIES = 1 << 16
"""The usual size."""
ENTRIES_MIN, ENTRIES_MAX = 1 << 13, 1 << 21
PER_AGE = 16
"""Ticks that an entry lives."""
TICKS = 32
PORTS_MAX = 1024

STATIC = 1
TICK_AT, PORT_AT, TAG_AT = 1, 6, 16
PORT_MASK = PORTS_MAX - 1
LARGE = 1 << 17
"""Entries from which on two passes over a vector pay: the table leaves the second level of cache."""

SAME, LEARNED, MOVED, FIXED, OVER_LIMIT, FULL, OFF = range(7)
"""What learn says. FIXED: a static entry names another port. OFF: the domain does not learn."""

MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 / golden ratio (Knuth, TAOCP 6.4)
_MULTIPLIER = np.uint64(MULTIPLIER)
_INVERSE = pow(MULTIPLIER, -1, 1 << 64)
TRIES = 8


class Entry(NamedTuple):
    """An entry as users see it. age: ticks since the station was last heard."""

    domain: int
    mac: int
    port: int
    static: bool
    age: int


@inline
def mix(key: Any) -> Any:
    """x of a key, u64: MAC << 16 | domain << 8."""
    return key * _MULTIPLIER


@inline
def shift_of(table: Any) -> Any:
    """By how many bits x is shifted to give its bucket. Asked once per vector."""
    return u64(64) - u64(ctz(u64(table.size))) + u64(3)


@inline
def ask(table: Any, shift: Any, x: Any) -> None:
    """Ask for the line where x probably is."""
    prefetch(table, i64((x >> shift) << u64(3)))


@inline
def _made(x: Any, port: Any, now: Any) -> Any:
    return x << u64(8) | u64(port << PORT_AT | now << TICK_AT)


@inline
def find(table: Any, shift: Any, x: Any) -> Any:
    """The entry of x in its own bucket, or 0."""
    tag = x << u64(8)
    entry = near(table, (x >> shift) << u64(3), tag, u64(1 << TAG_AT))
    return entry if (entry ^ tag) < u64(1 << TAG_AT) else u64(0)


@inline
def is_fresh(table: Any, shift: Any, x: Any, port: Any, now: Any) -> Any:
    """Whether x's own bucket has it with this port, heard in this tick, or static."""
    return any_near(table, (x >> shift) << u64(3), _made(x, port, now), u64(STATIC + 1))


@inline
def port_of(entry: Any) -> Any:
    """Its port, i64; of the entry 0 none, 0."""
    return i64(entry >> u64(PORT_AT)) & PORT_MASK


@inline
def age(entry: Any, now: Any) -> Any:
    """Ticks since it was last heard of, i64; now: i64."""
    return (now - i64(entry >> u64(TICK_AT))) & (TICKS - 1)


@inline
def _bucket(table: Any, x: Any, probe: Any) -> Any:
    """Index of the first entry of x's bucket number probe."""
    k = ctz(u64(table.size)) - 3
    low = (i64(1) << (k - 8)) - 1
    home = i64(x >> u64(64 - k))
    step = i64(x >> u64(24)) & low | 1
    return ((home & ~low) | (home + probe * step & low)) << 3


@inline
def _word(table: Any, at: Any) -> Any:
    return load_acquire64(address(table) + 8 * at)


@inline
def _is(entry: Any, x: Any) -> Any:
    """Whether it is an entry of x."""
    return (entry != u64(0)) & ((entry ^ x << u64(8)) < u64(1 << TAG_AT))


@inline
def _swap(table: Any, at: Any, old: Any, new: Any) -> Any:
    return compare_swap64(address(table) + 8 * at, old, new)


@kernel
def _locate(table: Any, x: Any, value: Any) -> Any:
    """Index of a slot of x's four buckets that has x, or -1. With value 0: of an empty one."""
    for n in range(WAYS * PROBES):
        at = _bucket(table, x, n >> 3) + (n & 7)
        entry = _word(table, at)
        if _is(entry, x) if value else entry == u64(0):
            return i64(at)
    return i64(-1)


@kernel
def find_all(table: Any, x: Any) -> Any:
    """The entry of x wherever it lies, or 0."""
    at = _locate(table, x, 1)
    entry = _word(table, at) if at >= 0 else u64(0)
    return entry if _is(entry, x) else u64(0)


@inline
def _domain(x: Any) -> Any:
    """The domain of x, i64."""
    return i64((x * u64(_INVERSE)) >> u64(8)) & 0xFF


@kernel
def _count(domains: Any, x: Any, amount: Any) -> None:
    """Count a learned entry more or less in the domain that is x's."""
    fetch_add64(count_address(domains, _domain(x)), u64(amount))


@inline
def _key_at(table: Any, at: Any, entry: Any) -> Any:
    """x of the entry that lies at an index."""
    k = ctz(u64(table.size)) - 3
    return u64(at >> 3 >> (k - 8)) << u64(56) | entry >> u64(TAG_AT) << u64(8)


@kernel
def _has_twin(table: Any, x: Any, own: Any) -> Any:
    """Whether another slot than own has x's tag."""
    fence()
    for n in range(WAYS * PROBES):
        at = _bucket(table, x, n >> 3) + (n & 7)
        if at != own and _is(_word(table, at), x):
            return True
    return False


@kernel
def learn(table: Any, domains: Any, domain: Any, x: Any, port: Any, now: Any) -> Any:
    """A frame of x came in by port. The worker's. Returns SAME ... OFF, and counts moves."""
    record = domains[domain]
    if record.flags & LEARN == 0:
        return i64(OFF)
    new = _made(x, port, now)
    for _ in range(TRIES):  # again, where control was faster
        at = _locate(table, x, 1)
        if at >= 0:
            entry = _word(table, at)
            if not _is(entry, x):
                continue
            if entry & u64(STATIC):
                return i64(SAME if port_of(entry) == port else FIXED)
            moved = port_of(entry) != port
            if entry == new or _swap(table, at, entry, new):
                if moved:
                    fetch_add64(moves_address(domains, domain), u64(1))
                return i64(MOVED if moved else SAME)
            continue
        if load_acquire64(count_address(domains, domain)) >= u64(record.limit):
            return i64(OVER_LIMIT)
        at = _locate(table, x, 0)
        if at < 0:
            return i64(FULL)
        if not _swap(table, at, u64(0), new):
            continue
        fetch_add64(count_address(domains, domain), u64(1))
        if _has_twin(table, x, at) and _swap(table, at, new, u64(0)):
            fetch_add64(count_address(domains, domain), u64(-1))
            return i64(SAME)
        return i64(LEARNED)
    return i64(SAME)


@kernel
def _remove(table: Any, domains: Any, at: Any, entry: Any) -> Any:
    """Empty a slot if it still holds entry. Returns whether it did."""
    if not _swap(table, at, entry, u64(0)):
        return False
    if not entry & u64(STATIC):
        _count(domains, _key_at(table, at, entry), -1)
    return True


@kernel
def _delete(table: Any, domains: Any, x: Any, but: Any) -> Any:
    """Empty all slots of x, save the one at index but. Returns how many there were."""
    done = 0
    for n in range(WAYS * PROBES):
        at = _bucket(table, x, n >> 3) + (n & 7)
        for _ in range(TRIES):
            entry = _word(table, at)
            if at == but or not _is(entry, x):
                break
            if _remove(table, domains, at, entry):
                done += 1
                break
    return done


@kernel
def _set_static(table: Any, domains: Any, x: Any, port: Any) -> Any:
    """Returns whether there was room."""
    new = _made(x, port, i64(domains[0].now)) | u64(STATIC)
    while True:
        at = _locate(table, x, 1)
        entry = _word(table, at) if at >= 0 else u64(0)
        if at >= 0 and not _is(entry, x):
            continue
        at = at if at >= 0 else _locate(table, x, 0)
        if at < 0:
            return False
        if _swap(table, at, entry, new):
            if entry != u64(0) and not entry & u64(STATIC):
                _count(domains, x, -1)
            fence()
            _delete(table, domains, x, at)
            return True


@kernel
def _sweep(table: Any, domains: Any, now: Any) -> None:
    """Remove what is old, and give static entries the tick that it is now."""
    for at in range(table.size):
        entry = _word(table, at)
        if entry & u64(STATIC):
            _swap(table, at, entry, entry & ~u64(TICKS - 1 << TICK_AT) | u64(now << TICK_AT))
        elif entry != u64(0) and age(entry, now) > PER_AGE:
            _remove(table, domains, at, entry)


@kernel
def _flush(table: Any, domains: Any, domain: Any, port: Any, statics: Any) -> Any:
    """Remove the entries of a domain, of a port, or (0) of all. Returns how many."""
    done = 0
    for at in range(table.size):
        entry = _word(table, at)
        if entry == u64(0) or (entry & u64(STATIC) and not statics):
            continue
        its = _domain(_key_at(table, at, entry))
        if (domain == 0 or its == domain) and (port == 0 or port_of(entry) == port):
            done += i64(_remove(table, domains, at, entry))
    return done


def _mixed(domain: int, mac: int) -> np.uint64:
    """As mix, for Python code."""
    return np.uint64((mac << 16 | domain << 8) * MULTIPLIER % (1 << 64))


class MacTable:
    """The table and control's part in it: static entries, ageing, what is there.

    ``table`` and ``domains`` (tables.bridge) are what kernels get.
    """

    def __init__(
        self, arena: Arena, domains: NDArray[Any], entries: int = ENTRIES, name: str = "mac"
    ) -> None:
        if not ENTRIES_MIN <= entries <= ENTRIES_MAX:
            msg = f"{name}: entries are {ENTRIES_MIN} to {ENTRIES_MAX}, not {entries}"
            raise ValueError(msg)
        self.name = name
        self.domains = domains
        size = 1 << (entries - 1).bit_length()
        self.table: NDArray[np.uint64] = arena.make(name, size, np.uint64)

    @property
    def now(self) -> int:
        """The tick, 0 to 31."""
        return int(self.domains[0]["now"])

    def add_static(self, domain: int, mac: int, port: int) -> None:
        """Bind a MAC to a port for good; what was learned of it goes. Raises TableFull."""
        if not 0 < port < PORTS_MAX:
            msg = f"{self.name}: port {port} is not in 1..{PORTS_MAX - 1}"
            raise ValueError(msg)
        if not _set_static(self.table, self.domains, _mixed(domain, mac), port):
            msg = f"{self.name}: no room for {mac:012x} in domain {domain}: make it larger"
            raise TableFull(msg, 0)

    def delete(self, domain: int, mac: int) -> None:
        """Forget a MAC. Raises KeyError when it is not there."""
        if not _delete(self.table, self.domains, _mixed(domain, mac), -1):
            raise KeyError((domain, mac))

    def flush(self, domain: int = 0, port: int = 0, *, statics: bool = False) -> int:
        """Forget what was learned in a domain, at a port (0: any). Returns how many."""
        return int(_flush(self.table, self.domains, domain, port, statics))

    def lookup(self, domain: int, mac: int) -> int:
        """The port, as the worker finds it now; 0 when there is none."""
        return int(port_of(np.uint64(find_all(self.table, _mixed(domain, mac)))))

    def tick(self) -> None:
        """A tick later: what is too old goes. Two million entries take some 5 ms."""
        self.domains[0]["now"] = (self.now + 1) % TICKS
        _sweep(self.table, self.domains, self.now)

    def entries(self, most: int | None = None) -> list[Entry]:
        """What is found now, by domain and MAC; at most so many, the first of them."""
        at, words = np.arange(self.table.size), self.table.copy()
        at, words = at[words != 0], words[words != 0]
        high = (at >> self.table.size.bit_length() - 9).astype(np.uint64)
        key = (high << np.uint64(56) | words >> np.uint64(16) << np.uint64(8)) * np.uint64(_INVERSE)
        static = words & np.uint64(STATIC) != 0
        ages = (self.now - (words >> np.uint64(TICK_AT)).astype(np.int64)) % TICKS
        ports = (words >> np.uint64(PORT_AT)).astype(np.int64) & PORT_MASK
        domains = key >> np.uint64(8) & np.uint64(0xFF)
        columns = (domains, key >> np.uint64(16), ports, static, ages)
        if most is not None and most < words.size:
            first = np.argpartition(domains << np.uint64(48) | columns[1], most)[:most]
            columns = tuple(column[first] for column in columns)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return sorted(Entry(*row) for row in rows)

    def check(self) -> None:
        """Assert all invariants. Only while no worker runs."""
        seen, counts = set(), np.zeros(self.domains.size, np.int64)
        for slot in np.flatnonzero(self.table).tolist():
            entry = self.table[slot]
            x = np.uint64(_key_at(self.table, slot, entry))
            places = {int(_bucket(self.table, x, probe)) for probe in range(PROBES)}
            assert len(places) == PROBES, "two of a key's buckets are one"
            assert slot & ~7 in places, f"slot {slot}: outside of its buckets"
            assert int(x) not in seen, f"slot {slot}: there twice"
            assert port_of(entry), f"slot {slot}: no port"
            seen.add(int(x))
            assert age(entry, self.now) <= PER_AGE, f"slot {slot}: too old"
            counts[_domain(x)] += not int(entry) & STATIC
        assert (counts == self.domains["count"].astype(np.int64)).all(), "learned ones miscounted"
