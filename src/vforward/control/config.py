# SPDX-License-Identifier: Apache-2.0
"""Configuration: a TOML file becomes frozen, checked models; docs/configuration.md lists the keys.

`load` and `parse` are the way in: what they return is consistent. Models that a program builds by
itself are checked field by field only.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, Field, SkipValidation, ValidationError

from vforward.control.config_api import Api
from vforward.control.config_bridges import Bridge, CrossConnect
from vforward.control.config_checks import check
from vforward.control.config_draft import Draft
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
from vforward.control.config_firewall import (
    NAT_TYPES,
    POLICER_TYPES,
    Firewall,
    Nat,
    Policer,
    Rule,
)
from vforward.control.config_log import Log
from vforward.control.config_ports import (
    PORT_TYPES,
    AfPacketPort,
    BviPort,
    GeneratorPort,
    MemifPort,
    MemoryPort,
    MemringPort,
    NetmapPort,
    NullPort,
    PcapPort,
    Port,
    TapPort,
    VhostUserPort,
    VlanPort,
)
from vforward.control.config_privilege import Privilege
from vforward.control.config_routes import Neighbor, Route, RouteFile
from vforward.control.config_sets import address_sets, port_sets
from vforward.control.config_types import (
    NAME,
    NAME_SAYS,
    Mac,
    Model,
    Workers,
    matching,
    says,
    whole,
)
from vforward.control.flow_words import Range, Span
from vforward.errors import ConfigError

__all__ = [
    "AfPacketPort",
    "Bridge",
    "BviPort",
    "Config",
    "CrossConnect",
    "Forwarder",
    "GeneratorPort",
    "Mac",
    "MemifPort",
    "MemoryPort",
    "MemringPort",
    "Neighbor",
    "NetmapPort",
    "NullPort",
    "PcapPort",
    "Port",
    "Route",
    "RouteFile",
    "TapPort",
    "VhostUserPort",
    "VlanPort",
    "load",
    "parse",
]

M = TypeVar("M", bound=BaseModel)
Table = dict[str, Any]


class Forwarder(Model):
    """The process: its name, its memory and its workers."""

    name: Annotated[
        str, matching(r"[a-z0-9][a-z0-9_-]{0,31}"), says("1 to 32 of a-z 0-9 _ -, not first _ -")
    ]
    vector: Annotated[int, whole(1, 256)] = 256
    buffers: Annotated[int, whole(1024, 4194304)] = 16384
    idle: Annotated[Literal["poll", "spin"], says('"poll" or "spin"')] = "poll"
    profile: Annotated[Literal["latency", "throughput"], says('"latency" or "throughput"')] = (
        "latency"
    )
    workers: Workers = 1
    core: Annotated[int | None, whole(0, 1023)] = None
    icmp_errors_per_second: Annotated[int, whole(1, 1000000)] = 1000
    mac_table: Annotated[int, whole(8192, 2097152)] = 65536
    mac_age_s: Annotated[int, whole(16, 1000000)] = 300
    neighbors: Annotated[int, whole(1, 1048576)] = 16384
    keep: Annotated[Literal["never", "crash", "always"], says('"crash", "always" or "never"')] = (
        "crash"
    )


class Config(Model):
    """A whole configuration."""

    forwarder: Forwarder
    api: Api = Api()
    log: Log = Log()
    privilege: Privilege = Privilege()
    ports: Mapping[str, Annotated[Port, Field(discriminator="type")]]
    bridges: Mapping[str, Bridge]
    routes: tuple[Route, ...]
    route_files: tuple[RouteFile, ...]
    neighbors: tuple[Neighbor, ...]
    cross_connects: tuple[CrossConnect, ...]
    firewall: Firewall | None = None
    address_sets: Annotated[Mapping[str, tuple[Range, ...]], SkipValidation] = {}
    port_sets: Annotated[Mapping[str, tuple[Span, ...]], SkipValidation] = {}
    rules: tuple[Rule, ...] = ()
    policers: Mapping[str, Annotated[Policer, Field(discriminator="type")]] = {}
    nat: tuple[Annotated[Nat, Field(discriminator="type")], ...] = ()


def load(path: Path | str, forwarder: str = "") -> Config:
    """Read a configuration file; see parse. Raises ConfigError, which lists every problem in it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(msg) from error
    return parse(text, str(path), forwarder)


