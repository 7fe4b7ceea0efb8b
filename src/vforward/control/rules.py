# SPDX-License-Identifier: Apache-2.0
"""What a firewall is told: rules, NAT, policers, settings. docs/configuration.md says what each means.

    Rule(action="permit", from_="10.1.0.0/16", to="@servers", protocol="tcp", to_ports=[80, 443])
    Masquerade(from_="10.0.0.0/8", out="wan")

Fields have the names of the file's keys; where that is a word of Python's own, with a _ behind it. Where
a list may stand, one value may stand for it. A value that is wrong by itself raises ConfigError here;
what is wrong with the rest of the world, see rule_checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from vforward.control import flow_words as words
from vforward.errors import ConfigError

Parse = Callable[[Any], Any]
PERMIT, DENY, REJECT = "permit", "deny", "reject"
ACTIONS = (PERMIT, DENY, REJECT)
SELF = "self"
"""As a rule's ``out``: the router itself."""
PASS, DROP = "pass", "drop"
RATE_MAX = 10**12
BURST_MIN, BURST_MAX = 64, 2**31 - 1
SESSIONS_MIN, SESSIONS, SESSIONS_MAX = (1 << 10) - 1, (1 << 16) - 1, (1 << 24) - 1
"""A power of two less 1: no memory is left over."""
TIMEOUT_MAX = 60_000
TIMEOUTS = (
    *("tcp_opening", "tcp_established", "tcp_half_closed", "tcp_closing", "tcp_time_wait"),
    *("tcp_closed", "udp_unreplied", "udp", "icmp_unreplied", "icmp", "other_unreplied", "other"),
)
"""tables.session.KINDS, in words of the file."""
RATE_SAYS = 'bits per second up to 1T, like 10000000, "10M", "2.5G" or "64k"'
POOL_SAYS = 'an address, a range or a prefix like "203.0.113.10-203.0.113.20"'


def key_of(name: str) -> str:
    """The key of the file for a field's name."""
    return name.rstrip("_")


def _one_of(*choices: Any) -> Parse:
    def parse(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"is not one of {', '.join(map(repr, choices))}")
        return value

    return parse


def _whole(low: int, high: int) -> Parse:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return value

    return parse


def _many(parse: Parse) -> Parse:
    return lambda value: words.many(value, parse)


def _maybe(parse: Parse) -> Parse:
    return lambda value: None if value is None else parse(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise words.wrong("has the wrong type")
    return value


def _yes_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise words.wrong("is not true or false")
    return value


def rate(value: Any) -> int:
    """Bits per second: a number, perhaps with k, M, G or T for thousands."""
    match = re.fullmatch(r"([0-9]{1,13})(?:\.([0-9]{1,3}))?([kMGT]?)", words.as_text(value))
    if not match:
        raise ValueError("is not a rate")
    scale = 1000 ** " kMGT".index(match[3] or " ")
    thousandths = int(match[1]) * 1000 + int((match[2] or "0").ljust(3, "0"))
    found, left = divmod(thousandths * scale, 1000)
    if left:
        raise ValueError("is not a whole number of bits")
    if not 8 <= found <= RATE_MAX:
        raise ValueError(f"is too {'small' if found < 8 else 'large'}")
    return found


def remedy(value: Any) -> str | int:
    """What a policer does with a colour: "pass", "drop", or the DSCP that is set."""
    return value if value in (PASS, DROP) and isinstance(value, str) else words.dscp(value)


def range4(value: Any) -> words.Range:
    """IPv4 addresses: one, a prefix or a range, no set."""
    found = words.addresses(value)
    if not isinstance(found, words.Range) or found.version != 4:
        raise ValueError("is not an IPv4 address, nor a range of them")
    return found


def address4(value: Any) -> words.Range:
    """One IPv4 address."""
    found = range4(value)
    if found.first != found.last:
        raise ValueError("is more than one address")
    return found


def prefix4(value: Any) -> words.Range:
    """An IPv4 address or prefix."""
    found = range4(value)
    if "-" in str(found):
        raise ValueError("is not an address or a prefix")
    return found


def span(value: Any) -> words.Span:
    """A port or a range of ports, no set."""
    found = words.ports(value)
    if not isinstance(found, words.Span):
        raise words.wrong("is a set, and cannot be one here")
    return found


def _timeouts(value: Any) -> dict[str, int]:
    for name, seconds in dict(value).items():
        if name not in TIMEOUTS:
            raise ValueError(f"has {name!r}, which is none of {', '.join(TIMEOUTS)}")
        _whole(1, TIMEOUT_MAX)(seconds)
    return dict(value)


def new_ports(value: Any) -> words.Span:
    """The ports that translated sources get."""
    found = span(value)
    if not found.first:
        raise ValueError("begins at 0, which is no port")
    return found


class _Said:
    """A table of the file as an object: its fields are parsed when it is made."""

    PARSE: ClassVar[Mapping[str, Parse]]

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):  # type: ignore[arg-type]
            try:
                object.__setattr__(self, name, self.PARSE[name](getattr(self, name)))
            except ValueError as error:
                what = f"{type(self).__name__} {getattr(self, 'name', '')}".rstrip()
                got = repr(getattr(self, name))
                raise ConfigError(f"{what}: {key_of(name)}: {error} (got {got})") from None


