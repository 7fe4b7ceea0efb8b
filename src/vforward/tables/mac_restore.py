# SPDX-License-Identifier: Apache-2.0
"""mac_restore: what bridges had learned when the last process was killed, put into the new MAC table.

An entry tells its key, and lies in one of four buckets that its key names: one that does not is damaged.
Domains and ports are given by old number. Static entries are not restored: who made them makes them again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.tables import mac
from vforward.tables.bridge import LEARN, domain_of

RESTORED, EXPIRED, GONE, FULL, DAMAGED = range(5)
"""What became of an entry. GONE: its bridge or port, or its port is in another bridge now."""


@inline
def _is_in_place(old: Any, at: Any, x: Any) -> Any:
    """Whether x may lie at an index."""
    for probe in range(mac.PROBES):
        if mac._bucket(old, x, probe) == at & ~7:
            return True
    return False


@kernel
def _restore_one(
    old: Any, at: Any, table: Any, domains: Any, relay: Any, names: Any, numbers: Any, was: Any, down: Any
) -> Any:  # fmt: skip
    """Restore the entry at an index. names: domains by old number; numbers: ports; was: the old tick."""
    entry = old[at]
    key = mac._key_at(old, at, entry)
    age = mac.age(entry, was) + down
    if not _is_in_place(old, at, key):
        return i64(DAMAGED)
    if age > mac.PER_AGE:
        return i64(EXPIRED)
    domain, port = i64(names[mac._domain(key)]), i64(numbers[mac.port_of(entry)])
    if domain <= 0 or not 0 < port < relay.size or domain_of(relay[port]) != domain:
        return i64(GONE)
    record = domains[domain]
    address = (key * u64(mac._INVERSE)) >> u64(16)
    x = mac.mix(address << u64(16) | u64(domain) << u64(8))
    if record.flags & LEARN == 0 or mac._locate(table, x, 1) >= 0:
        return i64(GONE)
    place = mac._locate(table, x, 0)
    if place < 0 or record.count >= u64(record.limit):
        return i64(FULL)
    now = (i64(domains[0].now) - age) & (mac.TICKS - 1)
    table[place] = mac._made(x, port, now)
    record.count += u64(1)
    return i64(RESTORED)


@kernel
def _restore(
    old: Any, table: Any, domains: Any, relay: Any, names: Any, numbers: Any, was: Any, down: Any,
    outcomes: Any,
) -> None:  # fmt: skip
    for at in range(old.size):
        if old[at] != u64(0) and old[at] & u64(mac.STATIC) == u64(0):
            found = _restore_one(old, at, table, domains, relay, names, numbers, was, down)
            outcomes[found] += u64(1)


def restore(
    old: NDArray[np.uint64],
    table: NDArray[np.uint64],
    domains: NDArray[Any],
    relay: NDArray[np.uint32],
    names: NDArray[np.int64],
    numbers: NDArray[np.int64],
    was: int,
    down: int,
) -> NDArray[np.uint64]:
    """Learn what an old table had learned, while no worker runs. Returns how many came to which end.

    names i64[256]: domains by old number, numbers i64[PORTS_MAX]: ports; 0: it is no more. was: the old
    tick. down: ticks that have passed since. Raises ValueError for what is no table.
    """
    if not mac.ENTRIES_MIN <= old.size <= mac.ENTRIES_MAX or old.size & old.size - 1:
        msg = f"{old.size} words are no table of MACs"
        raise ValueError(msg)
    outcomes = np.zeros(8, np.uint64)
    older = min(down, mac.TICKS)
    _restore(np.array(old), table, domains, relay, names, numbers, was, older, outcomes)
    return outcomes
