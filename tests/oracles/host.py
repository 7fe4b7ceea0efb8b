# SPDX-License-Identifier: Apache-2.0
"""The host at the router: RFC 826 and 1027 (proxy ARP), RFC 4861 sections 7.1.1, 7.2.4 and 7.2.8
(solicitations and proxy advertisements), IEEE 802.1Q-2018 section 9.6 (tags)."""

from collections.abc import Container
from dataclasses import dataclass

LINK_LOCAL_BITS = 0xFE80 >> 6
MAPPED = 0xFFFF << 32


@dataclass(frozen=True)
class Peer:
    """The port for which the TAP stands. own: all addresses of its VRF, as 128 bits."""

    mac: bytes
    own: Container[int]
    tags: tuple[tuple[int, int], ...] = ()  # (TPID, VLAN id), the outer first
    up: bool = True


def proxy(mac: bytes) -> bytes:
    """The MAC that all other stations have, seen from the host."""
    return bytes([mac[0] ^ 2]) + mac[1:]


def from_host(frame: bytes, peer: Peer) -> tuple[str, bytes, str]:
    """What becomes of a frame from the host: the way, the frame then, and why if it is dropped."""
    if not peer.up:
        return "drop", frame, "no-peer"
    if len(frame) < 14:
        return "drop", frame, "truncated"
    kind, payload = frame[12:14], frame[14:]
    if kind == b"\x08\x06":
        return _arp(frame, payload, peer)
    if kind not in (b"\x08\x00", b"\x86\xdd"):
        return "drop", frame, "unknown-ethertype"
    if len(payload) < (20 if kind == b"\x08\x00" else 40):
        return "drop", frame, "truncated"
    if kind == b"\x86\xdd" and payload[6] == 58 and payload[40:41] == b"\x87":
        return _solicitation(frame, payload, peer)
    if frame[0] & 1:
        tags = b"".join(t.to_bytes(2, "big") + v.to_bytes(2, "big") for t, v in peer.tags)
        return "output", frame[:12] + tags + frame[12:], ""
    if kind == b"\x08\x00":
        to = MAPPED | int.from_bytes(payload[16:20], "big")
    else:
        to = int.from_bytes(payload[24:40], "big")
    if to in peer.own:
        return "drop", frame, "to-own"
    if to >> 118 == LINK_LOCAL_BITS:
        return "drop", frame, "link-local"
    return ("ip4" if kind == b"\x08\x00" else "ip6"), frame, ""


def _arp(frame: bytes, payload: bytes, peer: Peer) -> tuple[str, bytes, str]:
    if len(payload) < 28:
        return "drop", frame, "truncated"
    if payload[:6] != bytes.fromhex("000108000604"):
        return "drop", frame, "malformed"
    sender, target = payload[14:18], payload[24:28]
    ours = MAPPED | int.from_bytes(target, "big") in peer.own
    if payload[6:8] != b"\x00\x01" or sender == bytes(4) or ours:
        return "drop", frame, "not-answered"
    mac = proxy(peer.mac)
    answer = payload[:6] + b"\x00\x02" + mac + target + payload[8:18] + payload[28:]
    return "reply", frame[6:12] + mac + frame[12:14] + answer, ""


def _solicitation(frame: bytes, packet: bytes, peer: Peer) -> tuple[str, bytes, str]:
    length = int.from_bytes(packet[4:6], "big")
    message = packet[40 : 40 + length]
    if length < 24 or len(message) < length:
        return "drop", frame, "truncated"
    frame = frame[: 54 + length]
    source, target = packet[8:24], message[8:24]
    wrong = packet[7] != 255 or message[1] != 0 or target[0] == 0xFF
    if wrong or checksum(packet[8:40] + length.to_bytes(4, "big") + b"\0\0\0\x3a" + message):
        return "drop", frame, "malformed"
    number = int.from_bytes(target, "big")
    if source == bytes(16) or number >> 118 == LINK_LOCAL_BITS or number in peer.own:
        return "drop", frame, "not-answered"
    mac = proxy(peer.mac)
    return "reply", frame[6:12] + mac + frame[12:14] + advertisement(target, source, mac), ""


def advertisement(target: bytes, to: bytes, mac: bytes) -> bytes:
    """The packet that says which MAC an address has: solicited, not to override (RFC 4861 4.4)."""
    message = b"\x88\x00\x00\x00\x40\x00\x00\x00" + target + b"\x02\x01" + mac
    value = checksum(target + to + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message)
    message = message[:2] + value.to_bytes(2, "big") + message[4:]
    return b"\x60\0\0\0" + len(message).to_bytes(2, "big") + b"\x3a\xff" + target + to + message


def checksum(data: bytes) -> int:
    """The Internet checksum: RFC 1071. Of what contains its own, 0."""
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def to_host(frame: bytes, tags: int, mac: bytes, *, group: bool) -> bytes:
    """The frame in which a packet for the router itself reaches its host."""
    packet = frame[14 + 4 * tags :]
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    return (frame[:6] if group else mac) + frame[6:12] + kind + packet
