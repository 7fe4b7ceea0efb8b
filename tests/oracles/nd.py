"""Neighbor discovery: RFC 4861 (messages, sections 4.3, 4.4, 7.1, 7.2; states, appendix C), RFC 4862.

Also the states of an IPv4 neighbor, where a reply to us is SOLICITED and OVERRIDE, any other
message OVERRIDE (RFC 826: what is said later counts).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from . import checksum, lpm
from .ethernet import is_multicast

SOLICITATION, ADVERTISEMENT = 135, 136
ALL_NODES = 0xFF02 << 112 | 1
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20


@dataclass(frozen=True)
class Result:
    """What nd-input does. Either `reply` (to this MAC) is to be sent, or `reason` is set."""

    reason: str = ""
    learn: tuple[str, int, bytes | None] | None = None  # flags of S, O, A (add), who, where
    to: bytes = b""
    reply: bytes = b""


def is_group(ip: int) -> bool:
    """Tell whether an address is multicast (RFC 4291 section 2.7)."""
    return ip >> 120 == 0xFF


def is_mapped(ip: int) -> bool:
    """Tell whether an address is an IPv4-mapped one (RFC 4291 section 2.5.5.2)."""
    return ip >> 32 == 0xFFFF


def solicited_node(ip: int) -> int:
    """Return an address's solicited-node group (RFC 4291 section 2.7.1)."""
    return 0xFF02 << 112 | 0x1FF << 24 | ip & 0xFFFFFF


def group_mac(ip: int) -> bytes:
    """Return the MAC of a group (RFC 2464 section 7)."""
    return b"\x33\x33" + (ip & 0xFFFFFFFF).to_bytes(4, "big")


def options(data: bytes) -> list[tuple[int, bytes]] | None:
    """Return (type, value) of every option, or None if one is bad (RFC 4861 section 4.6)."""
    found = []
    while data:
        if len(data) < 8 or data[1] == 0 or len(data) < 8 * data[1]:
            return None
        found.append((data[0], data[2 : 8 * data[1]]))
        data = data[8 * data[1] :]
    return found


def link_address(data: bytes, kind: int) -> bytes | None:
    """Return the first MAC of that option, b"" when there is none, None for a bad option."""
    found = options(data)
    if found is None:
        return None
    mac = next((value for each, value in found if each == kind), b"")
    return None if mac and (len(mac) != 6 or is_multicast(mac) or mac == bytes(6)) else mac


def advertisement(mac: bytes, target: int, dst: int, flags: int) -> bytes:
    """Return the IPv6 packet with a neighbor advertisement from the target (section 4.4)."""
    body = target.to_bytes(16, "big") + bytes([2, 1]) + mac
    return packet(target, dst, ADVERTISEMENT, bytes([flags, 0, 0, 0]) + body)


def solicitation(mac: bytes, source: int, target: int, dst: int | None = None) -> bytes:
    """Return the IPv6 packet with a neighbor solicitation, by default to the group (section 4.3)."""
    to = solicited_node(target) if dst is None else dst
    body = target.to_bytes(16, "big") + bytes([1, 1]) + mac
    return packet(source, to, SOLICITATION, bytes(4) + body)


def packet(src: int, dst: int, kind: int, rest: bytes, code: int = 0) -> bytes:
    """Return an IPv6 packet with an ICMPv6 message, hop limit 255 (RFC 8200, RFC 4443 section 2.3)."""
    ends = src.to_bytes(16, "big") + dst.to_bytes(16, "big")
    length = 4 + len(rest)
    head = bytes([0x60, 0, 0, 0]) + length.to_bytes(2, "big") + bytes([58, 255])
    pseudo = ends + length.to_bytes(4, "big") + bytes([0, 0, 0, 58])
    check = checksum.internet(pseudo + bytes([kind, code, 0, 0]) + rest)
    return head + ends + bytes([kind, code]) + check.to_bytes(2, "big") + rest


