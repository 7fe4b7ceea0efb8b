# SPDX-License-Identifier: Apache-2.0
"""ARP for IPv4 over Ethernet: RFC 826 (packet reception), RFC 5227 (probes and conflicts)."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from . import lpm
from .ethernet import is_multicast

LENGTH = 28
REQUEST, REPLY = 1, 2
_FIXED = bytes.fromhex("0001 0800 06 04")  # hardware Ethernet, protocol IPv4, their lengths


@dataclass(frozen=True)
class Result:
    """What arp-input does. Either `reply` is the ARP payload to send, or `reason` is set."""

    reason: str = ""
    learn: tuple[int, bytes] | None = None  # (sender IP, sender MAC) to store as a neighbor
    reply: bytes = b""


def receive(
    payload: bytes, mac: bytes, addresses: Sequence[tuple[int, int]], known: Container[int] = ()
) -> Result:
    """Do arp-input for a port with this MAC and these (ip, prefix length) addresses.

    `known` are the IPs that already have a neighbor entry on the port. RFC 826 "Packet Reception":
    update what is known, add only when we are the target, answer requests for us.
    """
    if len(payload) < LENGTH:
        return Result("truncated")
    if payload[0:6] != _FIXED:
        return Result("malformed")
    op = int.from_bytes(payload[6:8], "big")
    if op not in (REQUEST, REPLY):
        return Result("unknown-op")
    sender_mac = payload[8:14]
    sender_ip = int.from_bytes(payload[14:18], "big")
    target_ip = int.from_bytes(payload[24:28], "big")
    if is_multicast(sender_mac) or sender_mac == bytes(6):
        return Result("bad-sender")
    ours = [ip for ip, _ in addresses]
    if sender_ip in ours:  # RFC 5227 section 2.4
        return Result("address-conflict")
    if sender_ip != 0 and not any(lpm.covers(ip, n, sender_ip) for ip, n in addresses):
        return Result("off-link")
    learn = None
    if sender_ip != 0 and (target_ip in ours or sender_ip in known):  # 0: RFC 5227 section 1.1
        learn = (sender_ip, sender_mac)
    if target_ip not in ours:
        return Result("not-for-us", learn)
    if op == REPLY:
        return Result("reply", learn)
    return Result("", learn, reply(payload, mac))


def reply(payload: bytes, mac: bytes) -> bytes:
    """Answer a request in place: swap the pairs, fill in our MAC, keep what follows the 28 bytes.

    RFC 826: "Swap hardware and protocol fields, putting the local hardware and protocol
    addresses in the sender fields."
    """
    sender, target_ip, padding = payload[8:18], payload[24:28], payload[28:]
    return _FIXED + REPLY.to_bytes(2, "big") + mac + target_ip + sender + padding


def request(mac: bytes, sender_ip: int, target_ip: int) -> bytes:
    """Return the 28 bytes that ask who has target_ip (RFC 826 "Packet Generation")."""
    return (
        _FIXED
        + REQUEST.to_bytes(2, "big")
        + mac
        + sender_ip.to_bytes(4, "big")
        + bytes(6)
        + target_ip.to_bytes(4, "big")
    )
