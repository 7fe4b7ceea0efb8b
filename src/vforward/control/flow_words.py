# SPDX-License-Identifier: Apache-2.0
"""The words of firewall and NAT rules: addresses, ports, protocols, ICMP types, TCP flags, DSCPs.

Each parser takes what a file or a program gives, and also what it has made before. It raises ValueError
with what is wrong, in words that follow the value's key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple, TypeVar

from vforward.control.wording import nearest

R = TypeVar("R")
AnyAddress = IPv4Address | IPv6Address
BITS = {4: 32, 6: 128}
TCP, ICMP, ICMP6 = 6, 1, 58
PROTOCOLS = {
    "icmp": ICMP, "igmp": 2, "tcp": TCP, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51,
    "icmp6": ICMP6, "ospf": 89, "pim": 103, "vrrp": 112, "sctp": 132, "udplite": 136,
}  # fmt: skip
"""IANA's protocol numbers."""
WITH_PORTS = ("tcp", "udp", "dccp", "sctp", "udplite")
_BITS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
TCP_FLAGS = {name: 1 << bit for bit, name in enumerate(_BITS)}
"""RFC 9293 section 3.1."""
DSCPS = {
    "be": 0, "le": 1, "va": 44, "ef": 46, **{f"cs{n}": 8 * n for n in range(8)},
    **{f"af{n}{drop}": 8 * n + 2 * drop for n in range(1, 5) for drop in range(1, 4)},
}  # fmt: skip
"""RFC 2474 section 4.2.2, RFC 2597 section 6, RFC 3246, RFC 5865, RFC 8622."""
ICMP_TYPES = {
    "echo-reply": 0, "unreachable": 3, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11,
    "parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14,
}  # fmt: skip
"""RFC 792, RFC 1256."""
ICMP6_TYPES = {
    "unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "router-solicitation": 133, "router-advertisement": 134,
    "neighbor-solicitation": 135, "neighbor-advertisement": 136, "redirect": 137,
}  # fmt: skip
"""RFC 4443, RFC 4861."""
_NETWORK = r"[0-9.]+/[0-9]{1,2}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/[0-9]{1,3}"

ADDRESSES_SAY = (
    'addresses like "10.0.0.1", "10.1.0.0/16", "10.0.0.5-10.0.0.9", "2001:db8::/32", or "@NAME" '
    "of a set under [address_sets]"
)
PORTS_SAY = 'ports from 0 to 65535 like 80, "8000-8080", or "@NAME" of a set under [port_sets]'
PROTOCOL_SAYS = f"{', '.join(PROTOCOLS)}, or a number from 0 to 255"
FLAGS_SAY = f'flags like "syn,!ack": {", ".join(TCP_FLAGS)}, with ! before those not set'
DSCP_SAYS = '"be", "le", "cs0" to "cs7", "af11" to "af43", "va", "ef", or a number from 0 to 63'
ICMP_SAYS = 'types like "echo-request" or 8, or with a code, "unreachable/4" or "3/4"'


def wrong(what: str) -> ValueError:
    """What a parser raises, also for a value of the wrong type."""
    return ValueError(what)


class Range(NamedTuple):
    """Addresses of a family, the last one included."""

    version: int
    first: int
    last: int

    def __str__(self) -> str:
        kind = IPv4Address if self.version == 4 else IPv6Address
        length = (self.first ^ self.last).bit_length()
        if self.first == self.last:
            return str(kind(self.first))
        if not self.first & ((1 << length) - 1) and self.last == self.first | ((1 << length) - 1):
            return f"{kind(self.first)}/{BITS[self.version] - length}"
        return f"{kind(self.first)}-{kind(self.last)}"


class Span(NamedTuple):
    """Ports, the last one included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class SetName(str):
    """The name of a set, which a rule writes with an @ before it."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"@{super().__str__()}"


class Flags(NamedTuple):
    """The TCP flags that count, and those of them that are set."""

    mask: int
    value: int

    def __str__(self) -> str:
        names = [(name, bit) for name, bit in TCP_FLAGS.items() if bit & self.mask]
        return ",".join(name if bit & self.value else f"!{name}" for name, bit in names)


class IcmpKind(NamedTuple):
    """An ICMP or ICMPv6 type, by name or number, with a code or with any."""

    type: str | int
    code: int | None = None

    def __str__(self) -> str:
        return str(self.type) if self.code is None else f"{self.type}/{self.code}"


def many(value: object, parse: Callable[[object], R]) -> tuple[R, ...]:
    """Parse one value, or each of a list."""
    items = value if isinstance(value, list | tuple) and not _is_made(value) else (value,)
    return tuple(parse(item) for item in items)


