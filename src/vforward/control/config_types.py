# SPDX-License-Identifier: Apache-2.0
"""The types of configuration values: MAC and IP addresses, tags, paths, names, bounded numbers.

Each carries a description of what is allowed, which error messages quote.
"""

import os
import re
from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    ValidationInfo,
)
from pydantic_core import CoreSchema, core_schema

from vforward.graph.control import WORKERS_MAX
from vforward.packet import ethernet as eth

_BROADCAST = IPv4Address("255.255.255.255")
TPIDS = {"dot1q": eth.VLAN, "dot1ad": eth.QINQ}
LINK_LOCAL = IPv6Network("fe80::/10")
"""RFC 4291 section 2.5.6."""
AnyAddress = IPv4Address | IPv6Address
AnyInterface = IPv4Interface | IPv6Interface
AnyNetwork = IPv4Network | IPv6Network


NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
"""What a port, a bridge or a VRF is called."""
NAME_SAYS = "1 to 32 of A-Z a-z 0-9 _ . -, the first a letter or digit"
DEFAULT_VRF = "default"


class Model(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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


def _from_text(
    make: Callable[[str], object], pattern: str, what: str, kinds: tuple[type, ...]
) -> BeforeValidator:
    """Make an object of a text; one of ``kinds`` is an object already, from a program."""

    def convert(value: object) -> object:
        if isinstance(value, kinds):
            return value
        try:
            if isinstance(value, str) and re.fullmatch(pattern, value):
                return make(value)
        except ValueError:
            pass
        msg = f"is not {what}" if isinstance(value, str) else "has the wrong type"
        raise ValueError(msg)

    return BeforeValidator(convert)


def is_link_local(address: AnyAddress) -> bool:
    """Whether it is an IPv6 address that counts on one link only."""
    return address in LINK_LOCAL if isinstance(address, IPv6Address) else False


def _unicast(address: AnyAddress) -> AnyAddress:
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    for wrong, kind in (
        (address.is_multicast, "a multicast"),
        (address.is_loopback, "a loopback"),
        (address.is_unspecified, "the zero"),
        (address == _BROADCAST, "the broadcast"),
        (mapped, "an IPv4-mapped"),
    ):
        if wrong:
            msg = f"is {kind} address"
            raise ValueError(msg)
    return address


def _interface_address(address: AnyInterface) -> AnyInterface:
    _unicast(address.ip)
    network = address.network
    ends: dict[AnyAddress, str] = {}
    if isinstance(network, IPv4Network):
        if network.prefixlen <= 30:
            ends = {network.network_address: "network", network.broadcast_address: "broadcast"}
    elif network.prefixlen <= 126:  # RFC 4291 section 2.6.1, RFC 6164
        ends = {network.network_address: "subnet-router anycast"}
    if address.ip in ends:
        msg = f"is the {ends[address.ip]} address of {network}"
        raise ValueError(msg)
    if is_link_local(address.ip) and network.prefixlen < LINK_LOCAL.prefixlen:
        msg = f"is a link-local address with a prefix wider than {LINK_LOCAL}"
        raise ValueError(msg)
    return address


def _network(text: str) -> AnyNetwork:
    return ip_network(text, strict=False)


def _no_host_bits(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(_WITH_LENGTH, value):
        try:
            network = _network(value)
            address = ip_address(value.split("/")[0])
        except ValueError:
            return value
        if network.network_address != address:
            msg = f'has host bits that are not zero; did you mean "{network}"?'
            raise ValueError(msg)
    return value


def _many(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(value)
    msg = "is not a list"
    raise ValueError(msg)


def _one_link_local(addresses: tuple[AnyInterface, ...]) -> tuple[AnyInterface, ...]:
    if sum(is_link_local(address.ip) for address in addresses) > 1:
        msg = "has more than one link-local address"
        raise ValueError(msg)
    return addresses


def _pair(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2:
        return tuple(value)
    msg = "is not a list of exactly two ports"
    raise ValueError(msg)


def _file(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch("[^\0\ud800-\udfff]+", value):  # JSON can say half a character
        msg = "is not a path"
        raise ValueError(msg)
    return Path((info.context or {}).get("base", ""), value)


def _exists(path: Path) -> Path:
    if not path.is_file():
        msg = "is not a file that exists"
        raise ValueError(msg)
    return path


def _tag(value: object) -> object:
    kind, number = "dot1q", value
    if isinstance(value, str) and (match := re.fullmatch(r"(dot1q|dot1ad):([0-9]{1,4})", value)):
        kind, number = match[1], int(match[2])
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 4094:
        msg = "is not a tag"
        raise ValueError(msg)
    return TPIDS[kind] << 16 | number


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
VrfName = Annotated[str, matching(NAME), says(f"the name of a VRF: {NAME_SAYS}")]
_TEXT4, _TEXT = r"[0-9.]+", r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
_WITH_LENGTH = rf"(?:{_TEXT})/[0-9]{{1,3}}"
Host4 = Annotated[
    IPv4Address,
    _from_text(IPv4Address, _TEXT4, "an IPv4 address", (IPv4Address,)),
    AfterValidator(_unicast),
    says('a unicast IPv4 address like "10.0.1.2"'),
]
_HOST_SAYS = says('a unicast address like "10.0.1.2" or "2001:db8::2"')
Host = Annotated[
    AnyAddress,
    _from_text(ip_address, _TEXT, "an IP address", (IPv4Address, IPv6Address)),
    AfterValidator(_unicast),
    _HOST_SAYS,
]
OptionalHost = Annotated[Host | None, _HOST_SAYS]
UnicastMac = Annotated[Mac, _MAC_SAYS]
OptionalMac = Annotated[Mac | None, _MAC_SAYS]
OptionalPath = Annotated[Path | None, BeforeValidator(_file), _PATH_SAYS]
SOCKET_PATH_MAX = 107  # unix(7)


def _socket_path(path: Path) -> Path:
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        msg = f"is too long for a socket: {len(os.fsencode(path))} bytes"
        raise ValueError(msg)
    return path


SocketPath = Annotated[
    Path,
    BeforeValidator(_file),
    AfterValidator(_socket_path),
    says(
        "the path of a Unix socket, up to 107 bytes; a relative one counts from this file's directory"
    ),
]
ExistingFile = Annotated[Path, BeforeValidator(_file), AfterValidator(_exists), _PATH_SAYS]
Address = Annotated[
    AnyInterface,
    _from_text(
        ip_interface,
        _WITH_LENGTH,
        "an IP address with a prefix length",
        (IPv4Interface, IPv6Interface),
    ),
    AfterValidator(_interface_address),
]
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list | tuple) else (value,)),
    AfterValidator(_one_link_local),
    says(
        'a host address with its prefix length like "10.0.1.1/24" or "2001:db8::1/64", '
        "or a list of them"
    ),
]
Prefix = Annotated[
    AnyNetwork,
    _from_text(_network, _WITH_LENGTH, "an IP prefix", (IPv4Network, IPv6Network)),
    BeforeValidator(_no_host_bits),
    says('a prefix without host bits like "10.1.0.0/16" or "2001:db8:1::/48"'),
]
Tag = Annotated[int, BeforeValidator(_tag)]
"""EtherType << 16 | VLAN id, as in tables/ports.py."""
Many = BeforeValidator(_many)


def _workers(value: object) -> int | str:
    if value == "auto" or (type(value) is int and 1 <= value <= WORKERS_MAX):
        return value
    msg = "is no number of workers"
    raise ValueError(msg)


Workers = Annotated[
    int | str, PlainValidator(_workers), says(f'"auto", or a whole number from 1 to {WORKERS_MAX}')
]
PortPair = Annotated[tuple[str, str], BeforeValidator(_pair), says("two names of ports")]
