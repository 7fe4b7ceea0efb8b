# SPDX-License-Identifier: Apache-2.0
"""The IPv4 addresses of all ports: ``ADDRESS[n]``, searched from end to end.

Owner       The control plane writes. A record counts while its ``address`` is not 0, which is
            written last when it is added, first when it is deleted: no reader sees half of one.
Complexity  a look-up reads all n records: for ARP and ICMP, not for what is forwarded.
Limits      ADDRESSES_MAX records.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import kernel
from vforward.layout import ArrayOf
from vforward.tables import TableFull

ADDRESSES_MAX = 256

ADDRESS = np.dtype(
    [
        ("address", np.uint32),  # host order, 0: no record
        ("mask", np.uint32),  # of its prefix, host order
        ("port", np.uint16),  # or sub-interface
        ("spare", np.uint16, 3),
    ]
)
assert ADDRESS.itemsize == 16

Addresses = Annotated[NDArray[Any], ArrayOf(ADDRESS)]

ELSEWHERE, ON_LINK, OURS = 0, 1, 2


@kernel
def standing(addresses: Any, port: Any, ip: Any) -> Any:
    """What an address is to a port: OURS, ON_LINK (in a prefix of the port's) or ELSEWHERE."""
    found = np.int64(ELSEWHERE)
    for i in range(addresses.size):
        own = np.int64(addresses[i].address)
        if own != 0 and addresses[i].port == port:
            if own == ip:
                return np.int64(OURS)
            if (own ^ np.int64(ip)) & np.int64(addresses[i].mask) == 0:
                found = np.int64(ON_LINK)
    return found


def mask_of(length: int) -> int:
    """The mask of a prefix length."""
    return (1 << 32) - (1 << (32 - length))


def add(addresses: NDArray[Any], port: int, ip: int, length: int) -> None:
    """Give a port an address, or one that it has another prefix length. Raises TableFull."""
    there = _find(addresses, port, ip)
    at = there if there.size else np.flatnonzero(addresses["address"] == 0)
    if not at.size:
        msg = f"{addresses.size} addresses at most; delete one"
        raise TableFull(msg, 0)
    record = addresses[at[0]]
    record["port"], record["mask"] = port, mask_of(length)
    record["address"] = ip


def delete(addresses: NDArray[Any], port: int, ip: int) -> bool:
    """Take an address off a port. Returns whether it was there."""
    at = _find(addresses, port, ip)
    addresses["address"][at] = 0
    return bool(at.size)


def of_port(addresses: NDArray[Any], port: int) -> Iterator[tuple[int, int]]:
    """The (address, mask) pairs of a port."""
    for record in addresses[(addresses["port"] == port) & (addresses["address"] != 0)]:
        yield int(record["address"]), int(record["mask"])


def _find(addresses: NDArray[Any], port: int, ip: int) -> NDArray[np.intp]:
    return np.flatnonzero((addresses["port"] == port) & (addresses["address"] == ip))
