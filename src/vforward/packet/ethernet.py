# SPDX-License-Identifier: Apache-2.0
"""Ethernet II and 802.1Q: offsets in bytes from the frame's start, and type numbers (IEEE 802)."""

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
