# SPDX-License-Identifier: Apache-2.0
"""Rule lists, and packets at their edges: as oracles.rules takes them, and as tables.acl does."""

from typing import Any

import numpy as np

from vforward.tables import acl, acl_check

FULL = 0xFFFFFFFF
WIDTH = {4: 32, 6: 128}
BASES = {
    4: (0x0A000000, 0x0A0000FF, 0xC0A80180, 0, 0xFFFFFFFF),
    6: (0x2A00 << 112, (0x2A00 << 112) | 0xFF, (0x20010DB8 << 96) | (1 << 64), 0, (1 << 128) - 1),
}
LENGTHS = {4: (1, 8, 23, 24, 30, 31, 32), 6: (3, 32, 48, 63, 64, 65, 127, 128)}
PORTS = (
    *((0, 0), (65535, 65535), (80, 80), (443, 443), (1024, 65535), (0, 1023), (1023, 1025)),
    *((0, 65534), (1, 65535), (32767, 32768), (6000, 6063), (9, 7)),
)
KINDS = (
    *((6 << 24, 0xFF << 24), (17 << 24, 0xFF << 24), (1 << 24, 0xFF << 24)),
    *((6 << 24 | 0x02 << 16, 0xFF << 24 | 0x12 << 16), (46 << 8, 0x3F << 8), (1, 1), (0, 2)),
)
PLACES = ((1 << 16, 0xFFFF << 16), (2, 0xFFFF), (3 << 16 | 4, FULL))
VLANS = ((0, FULL), (10, 0xFFF), (11, FULL))


def row(random, family: int) -> dict[str, tuple[int, int]]:
    """A row that asks for a few of the fields."""
    made: dict[str, tuple[int, int]] = {}
    full = (1 << WIDTH[family]) - 1
    for name in ("src", "dst"):
        kind = random.random()
        if kind < 0.6:
            mask = full ^ full >> random.choice(LENGTHS[family])
            base = random.choice(BASES[family]) ^ random.choice((0, 1 << random.randrange(9)))
            made[name] = (base & mask, mask)
        elif kind < 0.65:  # no prefix at all
            mask = random.getrandbits(WIDTH[family]) & random.getrandbits(WIDTH[family])
            made[name] = (random.choice(BASES[family]) & mask, mask)
    for name, choices, share in (
        *(("sport", PORTS, 0.2), ("dport", PORTS, 0.5), ("kind", KINDS, 0.6)),
        *(("place", PLACES, 0.1), ("vlan", VLANS, 0.1)),
    ):
        if random.random() < share:
            made[name] = random.choice(choices)
    if (
        "src" not in made and "dst" not in made and random.random() < 0.95
    ):  # else it hides all others
        full = (1 << WIDTH[family]) - 1
        made["dst"] = (random.choice(BASES[family]) ^ random.randrange(1 << 12), full)
    if random.random() < 0.1:  # stairs: they overlap, and no cut tells them apart
        step = random.randrange(100)
        made["dport"] = (step * 300, 65535 - step * 300)
    return made


def packet(random, family: int, rows: list[dict[str, tuple[int, int]]]) -> dict[str, int]:
    """A packet at the edge of a row, or one that is anything."""
    wanted = random.choice(rows) if rows and random.random() < 0.9 else {}
    made = {
        "src": random.choice(BASES[family]) ^ random.choice((0, 1, 2, 255)),
        "dst": random.choice(BASES[family]) ^ random.choice((0, 1, 2, 255)),
        "sport": random.choice((0, 80, 1023, 1024, 65535)),
        "dport": random.choice((0, 80, 443, 1023, 1024, 65535)),
        "kind": random.choice(KINDS)[0],
        "place": random.choice(PLACES)[0],
        "vlan": random.choice(VLANS)[0],
    }
    for name, (first, second) in wanted.items():
        if name in ("sport", "dport"):
            made[name] = random.choice((first, second)) + random.choice((0, 0, 0, -1, 1)) & 0xFFFF
            continue
        size = WIDTH[family] if name in ("src", "dst") else 32
        rest = (1 << size) - 1 ^ second
        made[name] = first | rest & random.choice((0, rest, random.getrandbits(size)))
        if random.random() < 0.1:
            made[name] = made[name] + random.choice((-1, 1)) & (1 << size) - 1
    return made


def words(value: int, family: int) -> Any:
    """An address as acl has it."""
    if family == 4:
        return value
    return [value >> shift & FULL for shift in (96, 64, 32, 0)]


def as_rows(rows: list[dict[str, tuple[int, int]]], family: int) -> Any:
    """ROW4 or ROW6; row k leads to rule k."""
    made = acl.wildcards(len(rows), family)
    made["rule"] = np.arange(len(rows))
    for at, wanted in enumerate(rows):
        for name, (first, second) in wanted.items():
            if name in ("sport", "dport"):
                made[at][name + "_low"], made[at][name + "_high"] = first, second
            elif name in ("src", "dst"):
                made[at][name] = words(first, family)
                made[at][name + "_mask"] = words(second, family)
            else:
                made[at][name], made[at][name + "_mask"] = first, second
    return made


def as_fields(packets: list[dict[str, int]], family: int) -> Any:
    """u32[n, 8] or u32[n, 16]."""
    each = 1 if family == 4 else 4
    made = np.zeros((len(packets), 8 * (1 if family == 4 else 2)), np.uint32)
    for at, given in enumerate(packets):
        made[at, :each] = words(given["src"], family)
        made[at, each : 2 * each] = words(given["dst"], family)
        made[at, 2 * each : 2 * each + 4] = (
            given["sport"] << 16 | given["dport"],
            given["kind"],
            given["place"],
            given["vlan"],
        )
    return made


def compiled(rows: Any) -> Any:
    """The image, its invariants checked."""
    image = (acl.compile4 if rows.dtype == acl.ROW4 else acl.compile6)(rows)
    acl_check.check(image, rows)
    return image


def found(image: Any, fields: Any, size: int = 256) -> list[int]:
    """What the look-up says, so many packets at a time."""
    classify = acl.classify4 if fields.shape[1] == 8 else acl.classify6
    said = np.full(len(fields), 7, np.uint32)
    work = np.full(acl.WORK, 0xDEAD, np.uint64)
    for at in range(0, len(fields), size):
        part = np.ascontiguousarray(fields[at : at + size]).reshape(-1)
        n = len(fields[at : at + size])
        out = np.full(n, 5, np.uint32)
        classify(image, part, out, work, n)
        said[at : at + size] = out
    return said.tolist()
