# SPDX-License-Identifier: Apache-2.0
"""Configuration: a TOML file becomes frozen, checked models; docs/configuration.md lists the keys.

`load` and `parse` are the way in: what they return is consistent. Models that a program builds by
itself are checked field by field only.
"""

import re
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from vforward.control.config_checks import Draft, check
from vforward.control.config_errors import (
    KeyPath,
    Problem,
    config_error,
    listed,
    model_problems,
    nearest,
    syntax_error,
    unknown_key,
)
from vforward.control.config_types import (
    PORT_SAYS,
    Addresses,
    Host,
    Mac,
    OptionalHost,
    OptionalMac,
    OptionalPath,
    PortPair,
    Prefix,
    UnicastMac,
    matching,
    says,
    whole,
)
from vforward.errors import ConfigError

__all__ = ["Config", "Mac", "Port", "load", "parse"]

M = TypeVar("M", bound=BaseModel)

_EVEN_ABSENT = Field(validate_default=True)
_INTERFACE = r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}"  # Linux: no blank, slash or colon
_PORT_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Forwarder(_Model):
    """The process: its name, its memory and its worker."""

    name: Annotated[
        str, matching(r"[a-z0-9][a-z0-9_-]{0,31}"), says("1 to 32 of a-z 0-9 _ -, not first _ -")
    ]
    vector: Annotated[int, whole(1, 256)] = 256
    buffers: Annotated[int, whole(1024, 4194304)] = 16384
    idle: Annotated[Literal["poll", "spin"], says('"poll" or "spin"')] = "poll"
    core: Annotated[int | None, whole(0, 1023)] = None


class _Port(_Model):
    address: Addresses = ()
    mtu: Annotated[int, whole(68, 65535)] = 1500


class AfPacketPort(_Port):
    """A Linux interface, through a packet socket with mapped rings."""

    type: Literal["af_packet"]
    interface: Annotated[
        str, matching(_INTERFACE), says("the name of a Linux interface, 1 to 15 characters")
    ]
    mac: OptionalMac = None
    ring_mib: Annotated[int, whole(1, 1024)] = 32
    promiscuous: Annotated[bool, says("true or false")] = True


def _file_needed(write: Path | None, info: ValidationInfo) -> Path | None:
    if write is None and info.data.get("read", "refused already") is None:
        msg = "is missing, and so is read: a pcap port needs one of them or both"
        raise ValueError(msg)
    return write


class PcapPort(_Port):
    """Capture files: one to read packets from, one to write packets to, or both."""

    type: Literal["pcap"]
    read: OptionalPath = None
    write: Annotated[OptionalPath, AfterValidator(_file_needed), _EVEN_ABSENT] = None
    resolution: Annotated[Literal["ns", "us"], says('"ns" or "us"')] = "ns"
    mac: OptionalMac = None


class MemoryPort(_Port):
    """Packets that a program hands over and takes back, through the library."""

    type: Literal["memory"]
    mac: OptionalMac = None


class GeneratorPort(_Port):
    """UDP packets made by the forwarder itself, for benchmarks."""

    type: Literal["generator"]
    count: Annotated[int | None, whole(1, 2**63 - 1)] = None
    size: Annotated[int, whole(60, 9000)] = 60
    flows: Annotated[int, whole(1, 1048576)] = 256
    src: Host = IPv4Address("10.0.1.2")
    dst: Host = IPv4Address("10.0.2.2")
    dst_mac: OptionalMac = None
    touch: Annotated[Literal["headers", "whole"], says('"headers" or "whole"')] = "whole"
    mac: OptionalMac = None


class NullPort(_Port):
    """Swallows everything that is sent to it, for benchmarks."""

    type: Literal["null"]


class VlanPort(_Port):
    """The packets of one VLAN on another port."""

    type: Literal["vlan"]
    parent: Annotated[str, PORT_SAYS]
    vlan: Annotated[int, whole(1, 4094)]


Port = AfPacketPort | PcapPort | MemoryPort | GeneratorPort | NullPort | VlanPort
_PORT_TYPES: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(Port)
}


def _only_one(kind: str | None, info: ValidationInfo) -> str | None:
    via, port = (info.data.get(key, "refused already") for key in ("via", "port"))
    if kind is None and via is None and port is None:
        msg = "is missing, and so are via and port: a route needs one of the three"
        raise ValueError(msg)
    if kind is not None and (via is not None or port is not None):
        msg = "cannot stand beside via or port: remove one of them"
        raise ValueError(msg)
    return kind