def as_text(value: object) -> str:
    """A text, or a number as one. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 1 << 64 else "too large"
    if not isinstance(value, str):
        raise wrong("has the wrong type")
    return value


def _is_made(value: object) -> bool:
    return isinstance(value, Range | Span | Flags | IcmpKind)


def addresses(value: object) -> Range | SetName:
    """An address, a prefix, a range "a-b", or a set's name."""
    if isinstance(value, Range | SetName):
        return value
    if isinstance(value, IPv4Address | IPv6Address):
        return Range(value.version, int(value), int(value))
    if isinstance(value, IPv4Network | IPv6Network):
        begin, end = int(value.network_address), int(value.broadcast_address)
        return Range(value.version, begin, end)
    if not isinstance(value, str):
        raise wrong("has the wrong type")
    if value.startswith("@"):
        return SetName(value[1:])
    try:
        if re.fullmatch(_NETWORK, value):
            return _network(value)
        ends = [_address(part) for part in value.split("-")]
    except (_Said, ValueError) as error:
        raise ValueError(str(error) if isinstance(error, _Said) else _NO_ADDRESS) from None
    first, last = ends[0], ends[-1]
    if len(ends) > 2 or first.version != last.version:
        raise ValueError(_NO_ADDRESS)
    if int(first) > int(last):
        raise ValueError("is an empty range: it ends before it begins")
    return Range(first.version, int(first), int(last))


_NO_ADDRESS = "is not an address, a prefix or a range of addresses"


class _Said(ValueError):
    """An error that says it itself."""


def _address(text: str) -> AnyAddress:
    if not re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", text):
        raise ValueError(text)
    return ip_address(text)


def _network(text: str) -> Range:
    network = ip_network(text, strict=False)
    if network.network_address != ip_address(text.split("/")[0]):
        raise _Said(f'has host bits that are not zero; did you mean "{network}"?')
    found = addresses(network)
    assert isinstance(found, Range)
    return found


def ports(value: object) -> Span | SetName:
    """A port, a range "a-b", or a set's name."""
    if isinstance(value, Span | SetName):
        return value
    if isinstance(value, str) and value.startswith("@"):
        return SetName(value[1:])
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", as_text(value))
    if not match or max(first := int(match[1]), last := int(match[2] or match[1])) > 65535:
        raise ValueError("is not a port or a range of ports")
    if first > last:
        raise ValueError("is an empty range: it ends before it begins")
    return Span(first, last)


def protocol(value: object) -> int:
    """A protocol's number."""
    return _number(value, PROTOCOLS, 255, "a protocol")


def dscp(value: object) -> int:
    """A DSCP, RFC 2474."""
    return _number(value, DSCPS, 63, "a DSCP")


def _number(value: object, names: dict[str, int], most: int, what: str) -> int:
    if isinstance(value, str):
        if value in names:
            return names[value]
        raise ValueError(f"is not {what}{nearest(value, names)}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong("has the wrong type")
    if not 0 <= value <= most:
        raise ValueError(f"is not {what}")
    return value


def tcp_flags(value: object) -> Flags:
    """TCP flags, "syn,!ack"."""
    if isinstance(value, Flags):
        return value
    if not isinstance(value, str):
        raise wrong("has the wrong type")
    mask = wanted = 0
    for word in value.replace(" ", "").split(","):
        name = word.removeprefix("!")
        if name not in TCP_FLAGS:
            raise ValueError(f"has a flag that does not exist{nearest(name, TCP_FLAGS)}")
        if mask & TCP_FLAGS[name]:
            raise ValueError(f"has {name} twice")
        mask |= TCP_FLAGS[name]
        wanted |= TCP_FLAGS[name] * (word == name)
    return Flags(mask, wanted)


def icmp(value: object) -> IcmpKind:
    """An ICMP type by name or number, perhaps with a code."""
    if isinstance(value, IcmpKind):
        return value
    kind, slash, code = as_text(value).partition("/")
    number = re.fullmatch(r"[0-9]{1,3}", kind)
    if slash and not (re.fullmatch(r"[0-9]{1,3}", code) and int(code) <= 255):
        raise ValueError("has a code that is not a number from 0 to 255")
    if number and int(kind) > 255:
        raise ValueError("is not an ICMP type")
    if not number and kind not in ICMP_TYPES and kind not in ICMP6_TYPES:
        raise ValueError(f"is not an ICMP type{nearest(kind, {**ICMP_TYPES, **ICMP6_TYPES})}")
    return IcmpKind(int(kind) if number else kind, int(code) if slash else None)


def icmp_span(kind: IcmpKind, protocol: int) -> Span | None:
    """An ICMP type and its codes as the classifier's ports: type << 8 | code. None: no such type."""
    names = ICMP_TYPES if protocol == ICMP else ICMP6_TYPES
    number = names.get(kind.type) if isinstance(kind.type, str) else kind.type
    if number is None:
        return None
    codes = (0, 255) if kind.code is None else (kind.code, kind.code)
    return Span(number << 8 | codes[0], number << 8 | codes[1])


def name_of(number: int, names: dict[str, int]) -> str | int:
    """The word for a number, or the number."""
    return next((name for name, n in names.items() if n == number), number)


def merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same numbers in as few ranges as there can be, in order; their last ones are included."""
    begin, end = -1, -1
    for first, last in sorted(spans):
        if begin < 0:
            begin, end = first, last
        elif first > end + 1:
            yield begin, end
            begin, end = first, last
        else:
            end = max(end, last)
    if begin >= 0:
        yield begin, end


def prefixes(first: int, last: int, bits: int) -> Iterator[tuple[int, int]]:
    """The fewest prefixes that are a range together, as value and mask."""
    while first <= last:
        size = min((first & -first) or 1 << bits, 1 << ((last - first + 1).bit_length() - 1))
        yield first, (1 << bits) - size
        first += size
