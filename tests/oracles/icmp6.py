# SPDX-License-Identifier: Apache-2.0
"""ICMPv6: RFC 4443; RFC 4861 sections 6.1 and 7.1 (hop limit), RFC 6980 (ND in fragments)."""

from collections.abc import Container, Iterable
from ipaddress import IPv6Address

from . import checksum, ip6

ECHO, ECHO_REPLY, REDIRECT = 128, 129, 137
ND = range(133, 138)
MAX_ERROR = 1280  # bytes of the whole packet: section 2.4 (c)
TOO_BIG, UNKNOWN_OPTION = (2, 0), (4, 2)


def check_of(src: IPv6Address, dst: IPv6Address, message: bytes) -> int:
    """Return the checksum of a message whose own is zero: section 2.3, RFC 8200 section 8.1."""
    pseudo = src.packed + dst.packed + len(message).to_bytes(4, "big") + bytes([0, 0, 0, ip6.ICMP])
    return checksum.internet(pseudo + message)


def with_checksum(src: IPv6Address, dst: IPv6Address, message: bytes) -> bytes:
    """Return the message with its checksum computed afresh."""
    zeroed = message[:2] + bytes(2) + message[4:]
    return message[:2] + check_of(src, dst, zeroed).to_bytes(2, "big") + message[4:]


def verifies(src: IPv6Address, dst: IPv6Address, message: bytes) -> bool:
    return check_of(src, dst, message) == 0


def header(src: IPv6Address, dst: IPv6Address, length: int) -> bytes:
    """Return the header of a message that a router sends, but for ND."""
    front = bytes([0x60, 0, 0, 0]) + length.to_bytes(2, "big") + bytes([ip6.ICMP, 64])
    return front + src.packed + dst.packed


def local(packet: bytes, host: bool = False) -> tuple[str, str | tuple[int, int, int] | None]:
    """Return ip6-local's edge, with the reason or the ICMPv6 type, code and pointer.

    host: whether a host stands at the port.
    """
    edge, why = _local(packet)
    ours = edge in ("echo", "nd") or why in (
        "bad-checksum", "nd-hop-limit", "nd-fragment", "echo-no-source",
    )  # fmt: skip
    return ("punt", None) if host and not ours else (edge, why)


def _local(packet: bytes) -> tuple[str, str | tuple[int, int, int] | None]:
    found = ip6.walk(packet)
    if found.drop:
        return "drop", found.drop
    if found.problem:
        return "error", found.problem
    message = packet[found.offset :]
    match found.protocol:
        case ip6.ICMP:
            return _message(packet, message, found.fragmented)
        case ip6.UDP:
            return "error", (1, 4, 0)
        case ip6.TCP:
            return "drop", "no-listener"
        case ip6.NO_NEXT:
            return "drop", "no-next-header"
    return "error", (4, 1, found.field)


def _message(packet: bytes, message: bytes, fragmented: bool) -> tuple[str, str | None]:
    if len(message) < 8:
        return "drop", "icmp-truncated"
    echo = message[:2] == bytes([ECHO, 0])
    if not echo and message[0] not in ND:
        return "drop", "icmp-ignored"
    if not verifies(ip6.source(packet), ip6.destination(packet), message):
        return "drop", "bad-checksum"
    if echo:
        return ("drop", "echo-no-source") if ip6.source(packet).is_unspecified else ("echo", None)
    if packet[7] != 255:
        return "drop", "nd-hop-limit"
    return ("drop", "nd-fragment") if fragmented else ("nd", None)


def speaker(
    to: IPv6Address, its: Iterable[IPv6Address], others: Iterable[IPv6Address]
) -> IPv6Address | None:
    """Return the address to speak from: section 2.2. its are the port's, others the VRF's."""
    mine = [a for a in its if a.is_link_local]
    if not to.is_link_local:
        mine = [a for a in [*its, *others] if not a.is_link_local] + mine
    return mine[0] if mine else None


def echo_reply(packet: bytes, speak: IPv6Address | None, *, anycast: bool = False) -> bytes:
    """Answer an echo request (section 4.2), without extension headers.

    speak: for what was sent to a group, or to an anycast address (section 2.2b).

    The checksum is changed by RFC 1624 equation 3, which is what a fresh sum gives.
    """
    asked, asker = ip6.destination(packet), ip6.source(packet)
    src = speak if asked.is_multicast or anycast else asked
    assert src is not None
    message = packet[ip6.walk(packet).offset :]
    return header(src, asker, len(message)) + with_checksum(
        src, asker, bytes([ECHO_REPLY]) + message[1:]
    )


def refusal(
    packet: bytes, what: tuple[int, int], link_multicast: bool,
    own: Container[IPv6Address], speak: IPv6Address | None,
) -> str | None:  # fmt: skip
    """Return why icmp6-error says nothing about packet, or None: section 2.4 (e).

    own are the addresses of the router that the port knows; speak is the one to speak from.
    """
    protocol, at = ip6.upper(packet)
    if protocol == ip6.ICMP:
        kind = packet[at] if at < len(packet) else 0
        if kind < 128 or kind == REDIRECT:
            return "icmp-about-icmp"
    if link_multicast or ip6.destination(packet).is_multicast:
        if what not in (TOO_BIG, UNKNOWN_OPTION):
            return "icmp-about-multicast"
    src = ip6.source(packet)
    if src.is_unspecified or src.is_multicast or src in own:
        return "icmp-bad-source"
    return None if speak else "icmp-no-address"


def error(packet: bytes, speak: IPv6Address, kind: int, code: int, word: int = 0) -> bytes:
    """Return the ICMPv6 error about packet (section 3); word is the MTU or the pointer."""
    quote = packet[: MAX_ERROR - 48]
    message = bytes([kind, code, 0, 0]) + word.to_bytes(4, "big") + quote
    to = ip6.source(packet)
    return header(speak, to, len(message)) + with_checksum(speak, to, message)