def receive(
    given: bytes, link_source: bytes, mac: bytes, addresses: Sequence[tuple[int, int]]
) -> Result:
    """Do nd-input for a port with this MAC and these (ip, prefix length) addresses.

    given is an IPv6 packet without extension headers whose checksum and hop limit are right.
    """
    message = given[40:]
    source, dst = (int.from_bytes(given[at : at + 16], "big") for at in (8, 24))
    if len(message) < 8:
        return Result("truncated")
    if message[0] not in (SOLICITATION, ADVERTISEMENT):
        return Result("ignored")
    if len(message) < 24:
        return Result("truncated")
    if message[1] != 0:
        return Result("bad-code")
    target = int.from_bytes(message[8:24], "big")
    if is_group(target) or is_mapped(target):
        return Result("bad-target")
    ours = [ip for ip, _ in addresses]
    if message[0] == ADVERTISEMENT:
        return _advertised(message, target, dst, ours)
    link = link_address(message[24:], 1)
    if link is None:
        return Result("bad-option")
    if source == 0:  # section 7.1.1
        if link or dst >> 24 != solicited_node(0) >> 24:
            return Result("bad-source")
    elif is_group(source) or is_mapped(source):
        return Result("bad-source")
    prefixes = [ip >> 128 - n << 128 - n for ip, n in addresses if ip >> 118 != 0xFE80 >> 6]
    anycast = target in prefixes and target not in ours and source != 0
    if target not in ours and not anycast:  # section 7.2.3
        return Result("not-for-us")
    if source in ours:
        return Result("address-conflict")
    on_link = any(lpm.covers(ip, n, source, 128) for ip, n in addresses)
    if source and source >> 118 != 0xFE80 >> 6 and not on_link:  # RFC 5942 section 3
        return Result("off-link")
    if source == 0:  # section 7.2.4
        reply = advertisement(mac, target, ALL_NODES, ROUTER | OVERRIDE)
        return Result("", None, group_mac(ALL_NODES), reply)
    override = 0 if anycast else OVERRIDE  # section 7.2.7
    reply = advertisement(mac, target, source, ROUTER | SOLICITED | override)
    return Result("", ("OA", source, link) if link else None, link or link_source, reply)


def _advertised(message: bytes, target: int, dst: int, ours: Sequence[int]) -> Result:
    """Sections 7.1.2, 7.2.5; RFC 4862 section 5.4.4 (somebody else advertises our address)."""
    link = link_address(message[24:], 2)
    if link is None:
        return Result("bad-option")
    if message[4] & SOLICITED and is_group(dst):
        return Result("bad-flags")
    if target in ours:
        return Result("address-conflict")
    flags = "S" * bool(message[4] & SOLICITED) + "O" * bool(message[4] & OVERRIDE)
    return Result("advertisement", (flags, target, link or None))


# Appendix C, "State Machine for the Reachability State". Without "upper-layer reachability
# confirmation", which a router does not have. Of a row: states, event, what is said of the link-layer
# address ("same" as cached, "different", "none"; where none is cached: "some", "none"), new state
# ("=": unchanged; None: no entry), actions: record (the link-layer address), send (queued packets),
# error (for them), multicast, unicast (a solicitation).
CACHED = ("REACHABLE", "STALE", "DELAY", "PROBE")
NOT_REACHABLE = ("STALE", "DELAY", "PROBE")
ANY = ("", "S", "O", "SO")
TABLE: list[tuple[tuple[str | None, ...], tuple[str, ...], str, str | None, str]] = [
    ((None,), ("packet",), "", "INCOMPLETE", "multicast"),
    (("INCOMPLETE",), ("retransmit",), "", "INCOMPLETE", "multicast"),
    (("INCOMPLETE",), ("give-up",), "", None, "error"),
    (("INCOMPLETE",), ("", "O"), "some", "STALE", "record send"),
    (("INCOMPLETE",), ("S", "SO"), "some", "REACHABLE", "record send"),
    (("INCOMPLETE",), ANY, "none", "=", ""),
    (CACHED, ("S",), "same none", "REACHABLE", ""),
    (("REACHABLE",), ("", "S"), "different", "STALE", ""),
    (NOT_REACHABLE, ("", "S"), "different", "=", ""),
    (CACHED, ("SO",), "same none", "REACHABLE", ""),
    (CACHED, ("SO",), "different", "REACHABLE", "record"),
    (CACHED, ("", "O"), "same none", "=", ""),
    (CACHED, ("O",), "different", "STALE", "record"),
    (("REACHABLE",), ("timeout",), "", "STALE", ""),
    (("STALE",), ("packet",), "", "DELAY", ""),
    (("DELAY",), ("timeout",), "", "PROBE", "unicast"),
    (("PROBE",), ("retransmit",), "", "PROBE", "unicast"),
    (("PROBE",), ("give-up",), "", None, ""),
    # Solicitations, router solicitations and advertisements, redirects.
    ((None,), ("told",), "some", "STALE", "record"),
    (("INCOMPLETE",), ("told",), "some", "STALE", "record send"),
    (CACHED, ("told",), "different", "STALE", "record"),
    (CACHED, ("told",), "same", "=", ""),
    # Section 7.2.5: there is no need to create an entry if none exists.
    ((None,), ANY, "some none", None, ""),
    # Not of the table: sending packets changes the other states not.
    (("INCOMPLETE", "REACHABLE", "DELAY", "PROBE"), ("packet",), "", "=", ""),
]
"""Flags of advertisements stand for them: S solicited, O override."""


def step(state: str | None, event: str, link: str = "") -> tuple[str | None, frozenset[str]]:
    """Return the new state ("=": unchanged, its time included) and the actions.

    Raises LookupError unless exactly one row says so.
    """
    found = [
        (new, frozenset(actions.split()))
        for states, events, links, new, actions in TABLE
        if state in states and event in events and (link in links.split() or link == links)
    ]
    if len(found) != 1:
        raise LookupError(state, event, link, found)
    return found[0]
