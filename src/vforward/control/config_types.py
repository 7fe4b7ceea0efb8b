# SPDX-License-Identifier: Apache-2.0
"""The types of configuration values: MAC and IPv4 addresses, paths, names, bounded numbers.

Each carries a description of what is allowed, which error messages quote.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")

_BROADCAST = IPv4Address("255.255.255.255")


class Mac(str):
    """A unicast MAC address in lower case, "02:00:00:00:00:01"; `packed` has its six bytes.

    Raises ValueError when the text is anything else.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the text and bring it to lower case."""
        if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", text):
            msg = "is not a MAC address"
            raise ValueError(msg)
        if int(text[:2], 16) & 1:
            msg = "is a multicast MAC address"
            raise ValueError(msg)
        if not text.strip("0:"):
            msg = "is the zero MAC address"
            raise ValueError(msg)
        return super().__new__(cls, text.lower())

    @property
    def packed(self) -> bytes:
        """The six bytes, in the order of the wire."""
        return bytes.fromhex(self.replace(":", ""))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def _from_text(make: Callable[[str], T], pattern: str, what: str) -> BeforeValidator:
    def convert(value: object) -> object:
        if not isinstance(value, str):
            return value  # an address object from a program, or for pydantic to refuse
        try:
            if re.fullmatch(pattern, value):
                return make(value)
        except ValueError:
            pass
        msg = f"is not {what}"
        raise ValueError(msg)

    return BeforeValidator(convert)


def _unicast(address: IPv4Address) -> IPv4Address:
    for wrong, kind in (
        (address.is_multicast, "a multicast"),
        (address.is_loopback, "a loopback"),
        (address.is_unspecified, "the zero"),
        (address == _BROADCAST, "the broadcast"),
    ):
        if wrong:
            msg = f"is {kind} address"
            raise ValueError(msg)
    return address


def _interface_address(address: IPv4Interface) -> IPv4Interface:
    _unicast(address.ip)
    network = address.network
    if network.prefixlen <= 30:
        ends = {network.network_address: "network", network.broadcast_address: "broadcast"}
        if address.ip in ends:
            msg = f"is the {ends[address.ip]} address of {network}"
            raise ValueError(msg)
    return address


def _network(text: str) -> IPv4Network:
    return IPv4Network(text, strict=False)


def _no_host_bits(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9.]+/[0-9]{1,2}", value):
        try:
            network = _network(value)
        except ValueError:
            return value
        if str(network.network_address) != value.split("/")[0]:
            msg = f'has host bits that are not zero; did you mean "{network}"?'
            raise ValueError(msg)
    return value


def _pair(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2:
        return tuple(value)
    msg = "is not a list of exactly two ports"
    raise ValueError(msg)


def _file(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        msg = "is not a path"
        raise ValueError(msg)
    return Path((info.context or {}).get("base", ""), value)


def matching(pattern: str) -> AfterValidator:
    def matches(value: str) -> str:
        if not re.fullmatch(pattern, value):
            msg = "is not a name that can be used"
            raise ValueError(msg)
        return value

    return AfterValidator(matches)


def whole(low: int, high: int) -> object:
    return Field(ge=low, le=high, description=f"a whole number from {low} to {high}")


def says(allowed: str) -> object:
    """Say what is allowed: error messages quote a field's description."""
    return Field(description=allowed)


_MAC_SAYS = says('a unicast MAC address like "02:00:00:00:00:01"')
_PATH_SAYS = says("the path of a file; a relative one counts from this file's directory")
PORT_SAYS = says("the name of a port under [ports]")
_IP = _from_text(IPv4Address, r"[0-9.]+", "an IPv4 address")
_IP_SAYS = says('a unicast IPv4 address like "10.0.1.2"')
Host = Annotated[IPv4Address, _IP, AfterValidator(_unicast), _IP_SAYS]
OptionalHost = Annotated[Host | None, _IP_SAYS]
UnicastMac = Annotated[Mac, _MAC_SAYS]
OptionalMac = Annotated[Mac | None, _MAC_SAYS]
OptionalPath = Annotated[Path | None, BeforeValidator(_file), _PATH_SAYS]
Address = Annotated[
    IPv4Interface,
    _from_text(IPv4Interface, r"[0-9.]+/[0-9]{1,2}", "an IPv4 address with a prefix length"),
    AfterValidator(_interface_address),
]
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list | tuple) else (value,)),
    says('a host address with its prefix length like "10.0.1.1/24", or a list of them'),
]
Prefix = Annotated[
    IPv4Network,
    _from_text(_network, r"[0-9.]+/[0-9]{1,2}", "an IPv4 prefix"),
    BeforeValidator(_no_host_bits),
    says('an IPv4 prefix without host bits like "10.1.0.0/16"'),
]
PortPair = Annotated[tuple[str, str], BeforeValidator(_pair), says("two names of ports")]
