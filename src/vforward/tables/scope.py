# SPDX-License-Identifier: Apache-2.0
"""Addresses as a port sees them: an IPv6 link-local one counts on its link, others in their VRF.

RFC 4007 section 6 (zones), RFC 4443 section 2.2 (source addresses of errors). Look-ups read all of
tables.addresses.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, kernel, u64
from vforward.packet import ip6
from vforward.tables.addresses import MAPPED

NOBODY = -1
OTHERS_LINK, THIS_LINK, OTHERS_GLOBAL, ITS_GLOBAL = 0, 1, 2, 3
"""Ranks of addresses to speak from."""


@kernel
def is_ours(addresses: Any, ports: Any, port: Any, high: Any, low: Any) -> bool:
    """Whether what comes to a port knows an address as the router's."""
    link = ip6.is_link_local(high)
    for k in range(addresses.size):
        record = addresses[k]
        at = i64(record.port)
        if at != 0 and record.high == high and record.low == low:
            if at == port or (not link and ports[at].vrf == ports[port].vrf):
                return True
    return False


@kernel
def is_anycast(addresses: Any, ports: Any, port: Any, high: Any, low: Any) -> bool:
    """Whether an address is the subnet-router anycast address of a prefix of the port's VRF, and not
    somebody's own: RFC 4291 section 2.6.1; RFC 6164 section 5 (a /127 has none)."""
    if low & u64(1) or is_ours(addresses, ports, port, high, low):
        return False
    for k in range(addresses.size):
        record = addresses[k]
        at, length = i64(record.port), i64(record.length)
        if at == 0 or not 0 < length < 127 or ports[at].vrf != ports[port].vrf:
            continue
        upper, lower = record.high, record.low
        if length <= 64:
            upper = upper >> u64(64 - length) << u64(64 - length)
            lower = u64(0)
        else:
            lower = lower >> u64(128 - length) << u64(128 - length)
        if upper == high and lower == low:
            return True
    return False


@kernel
def speaker(addresses: Any, ports: Any, port: Any, link: Any) -> Any:
    """The record of the address to speak from to who sent to a port, or NOBODY. The first of a rank.

    On the link (link) only the port's link-local address will do. To others: a global one of the
    port, or else of another port of the VRF, or else the port's link-local one.
    """
    found, rank = i64(NOBODY), i64(OTHERS_LINK)
    for k in range(addresses.size):
        record = addresses[k]
        at = i64(record.port)
        ip4 = record.high == u64(0) and record.low >> u64(32) == u64(MAPPED >> 32)
        if at == 0 or ip4:
            continue
        its = i64(OTHERS_LINK)
        if ip6.is_link_local(record.high):
            if at == port:
                its = i64(THIS_LINK)
        elif not link and ports[at].vrf == ports[port].vrf:
            its = i64(ITS_GLOBAL) if at == port else i64(OTHERS_GLOBAL)
        if its > rank:
            found, rank = i64(k), its
    return found
