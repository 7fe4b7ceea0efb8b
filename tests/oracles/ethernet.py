# SPDX-License-Identifier: Apache-2.0
"""Ethernet II and IEEE 802.1Q: RFC 894, RFC 1042, IEEE 802.1Q-2018 section 9.3 to 9.6."""

from collections.abc import Container
from dataclasses import dataclass

IP4 = 0x0800
ARP = 0x0806
IP6 = 0x86DD
VLAN = 0x8100
QINQ = 0x88A8
BROADCAST = b"\xff" * 6


@dataclass(frozen=True)
class Arrival:
    """What ethernet-input makes of a frame; `reason` says why it is dropped, or is empty."""

    reason: str = ""
    dst: bytes = b""
    src: bytes = b""
    vid: int | None = None  # of the sub-port; None: untagged, or a priority tag (vid 0)
    tag: bytes = b""  # the 4 bytes of the tag that was taken off, TPID first
    ethertype: int = 0
    payload: bytes = b""

    @property
    def link_multicast(self) -> bool:
        return is_multicast(self.dst)


def is_multicast(mac: bytes) -> bool:
    """Tell whether the group bit is set: multicast and broadcast (IEEE 802-2014 section 8.2)."""
    return bool(mac[0] & 1)


def receive(frame: bytes, mac: bytes, vids: Container[int] = ()) -> Arrival:
    """Do ethernet-input for a port in L3 mode with this MAC and these 802.1Q sub-ports."""
    if len(frame) < 14:
        return Arrival("truncated")
    dst, src = frame[0:6], frame[6:12]
    if not is_multicast(dst) and dst != mac:
        return Arrival("not-for-us")
    ethertype = int.from_bytes(frame[12:14], "big")
    vid, tag, payload = None, b"", frame[14:]
    if ethertype in (VLAN, QINQ):
        if len(frame) < 18:
            return Arrival("truncated")
        tag, payload = frame[12:16], frame[18:]
        ethertype = int.from_bytes(frame[16:18], "big")
        vid = int.from_bytes(tag[2:4], "big") & 0x0FFF
        if vid == 0:
            vid = None
        elif vid not in vids or tag[:2] != VLAN.to_bytes(2, "big"):
            return Arrival("unknown-vlan")
    if ethertype not in (IP4, IP6, ARP):
        return Arrival("unknown-ethertype")
    return Arrival("", dst, src, vid, tag, ethertype, payload)


def header(dst: bytes, src: bytes, ethertype: int, tag: bytes = b"") -> bytes:
    """Return an Ethernet header, with a 4-byte VLAN tag (TPID, TCI) when one is given."""
    return dst + src + tag + ethertype.to_bytes(2, "big")


def tag_of(vid: int | None) -> bytes:
    """Return the tag with which a (sub-)port transmits: TPID 0x8100, PCP 0, DEI 0."""
    return b"" if vid is None else VLAN.to_bytes(2, "big") + vid.to_bytes(2, "big")
