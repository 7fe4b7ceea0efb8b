# SPDX-License-Identifier: Apache-2.0
"""Rule sets like those that ClassBench makes, and packets for them. Drawn with a seed.

Addresses   of n rules: sources and destinations are each drawn from a pool of n/3 prefixes (at least
            8), so that prefixes come back with other ports, as they do in real lists. The prefixes
            lie in sqrt(n) sites of /16 (IPv6: /32). Lengths by LENGTHS4, LENGTHS6; a source is a
            wildcard in 25 % of the rules, a destination in 12 %.
Protocol    TCP 60 %, UDP 25 %, ICMP 5 %, any 10 %. The last two name no ports.
Source port any 85 %, 1024 to 65535 8 %, exact 4 %, a range 3 %.
Dest. port  exact 55 % (half of them one of 40 well-known ones), any 20 %, 1024 to 65535 8 %,
            0 to 1023 2 %, a range 15 %. A range begins anywhere; its width is 2 to 4 000, evenly in
            its logarithm.
Order       by how many bits a rule fixes, most first, with noise (sigma 8 bits): the special before
            the general, as a list has to be. No rule is there twice, and none matches everything.

The other fields (ports of the router, VLAN, flags, DSCP) are wildcards: DPDK's program that reads such
rules knows the classical five only.

Packets     of a trace: 9 of 10 are random points in a rule drawn evenly from all (as ClassBench's
            generator of traces draws them); the 10th is random in all fields.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.tables import acl

SEED = 20261129
RANDOM = 0.1
"""Share of packets that are random in all fields."""
LENGTHS4 = {
    8: 2, 12: 1, 14: 1, 16: 8, 18: 1, 19: 1, 20: 4, 21: 3, 22: 5, 23: 5, 24: 20,
    25: 3, 26: 4, 27: 4, 28: 5, 29: 3, 30: 3, 31: 1, 32: 26,
}  # fmt: skip
"""Percent, of prefixes that are no wildcards."""
LENGTHS6 = {20: 2, 32: 8, 40: 5, 44: 5, 48: 25, 52: 3, 56: 7, 60: 3, 64: 22, 112: 2, 128: 18}
WILD = {"src": 0.25, "dst": 0.12}
PROTOCOLS = {6: 60, 17: 25, 1: 5, -1: 10}
KNOWN = (
    20, 21, 22, 23, 25, 53, 67, 69, 80, 88, 110, 111, 119, 123, 135, 137, 139, 143, 161, 162,
    179, 389, 443, 445, 465, 500, 514, 587, 636, 993, 995, 1433, 1521, 1723, 3306, 3389, 5060,
    5432, 8080, 8443,
)  # fmt: skip


def rules(n: int, family: int = 4, seed: int = SEED) -> NDArray[Any]:
    """n rows for acl.compile4 or acl.compile6; row k leads to rule k."""
    rng = np.random.default_rng([seed, n, family])
    made = _some(rng, n + n // 4 + 16, n, family)
    plain = made.view(np.uint8).reshape(len(made), -1)
    _, first = np.unique(plain, axis=0, return_index=True)
    made = made[np.sort(first)]
    bits = _bits(made)
    made, bits = made[bits > 0][:n], bits[bits > 0][:n]
    if len(made) < n:
        msg = f"no {n} different rules came of it"
        raise ValueError(msg)
    made = made[np.argsort(-(bits + rng.normal(0, 8, n)), kind="stable")]
    made["rule"] = np.arange(n)
    return made


def trace(rows: NDArray[Any], n: int, seed: int = SEED) -> NDArray[np.uint32]:
    """The fields of n packets, u32[n, 8 or 16], as acl.classify4 and classify6 take them."""
    rng = np.random.default_rng([seed, n, len(rows)])
    fields = acl.points(rows[rng.integers(0, len(rows), n)], rng)
    anything = acl.points(acl.wildcards(n, 4 if fields.shape[1] == 8 else 6), rng)
    random = rng.random(n) < RANDOM
    fields[random] = anything[random]
    return fields


def _some(rng: np.random.Generator, n: int, scale: int, family: int) -> NDArray[Any]:
    made = acl.wildcards(n, family)
    for name in ("src", "dst"):
        values, masks = _pool(rng, max(scale // 3, 8), max(int(scale**0.5), 4), family)
        chosen = rng.integers(0, len(values), n)
        wild = rng.random(n) < WILD[name]
        made[name] = values[chosen]
        made[name + "_mask"] = masks[chosen]
        made[name][wild] = 0
        made[name + "_mask"][wild] = 0
    protocol = rng.choice(list(PROTOCOLS), n, p=np.array(list(PROTOCOLS.values())) / 100)
    made["kind"] = np.where(protocol >= 0, protocol, 0) << 24
    made["kind_mask"] = np.where(protocol >= 0, 0xFF << 24, 0)
    ports = protocol > 1
    _source_ports(rng, made, ports)
    _destination_ports(rng, made, ports)
    return made


def _pool(
    rng: np.random.Generator, n: int, sites: int, family: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """n prefixes as values and masks of u32 words."""
    shares = LENGTHS4 if family == 4 else LENGTHS6
    weights = np.array(list(shares.values())) / sum(shares.values())
    lengths = rng.choice(list(shares), n, p=weights)
    words = 1 if family == 4 else 4
    tops = rng.integers(1 << 24, 224 << 24, sites)
    if family == 6:
        tops = 0x2A00 << 16 | rng.integers(0, 1 << 20, sites)
    low = 16 if family == 4 else 0
    values = rng.integers(0, 1 << 32, (n, words))
    values[:, 0] = tops[rng.integers(0, sites, n)] >> low << low | values[:, 0] & (1 << low) - 1
    fixed = np.clip(lengths[:, None] - 32 * np.arange(words), 0, 32)
    masks = (0xFFFFFFFF << 32 - fixed) & 0xFFFFFFFF
    values, masks = (values & masks).astype(np.uint32), masks.astype(np.uint32)
    return (values[:, 0], masks[:, 0]) if family == 4 else (values, masks)


def _source_ports(rng: np.random.Generator, made: NDArray[Any], ports: NDArray[Any]) -> None:
    kind = rng.choice(4, len(made), p=[0.85, 0.08, 0.04, 0.03])
    exact = rng.integers(0, 1 << 16, len(made))
    low, high = _ranges(rng, len(made))
    _set(made, "sport", ports & (kind == 1), 1024, 65535)
    _set(made, "sport", ports & (kind == 2), exact, exact)
    _set(made, "sport", ports & (kind == 3), low, high)


def _destination_ports(rng: np.random.Generator, made: NDArray[Any], ports: NDArray[Any]) -> None:
    n = len(made)
    kind = rng.choice(5, n, p=[0.20, 0.55, 0.08, 0.02, 0.15])
    known = np.array(KNOWN)[rng.integers(0, len(KNOWN), n)]
    exact = np.where(rng.random(n) < 0.5, known, rng.integers(0, 1 << 16, n))
    low, high = _ranges(rng, n)
    _set(made, "dport", ports & (kind == 1), exact, exact)
    _set(made, "dport", ports & (kind == 2), 1024, 65535)
    _set(made, "dport", ports & (kind == 3), 0, 1023)
    _set(made, "dport", ports & (kind == 4), low, high)


def _ranges(rng: np.random.Generator, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    low = rng.integers(0, 1 << 16, n)
    width = np.exp(rng.uniform(np.log(2), np.log(4000), n)).astype(np.int64)
    return low, np.minimum(low + width - 1, 65535)


def _set(made: NDArray[Any], name: str, where: NDArray[Any], low: Any, high: Any) -> None:
    made[name + "_low"] = np.where(where, low, made[name + "_low"])
    made[name + "_high"] = np.where(where, high, made[name + "_high"])


def _bits(made: NDArray[Any]) -> NDArray[Any]:
    """How many bits each row fixes; a range fixes what its width leaves of 16."""
    total = np.zeros(len(made))
    for name in ("src_mask", "dst_mask", "kind_mask"):
        total += np.bitwise_count(made[name]).reshape(len(made), -1).sum(axis=1)
    for name in ("sport", "dport"):
        width = made[name + "_high"].astype(np.int64) - made[name + "_low"] + 1
        total += 16 - np.log2(width)
    return total
