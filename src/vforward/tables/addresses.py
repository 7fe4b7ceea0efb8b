# SPDX-License-Identifier: Apache-2.0
"""The addresses of all ports: ``ADDRESS[n]``, searched from end to end.

An address is 128 bits in two halves, both host order; IPv4 is written ::ffff:a.b.c.d (RFC 4291
section 2.5.5.2), so that what asks by address is written once for both.

Owner       The control plane writes. A record counts while its ``port`` is not 0, which is written
            last when it is added, first when it is deleted: no reader sees half of one.
Complexity  a look-up reads all n records: for ARP, ND and ICMP, not for what is forwarded.
Limits      ADDRESSES_MAX records.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import inline, kernel
from vforward.layout import ArrayOf
from vforward.tables import TableFull

ADDRESSES_MAX = 256
MAPPED = 0xFFFF << 32
"""The low half of an IPv4 address is this and the address."""
V4_BITS = 96
"""What an IPv4 prefix is longer by when it is written in 128 bits."""
HALF = (1 << 64) - 1

ADDRESS = np.dtype(
    [
        ("high", np.uint64),
        ("low", np.uint64),
        ("port", np.uint16),  # or sub-interface; 0: no record
        ("length", np.uint8),  # of its prefix, 0 to 128
        ("spare", np.uint8, 13),
    ]
)
assert ADDRESS.itemsize == 32

Addresses = Annotated[NDArray[Any], ArrayOf(ADDRESS)]

ELSEWHERE, ON_LINK, OURS = 0, 1, 2


@inline
def mapped(ip4: Any) -> Any:
    """The low half of an IPv4 address (host order); the high one is 0."""
    return np.uint64(MAPPED) | np.uint64(ip4)


@inline
def _covers(record: Any, high: Any, low: Any) -> Any:
    """Whether the record's prefix covers an address."""
    length = np.int64(record.length)
    upper = record.high ^ high
    lower = record.low ^ low
    if length <= 64:
        return length == 0 or upper >> np.uint64(64 - length) == np.uint64(0)
    if upper != np.uint64(0):
        return False
    return lower >> np.uint64(128 - length) == np.uint64(0)


@kernel
def standing(addresses: Any, port: Any, high: Any, low: Any) -> Any:
    """What an address is to a port: OURS, ON_LINK (in a prefix of the port's) or ELSEWHERE."""
    found = np.int64(ELSEWHERE)
    for i in range(addresses.size):
        record = addresses[i]
        if record.port != 0 and record.port == port:
            if record.high == high and record.low == low:
                return np.int64(OURS)
            if _covers(record, high, low):
                found = np.int64(ON_LINK)
    return found


def halves(ip: int) -> tuple[int, int]:
    """The high and the low half of a 128-bit address."""
    return ip >> 64, ip & HALF


def mapped_int(ip4: int) -> int:
    """An IPv4 address as 128 bits."""
    return MAPPED | ip4


def add(addresses: NDArray[Any], port: int, ip: int, length: int) -> None:
    """Give a port a 128-bit address, or one that it has another prefix length (of 128 bits).

    Raises TableFull.
    """
    there = _find(addresses, port, ip)
    at = there if there.size else np.flatnonzero(addresses["port"] == 0)
    if not at.size:
        msg = f"{addresses.size} addresses at most; delete one"
        raise TableFull(msg, 0)
    record = addresses[at[0]]
    record["high"], record["low"] = halves(ip)
    record["length"] = length
    record["port"] = port


def delete(addresses: NDArray[Any], port: int, ip: int) -> bool:
    """Take an address off a port. Returns whether it was there."""
    at = _find(addresses, port, ip)
    addresses["port"][at] = 0
    return bool(at.size)


def of_port(addresses: NDArray[Any], port: int) -> Iterator[tuple[int, int]]:
    """The (address, prefix length) pairs of a port, both of 128 bits."""
    for record in addresses[addresses["port"] == port] if port else ():
        yield int(record["high"]) << 64 | int(record["low"]), int(record["length"])


def _find(addresses: NDArray[Any], port: int, ip: int) -> NDArray[np.intp]:
    high, low = halves(ip)
    return np.flatnonzero(
        (addresses["port"] == port) & (addresses["high"] == high) & (addresses["low"] == low)
    )
