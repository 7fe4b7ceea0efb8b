# SPDX-License-Identifier: Apache-2.0
"""How a compiled rule list (tables.acl) lies in memory: one u64[], which may be copied anywhere.

A *row* is one match; a rule of many (say, a named set of ports) is many rows with the same ``rule``.
Rows stand in order of priority. ``values`` below: the words that a packet's fields are compared with,
where ``masks`` has a bit. The ports are a range each, low in values, high in masks.

    0     MAGIC          16     trees, 4 words each: the root; how many nodes, and how many rows, a
    1     words of a packet's   packet visits at most (control shows these)
          fields: 8 or 16
    2     rows
    3     trees          32     rows, each ``words`` u64: values, masks. Behind the last one that matches
    4     length                everything: it stands for "no row matches" and leads to rule NIL
    5     where rows begin      rules   u32: the rule of each row
    6     where rules do (u32)  lists   u32: entries
    7     where slots do        slots   u64: the nodes' children

    entry   u32   row | SURE: no need to compare it, all that come here match
    leaf    u64   bit 63 = 1 | entry << 32 | where (u32 of the image) the list of further entries is
    node    u64   bit 63 = 0 | base << 32 | mask << 16 | word << 8 | shift: the child for a packet is
                  the u64 at base + (fields[word] >> shift & mask)

The last entry of a list is SURE, so every list ends by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x31_4C43_4146_56  # "VFACL1", little-endian
WORDS, COUNT, TREES, LENGTH, ROWS_AT, RULES_AT, SLOTS_AT = range(1, 8)
TREE, TREE_WORDS, TREES_MAX = 16, 4, 4
ROOT, NODES_MOST, ROWS_MOST = range(3)
HEADER = 32
LEAF = 1 << 63
SURE = 1 << 30
ROW_MASK = (1 << 24) - 1
ROWS_MAX = 1 << 20

SRC, DST = 0, 1
"""Words of IPv4's fields; the others lie where PORTS says, relative to it."""
PORTS4, PORTS6 = 2, 8
PORTS = {8: PORTS4, 16: PORTS6}
"""Word of the ports, source << 16 | destination, by words of fields; kind, place, VLAN follow it."""


def _row(address: Any, spare: int) -> np.dtype[Any]:
    half = [
        *[("src", *address), ("dst", *address), ("dport", np.uint16), ("sport", np.uint16)],
        *[(name, np.uint32) for name in ("kind", "place", "vlan")],
    ]
    values = [(name + "_low" if "port" in name else name, *kind) for name, *kind in half]
    masks = [(name + ("_high" if "port" in name else "_mask"), *kind) for name, *kind in half]
    padding = [("spare", np.uint32, spare), ("rule", np.uint32)]
    return np.dtype([*values, *padding, *masks, ("spare_mask", np.uint32, spare + 1)])


ROW4 = _row((np.uint32,), 1)
"""A row of IPv4. kind: protocol << 24 | TCP flags << 16 | DSCP << 8 | fragment bits; place: in port
<< 16 | out port. The spare ones are 0."""
ROW6 = _row((np.uint32, 4), 3)
"""A row of IPv6; word 0 of an address is its beginning."""
assert (ROW4.itemsize, ROW6.itemsize) == (64, 128)


def wildcards(n: int, family: int = 4) -> NDArray[Any]:
    """n rows that match everything and lead to rule 0: the caller narrows them."""
    rows = np.zeros(n, ROW4 if family == 4 else ROW6)
    rows["sport_high"] = rows["dport_high"] = 0xFFFF
    return rows


def plain(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """Rows as words, u32[n, 2 * words], values without the bits that do not count."""
    words = rows.dtype.itemsize // 8
    made = np.ascontiguousarray(rows).view(np.uint32).reshape(len(rows), 2 * words).copy()
    values, masks = made[:, :words], made[:, words:]
    ports = PORTS[words]
    masks[:, ports + 4 :] = 0
    values[:, ports + 4 :] = 0
    keep = np.arange(words) != ports
    values[:, keep] &= masks[:, keep]
    return made


def points(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[np.uint32]:
    """A random packet in each row, as fields u32[n, words]."""
    made = plain(rows)
    n, words = len(made), made.shape[1] // 2
    ports = PORTS[words]
    values, masks = made[:, :words], made[:, words:]
    fields = rng.integers(0, 1 << 32, (n, words), np.uint32) & ~masks | values
    fields[:, ports] = 0
    for name, shift in (("sport", 16), ("dport", 0)):
        low, high = (rows[f"{name}_{end}"].astype(np.int64) for end in ("low", "high"))
        chosen = rng.integers(low, np.maximum(low, high) + 1)
        fields[:, ports] |= (chosen << shift).astype(np.uint32)
    fields[:, ports + 4 :] = 0
    return np.ascontiguousarray(fields)