@dataclass(frozen=True, kw_only=True)
class Rule(_Said):
    """What becomes of packets that have no session yet, and of which flow."""

    action: str
    name: str = ""
    from_: Any = ()
    to: Any = ()
    protocol: Any = ()
    from_ports: Any = ()
    to_ports: Any = ()
    icmp: Any = ()
    tcp_flags: Any = None
    dscp: Any = None
    vlan: int | None = None
    in_: Any = ()
    out: Any = ()
    fragments: bool | None = None
    family: int | None = None
    stateful: bool = True
    mark: Any = None
    police: str = ""
    sessions: int = 0
    per_source: int = 0

    PARSE: ClassVar[Mapping[str, Parse]] = {
        "action": _one_of(*ACTIONS),
        "name": _text,
        **dict.fromkeys(("from_", "to"), _many(words.addresses)),
        "protocol": _many(words.protocol),
        **dict.fromkeys(("from_ports", "to_ports"), _many(words.ports)),
        "icmp": _many(words.icmp),
        "tcp_flags": _maybe(words.tcp_flags),
        **dict.fromkeys(("dscp", "mark"), _maybe(words.dscp)),
        "vlan": _maybe(_whole(1, 4094)),
        **dict.fromkeys(("in_", "out"), _many(_text)),
        "fragments": _maybe(_yes_no),
        "family": _maybe(_one_of(4, 6)),
        "stateful": _yes_no,
        "police": _text,
        **dict.fromkeys(("sessions", "per_source"), _whole(0, SESSIONS_MAX)),
    }


@dataclass(frozen=True, kw_only=True)
class Policer(_Said):
    """A token bucket or two. Two-rate (RFC 2698) with a peak rate, else single-rate (RFC 2697);
    of two colours without an excess burst.

    rate, peak_rate: bits per second. burst, excess_burst, peak_burst: bytes.
    """

    rate: Any
    burst: int
    excess_burst: int | None = None
    peak_rate: Any = None
    peak_burst: int | None = None
    yellow: Any = PASS
    red: Any = DROP

    PARSE: ClassVar[Mapping[str, Parse]] = {
        "rate": rate,
        "peak_rate": _maybe(rate),
        "burst": _whole(BURST_MIN, BURST_MAX),
        **dict.fromkeys(("excess_burst", "peak_burst"), _maybe(_whole(BURST_MIN, BURST_MAX))),
        **dict.fromkeys(("yellow", "red"), remedy),
    }


@dataclass(frozen=True, kw_only=True)
class Masquerade(_Said):
    """Sources become the address of the port that packets leave by."""

    out: str
    name: str = ""
    from_: Any = ()
    to: Any = ()
    protocol: Any = ()
    ports: Any = "1024-65535"

    PARSE: ClassVar[Mapping[str, Parse]] = {
        **dict.fromkeys(("out", "name"), _text),
        **dict.fromkeys(("from_", "to"), _many(words.addresses)),
        "protocol": _many(words.protocol),
        "ports": new_ports,
    }


@dataclass(frozen=True, kw_only=True)
class SourceNat(_Said):
    """Sources become one of a pool's addresses."""

    pool: Any
    name: str = ""
    from_: Any = ()
    to: Any = ()
    protocol: Any = ()
    out: Any = ()
    ports: Any = "1024-65535"

    PARSE: ClassVar[Mapping[str, Parse]] = {
        "pool": range4,
        "name": _text,
        **dict.fromkeys(("from_", "to"), _many(words.addresses)),
        "protocol": _many(words.protocol),
        "out": _many(_text),
        "ports": new_ports,
    }


@dataclass(frozen=True, kw_only=True)
class DestinationNat(_Said):
    """Destinations become another address, and perhaps another port."""

    to: Any
    new: Any
    name: str = ""
    from_: Any = ()
    protocol: Any = ()
    to_ports: Any = None
    new_port: int | None = None
    in_: Any = ()

    PARSE: ClassVar[Mapping[str, Parse]] = {
        **dict.fromkeys(("to", "new"), address4),
        "name": _text,
        "from_": _many(words.addresses),
        "protocol": _many(words.protocol),
        "to_ports": _maybe(span),
        "new_port": _maybe(_whole(1, 65535)),
        "in_": _many(_text),
    }


@dataclass(frozen=True, kw_only=True)
class StaticNat(_Said):
    """Addresses inside are others outside, one by one, both ways."""

    inside: Any
    outside: Any
    name: str = ""
    port: Any = ()

    PARSE: ClassVar[Mapping[str, Parse]] = {
        **dict.fromkeys(("inside", "outside"), prefix4),
        "name": _text,
        "port": _many(_text),
    }


Nat = Masquerade | SourceNat | DestinationNat | StaticNat


@dataclass(frozen=True, kw_only=True)
class FirewallSettings(_Said):
    """The firewall itself. ports: where it is on; none: at all that are routed.

    timeouts: seconds by state, see TIMEOUTS; what is left out has its default.
    """

    default: str
    sessions: int = SESSIONS
    loose: bool = False
    per_source: int = 0
    ports: Any = ()
    timeouts: Mapping[str, int] = field(default_factory=dict)

    PARSE: ClassVar[Mapping[str, Parse]] = {
        "default": _one_of(*ACTIONS),
        "sessions": _whole(SESSIONS_MIN, SESSIONS_MAX),
        "loose": _yes_no,
        "per_source": _whole(0, SESSIONS_MAX),
        "ports": _many(_text),
        "timeouts": _timeouts,
    }
