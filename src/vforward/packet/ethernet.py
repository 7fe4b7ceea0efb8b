# SPDX-License-Identifier: Apache-2.0
"""Ethernet II and 802.1Q: offsets in bytes from the frame's start, and type numbers (IEEE 802)."""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16
from vforward.jit.kernel import i64, inline

DST, SRC, TYPE, HEADER = 0, 6, 12, 14
TAG = 4
"""Bytes of one VLAN tag: type and TCI."""
VID_MASK = 0x0FFF

IP4, ARP, VLAN, QINQ, IP6 = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD

BROADCAST = 0xFFFFFFFFFFFF
GROUP_BIT = 0x010000000000
"""Set in a MAC (as a 48-bit number) that is broadcast or multicast."""
LOCAL_BIT = 0x020000000000
"""Set in a MAC that is given locally: IEEE 802-2014 section 8.2."""

TAGS_MAX = 2
"""VLAN tags that are looked behind."""


@inline
def behind_tags(data: Any, row: Any, off: Any, end: Any) -> Any:
    """Where the network header of the frame at off begins, and its EtherType; (-1, 0) if that is not
    within end, or behind more tags.
    """
    at = off + TYPE
    for _ in range(TAGS_MAX + 1):
        if at + 2 > end:
            break
        kind = load16(data, row, at)
        if kind != VLAN and kind != QINQ:
            return at + 2, kind
        at += TAG
    return i64(-1), i64(0)
