# SPDX-License-Identifier: Apache-2.0
"""The models of the firewall: itself, rules, policers, NAT. See rules for the same as objects."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator

from vforward.control import flow_words as words
from vforward.control import rules
from vforward.control.config_types import NAME, NAME_SAYS, PORT_SAYS, Model, matching, says, whole
from vforward.control.flow_words import Flags, IcmpKind, Range, SetName, Span

_YES_NO = says("true or false")
_ACTION_SAYS = says('"permit", "deny" or "reject"')
_NAMES = BeforeValidator(
    lambda value: tuple(value) if isinstance(value, list) else (value,),
    json_schema_input_type=str | list[str],
)
_LIST = BeforeValidator(
    lambda value: words.many(value, lambda item: item),
    json_schema_input_type=str | int | list[str | int],
)


def _parsed(parse: Callable[[object], object]) -> PlainValidator:
    return PlainValidator(parse, json_schema_input_type=str | int)


_Addresses = Annotated[
    tuple[Annotated[Range | SetName, _parsed(words.addresses)], ...],
    _LIST,
    says(words.ADDRESSES_SAY),
]
_Ports = Annotated[
    tuple[Annotated[Span | SetName, _parsed(words.ports)], ...], _LIST, says(words.PORTS_SAY)
]
_Protocols = Annotated[
    tuple[Annotated[int, _parsed(words.protocol)], ...], _LIST, says(words.PROTOCOL_SAYS)
]
_Icmp = Annotated[
    tuple[Annotated[IcmpKind, _parsed(words.icmp)], ...], _LIST, says(words.ICMP_SAYS)
]
_Dscp = Annotated[int | None, _parsed(words.dscp), says(words.DSCP_SAYS)]
_PortNames = Annotated[tuple[str, ...], _NAMES, says("the names of ports under [ports]")]
_RuleName = Annotated[str, matching(NAME), says(f"a name: {NAME_SAYS}")]
_Sessions = Annotated[int, whole(0, rules.SESSIONS_MAX)]
_Seconds = Annotated[int | None, whole(1, rules.TIMEOUT_MAX)]
_Rate = Annotated[int, _parsed(rules.rate), says(rules.RATE_SAYS)]
_Burst = Annotated[int, whole(rules.BURST_MIN, rules.BURST_MAX)]
_Remedy = Annotated[
    str | int, _parsed(rules.remedy), says(f'"pass", "drop", or a DSCP: {words.DSCP_SAYS}')
]
_Address4 = Annotated[Range, _parsed(rules.address4), says('an IPv4 address like "203.0.113.1"')]
_Prefix4 = Annotated[
    Range, _parsed(rules.prefix4), says('an IPv4 address or prefix like "203.0.113.0/28"')
]
_PORT_RANGE_SAYS = says('ports from 0 to 65535 like 80 or "8000-8080"')
_NewPorts = Annotated[
    Span, _parsed(rules.new_ports), says('ports from 1 to 65535 like "1024-65535"')
]
_ANY_PORT = Span(1024, 65535)


class Timeouts(Model):
    """Seconds after which a session without packets ends, by state. See tables.session."""

    tcp_opening: _Seconds = None
    tcp_established: _Seconds = None
    tcp_half_closed: _Seconds = None
    tcp_closing: _Seconds = None
    tcp_time_wait: _Seconds = None
    tcp_closed: _Seconds = None
    udp_unreplied: _Seconds = None
    udp: _Seconds = None
    icmp_unreplied: _Seconds = None
    icmp: _Seconds = None
    other_unreplied: _Seconds = None
    other: _Seconds = None


class Firewall(Model):
    """The firewall itself."""

    default: Annotated[Literal["permit", "deny", "reject"], _ACTION_SAYS]
    sessions: Annotated[int, whole(rules.SESSIONS_MIN, rules.SESSIONS_MAX)] = rules.SESSIONS
    loose: Annotated[bool, _YES_NO] = False
    per_source: _Sessions = 0
    ports: _PortNames = ()
    timeouts: Annotated[Timeouts, says("a table [firewall.timeouts]")] = Timeouts()


class Rule(Model):
    """What becomes of packets that have no session yet."""

    name: _RuleName = ""
    action: Annotated[Literal["permit", "deny", "reject"], _ACTION_SAYS]
    from_: Annotated[_Addresses, Field(alias="from")] = ()
    to: _Addresses = ()
    protocol: _Protocols = ()
    from_ports: _Ports = ()
    to_ports: _Ports = ()
    icmp: _Icmp = ()
    tcp_flags: Annotated[Flags | None, _parsed(words.tcp_flags), says(words.FLAGS_SAY)] = None
    dscp: _Dscp = None
    vlan: Annotated[int | None, whole(1, 4094)] = None
    in_: Annotated[_PortNames, Field(alias="in")] = ()
    out: Annotated[
        tuple[str, ...], _NAMES, says('names of ports under [ports], "self" for the router itself')
    ] = ()
    fragments: Annotated[bool | None, _YES_NO] = None
    family: Annotated[Literal[4, 6] | None, says("4 or 6")] = None
    stateful: Annotated[bool, _YES_NO] = True
    mark: _Dscp = None
    police: Annotated[str, says("the name of a policer under [policers]")] = ""
    sessions: _Sessions = 0
    per_source: _Sessions = 0


class SingleRate(Model):
    """RFC 2697; without an excess burst of two colours."""

    type: Literal["single-rate"]
    rate: _Rate
    burst: _Burst
    excess_burst: Annotated[int | None, whole(rules.BURST_MIN, rules.BURST_MAX)] = None
    yellow: _Remedy = rules.PASS
    red: _Remedy = rules.DROP


class TwoRate(Model):
    """RFC 2698."""

    type: Literal["two-rate"]
    rate: _Rate
    burst: _Burst
    peak_rate: _Rate
    peak_burst: _Burst
    yellow: _Remedy = rules.PASS
    red: _Remedy = rules.DROP


class Masquerade(Model):
    """Sources become the address of the port that packets leave by."""

    type: Literal["masquerade"]
    name: _RuleName = ""
    out: Annotated[str, PORT_SAYS]
    from_: Annotated[_Addresses, Field(alias="from")] = ()
    to: _Addresses = ()
    protocol: _Protocols = ()
    ports: _NewPorts = _ANY_PORT


class SourceNat(Model):
    """Sources become one of a pool's addresses."""

    type: Literal["source"]
    name: _RuleName = ""
    pool: Annotated[Range, _parsed(rules.range4), says(rules.POOL_SAYS)]
    from_: Annotated[_Addresses, Field(alias="from")] = ()
    to: _Addresses = ()
    protocol: _Protocols = ()
    out: _PortNames = ()
    ports: _NewPorts = _ANY_PORT