def parse(text: str, name: str, forwarder: str = "") -> Config:
    """Check a configuration given as text.

    `name` is the file's name: it heads the error messages, its stem is the forwarder's default
    name (if `forwarder` is not), and relative paths count from its directory. Raises ConfigError,
    which lists every problem.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise syntax_error(name, text, error) from error
    reader = _Reader(raw, Path(name))
    settings, api, log = reader.forwarder(forwarder), reader.api(), reader.log()
    privilege = reader.privilege()
    draft = reader.draft()
    problems = reader.problems
    if all(len(problem.path) > 1 for problem in problems):  # else much would seem not to exist
        problems = [*problems, *check(draft)]
    if problems or settings is None or api is None or log is None or privilege is None:
        raise config_error(name, text, raw, problems)
    return Config(
        forwarder=settings,
        api=api,
        log=log,
        privilege=privilege,
        ports=draft.ports,
        bridges=draft.bridges,
        routes=tuple(draft.routes.values()),
        route_files=tuple(draft.route_files.values()),
        neighbors=tuple(draft.neighbors.values()),
        cross_connects=tuple(draft.cross_connects.values()),
        firewall=draft.firewall,
        address_sets={name: items or () for name, items in draft.address_sets.items()},
        port_sets={name: items or () for name, items in draft.port_sets.items()},
        rules=tuple(draft.rules.values()),
        policers=draft.policers,
        nat=tuple(draft.nat.values()),
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

    def forwarder(self, name: str) -> Forwarder | None:
        stem = re.sub(r"[^a-z0-9_-]+", "-", self.file.stem.lower()).strip("-_")[:32]
        table = self.raw.get("forwarder", {})
        if isinstance(table, dict):
            table = {"name": name or stem or "vforward", **table}
        return self._model(Forwarder, ("forwarder",), table)

    def api(self) -> Api | None:
        return self._model(Api, ("api",), self.raw.get("api", {}))

    def log(self) -> Log | None:
        return self._model(Log, ("log",), self.raw.get("log", {}))

    def privilege(self) -> Privilege | None:
        return self._model(Privilege, ("privilege",), self.raw.get("privilege", {}))

    def draft(self) -> Draft:
        ports = self._tables("ports", self._port)
        bridges = self._tables("bridges", self._bridge)
        policers = self._tables("policers", self._policer)
        return Draft(
            ports={name: port for name, port in ports.items() if port},
            declared=tuple(ports),
            bridges={name: bridge for name, bridge in bridges.items() if bridge},
            declared_bridges=tuple(bridges),
            routes=self._array("routes", Route),
            route_files=self._array("route_files", RouteFile),
            neighbors=self._array("neighbors", Neighbor),
            cross_connects=self._array("cross_connects", CrossConnect),
            firewall=self._firewall(),
            address_sets=address_sets(self.raw, self.problems),
            port_sets=port_sets(self.raw, self.problems),
            rules=self._array("rules", Rule),
            policers={name: policer for name, policer in policers.items() if policer},
            declared_policers=tuple(policers),
            nat=self._array("nat", NAT_TYPES),
            refused=frozenset(str(problem.path[0]) for problem in self.problems),
        )

    def _firewall(self) -> Firewall | None:
        if "firewall" not in self.raw:
            return None
        return self._model(Firewall, ("firewall",), self.raw["firewall"])

    def _tables(self, key: str, read: Callable[[KeyPath, Table], object]) -> dict[str, Any]:
        tables = self.raw.get(key, {})
        if not isinstance(tables, dict):
            self._refuse((key,), "is not a table", f"one table [{key}.NAME] for each")
            return {}
        models: dict[str, object] = {}
        for name, table in tables.items():
            path = (key, name)
            if not re.fullmatch(NAME, name):
                self._refuse(path, "is not a name that can be used", NAME_SAYS)
            if isinstance(table, dict):
                models[name] = read(path, table)
            else:
                self._refuse(path, "is not a table", f"a table [{key}.NAME]")
                models[name] = None
        return models

    def _bridge(self, path: KeyPath, table: Table) -> Bridge | None:
        return self._model(Bridge, path, table)

    def _port(self, path: KeyPath, table: Table) -> Port | None:
        return cast("Port | None", self._typed(PORT_TYPES, "port", path, table))

    def _policer(self, path: KeyPath, table: Table) -> Policer | None:
        return cast("Policer | None", self._typed(POLICER_TYPES, "policer", path, table))

    def _typed(self, types: dict[str, type[M]], what: str, path: KeyPath, table: Table) -> M | None:
        """The model that the table's type names."""
        kind = table.get("type")
        if isinstance(kind, str) and kind in types:
            return self._model(types[kind], path, table)
        wrong = f"is not a type of {what}" if "type" in table else "is missing"
        if isinstance(kind, str):
            wrong += nearest(kind, types)
        self._refuse((*path, "type"), wrong, listed(types))
        return None

    def _array(self, key: str, model: type[M] | dict[str, type[M]]) -> dict[int, Any]:
        """The models of an array of tables, by place; of several models the table's type names one."""
        items = self.raw.get(key, [])
        if not isinstance(items, list):
            self._refuse((key,), "is not an array of tables", f"one table [[{key}]] for each")
            return {}
        models: dict[int, M | None] = {}
        for i, item in enumerate(items):
            if not isinstance(model, dict):
                models[i] = self._model(model, (key, i), item)
            elif isinstance(item, dict):
                models[i] = self._typed(model, key, (key, i), item)
            else:
                self._refuse((key, i), "is not a table", f"a table [[{key}]]")
        return {i: found for i, found in models.items() if found}

    def _model(self, model: type[M], path: KeyPath, table: object) -> M | None:
        try:
            return model.model_validate(table, context=self.context)
        except ValidationError as error:
            self.problems.extend(model_problems(model, path, error))
            return None

    def _refuse(self, path: KeyPath, what: str, allowed: str) -> None:
        self.problems.append(Problem(path, what, allowed))