class Route(_Model):
    """Where packets to a prefix go: by way of a router, out of a port, or nowhere."""

    prefix: Prefix
    via: OptionalHost = None
    port: Annotated[str | None, PORT_SAYS] = None
    type: Annotated[
        Literal["blackhole", "unreachable", "prohibit"] | None,
        says('"blackhole", "unreachable" or "prohibit"'),
        AfterValidator(_only_one),
        _EVEN_ABSENT,
    ] = None


class Neighbor(_Model):
    """A static entry of the neighbor table."""

    address: Host
    mac: UnicastMac
    port: Annotated[str, PORT_SAYS]


class CrossConnect(_Model):
    """Two ports of which each sends what the other receives, unchanged."""

    ports: PortPair


class Config(_Model):
    """A whole configuration."""

    forwarder: Forwarder
    ports: Mapping[str, Annotated[Port, Field(discriminator="type")]]
    routes: tuple[Route, ...]
    neighbors: tuple[Neighbor, ...]
    cross_connects: tuple[CrossConnect, ...]


def load(path: Path | str) -> Config:
    """Read a configuration file. Raises ConfigError, which lists every problem in it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(msg) from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Config:
    """Check a configuration given as text.

    `name` is the file's name: it heads the error messages, its stem is the forwarder's default
    name, and relative paths count from its directory. Raises ConfigError, which lists every
    problem.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise syntax_error(name, text, error) from error
    reader = _Reader(raw, Path(name))
    forwarder, draft = reader.forwarder(), reader.draft()
    problems = [*reader.problems, *check(draft)]
    if problems or forwarder is None:
        raise config_error(name, text, raw, problems)
    return Config(
        forwarder=forwarder,
        ports=draft.ports,
        routes=tuple(draft.routes.values()),
        neighbors=tuple(draft.neighbors.values()),
        cross_connects=tuple(draft.cross_connects.values()),
    )


class _Reader:
    """Turns TOML data into models piece by piece, so that one bad piece hides no other."""

    def __init__(self, raw: dict[str, Any], file: Path) -> None:
        self.raw = raw
        self.file = file
        self.context = {"base": file.parent.absolute()}
        self.problems: list[Problem] = [
            unknown_key((key,), Config.model_fields) for key in raw.keys() - Config.model_fields
        ]

    def forwarder(self) -> Forwarder | None:
        stem = re.sub(r"[^a-z0-9_-]+", "-", self.file.stem.lower()).strip("-_")[:32]
        table = self.raw.get("forwarder", {})
        if isinstance(table, dict):
            table = {"name": stem or "vforward", **table}
        return self._model(Forwarder, ("forwarder",), table)

    def draft(self) -> Draft:
        tables = self.raw.get("ports", {})
        if not isinstance(tables, dict):
            self._refuse(("ports",), "is not a table", "one table [ports.NAME] for each port")
            tables = {}
        ports = {name: self._port(name, table) for name, table in tables.items()}
        return Draft(
            ports={name: port for name, port in ports.items() if port},
            declared=tuple(ports),
            routes=self._array(Route, "routes"),
            neighbors=self._array(Neighbor, "neighbors"),
            cross_connects=self._array(CrossConnect, "cross_connects"),
        )

    def _port(self, name: str, table: object) -> Port | None:
        path = ("ports", name)
        if not re.fullmatch(_PORT_NAME, name):
            allowed = "1 to 32 of A-Z a-z 0-9 _ . -, the first a letter or digit"
            self._refuse(path, "is not a name that can be used", allowed)
        if not isinstance(table, dict):
            self._refuse(path, "is not a table", "a table with a type")
            return None
        kind = table.get("type")
        if isinstance(kind, str) and kind in _PORT_TYPES:
            return cast("Port | None", self._model(_PORT_TYPES[kind], path, table))
        what = "is not a type of port" if "type" in table else "is missing"
        if isinstance(kind, str):
            what += nearest(kind, _PORT_TYPES)
        self._refuse((*path, "type"), what, listed(_PORT_TYPES))
        return None

    def _array(self, model: type[M], key: str) -> dict[int, M]:
        items = self.raw.get(key, [])
        if not isinstance(items, list):
            self._refuse((key,), "is not an array of tables", f"one table [[{key}]] for each")
            return {}
        models = {i: self._model(model, (key, i), item) for i, item in enumerate(items)}
        return {i: found for i, found in models.items() if found}

    def _model(self, model: type[M], path: KeyPath, table: object) -> M | None:
        try:
            return model.model_validate(table, context=self.context)
        except ValidationError as error:
            self.problems.extend(model_problems(model, path, error))
            return None

    def _refuse(self, path: KeyPath, what: str, allowed: str) -> None:
        self.problems.append(Problem(path, what, allowed))