class DestinationNat(Model):
    """Destinations become another address, and perhaps another port."""

    type: Literal["destination"]
    name: _RuleName = ""
    to: _Address4
    new: _Address4
    from_: Annotated[_Addresses, Field(alias="from")] = ()
    protocol: _Protocols = ()
    to_ports: Annotated[Span | None, _parsed(rules.span), _PORT_RANGE_SAYS] = None
    new_port: Annotated[int | None, whole(1, 65535)] = None
    in_: Annotated[_PortNames, Field(alias="in")] = ()


class StaticNat(Model):
    """Addresses inside are others outside, one by one, both ways."""

    type: Literal["static"]
    name: _RuleName = ""
    inside: _Prefix4
    outside: _Prefix4
    port: _PortNames = ()


Policer = SingleRate | TwoRate
Nat = Masquerade | SourceNat | DestinationNat | StaticNat
POLICER_TYPES: dict[str, type[BaseModel]] = {"single-rate": SingleRate, "two-rate": TwoRate}
NAT_TYPES: dict[str, type[BaseModel]] = {
    "masquerade": Masquerade,
    "source": SourceNat,
    "destination": DestinationNat,
    "static": StaticNat,
}
_OBJECTS: dict[type[BaseModel], Callable[..., object]] = {
    Rule: rules.Rule,
    SingleRate: rules.Policer,
    TwoRate: rules.Policer,
    Masquerade: rules.Masquerade,
    SourceNat: rules.SourceNat,
    DestinationNat: rules.DestinationNat,
    StaticNat: rules.StaticNat,
}


def as_object(model: BaseModel) -> Any:
    """The object of rules that a model describes."""
    given = {name: getattr(model, name) for name in type(model).model_fields if name != "type"}
    return _OBJECTS[type(model)](**given)


def as_settings(model: Firewall) -> rules.FirewallSettings:
    """The firewall's settings as an object of rules."""
    given = {name: getattr(model, name) for name in Firewall.model_fields if name != "timeouts"}
    return rules.FirewallSettings(**given, timeouts=model.timeouts.model_dump(exclude_none=True))
