# SPDX-License-Identifier: Apache-2.0
"""Every key of every table wrong in turn: the message names file, line and key, and says what is allowed.

The keys and their bounds are those of the models, so a new key is tested without a word here. And
docs/configuration.md has each of them, with its default and its bounds.
"""

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel

from configs import GOOD, refusal, toml
from vforward.control import config_bridges, config_firewall, config_ports, config_routes
from vforward.control.config import Config, Forwarder, parse
from vforward.control.config_api import Api
from vforward.control.config_errors import dotted, keys_of
from vforward.control.config_log import Log
from vforward.control.config_privilege import Privilege
from vforward.control.flow_words import Span
from vforward.tables import session

MORE = """
api = {}
log = {level = "info"}
privilege = {keep = ["net_raw"]}
[ports.pipe]
type = "netmap"
name = "netmap:x{1"
[ports.ring]
type = "memring"
trusted = true
[ports.memif]
type = "memif"
socket = "m.sock"
[ports.guest]
type = "vhost-user"
socket = "v.sock"
"""
BASE = {**tomllib.loads(GOOD), **(more := tomllib.loads(MORE))}
BASE["ports"] = {**tomllib.loads(GOOD)["ports"], **more["ports"]}
PLACES = {
    ("forwarder",): Forwarder,
    ("api",): Api,
    ("log",): Log,
    ("privilege",): Privilege,
    **{("ports", name): config_ports.PORT_TYPES[p["type"]] for name, p in BASE["ports"].items()},
    ("ports", "qinq", "rewrite"): config_ports.Rewrite,
    ("bridges", "office"): config_bridges.Bridge,
    ("bridges", "office", "ports", 1): config_bridges.BridgePort,
    ("bridges", "office", "static", 0): config_bridges.StaticMac,
    ("routes", 0): config_routes.Route,
    ("routes", 4, "paths", 0): config_routes.Path,
    ("route_files", 0): config_routes.RouteFile,
    ("neighbors", 0): config_routes.Neighbor,
    ("cross_connects", 0): config_bridges.CrossConnect,
    ("firewall",): config_firewall.Firewall,
    ("firewall", "timeouts"): config_firewall.Timeouts,
    ("rules", 0): config_firewall.Rule,
    ("policers", "gold"): config_firewall.TwoRate,
    ("policers", "plain"): config_firewall.SingleRate,
    **{("nat", i): config_firewall.NAT_TYPES[n["type"]] for i, n in enumerate(BASE["nat"])},
}
"""Where each model stands in BASE."""
FIELDS = [(path, key) for path, model in PLACES.items() for key in keys_of(model)]
NOTHING_TAKES = ([[1.5]], 1.5, {"no-such-key": 1.5})
"""Values that are of the wrong type wherever they stand."""


def written(raw):
    """As TOML, a top-level key on each line."""
    return "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in raw.items())


def changed(path, value):
    """BASE with another value there."""
    raw = copy.deepcopy(BASE)
    at: Any = raw
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return raw


def holds(raw, path):
    """Assert that the value there is refused, by its line and key, with what is allowed."""
    lines = refusal(written(raw))
    number = [*raw].index(path[0]) + 1
    wanted = re.compile(rf"r\.toml:{number}: {re.escape(dotted(path))}[^ ]*: .+; allowed: \S.*")
    assert any(wanted.fullmatch(line) for line in lines), "\n".join(lines)


def bounds(field):
    """The least and the largest that a number may be, where there are such."""
    found = {}
    for part in _metadata(field.annotation, field.metadata):
        found |= {"low": part.ge} if isinstance(part, Ge) else {}
        found |= {"high": part.le} if isinstance(part, Le) else {}
    return found


def _metadata(annotation, metadata=()):
    yield from metadata
    for arg in get_args(annotation):
        yield from getattr(arg, "__metadata__", ())
        yield from _metadata(arg)


def choices(annotation):
    if get_origin(annotation) is Literal:
        return True
    return any(choices(arg) for arg in get_args(annotation))


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for arg in get_args(annotation):
        yield from models_in(arg)


def test_every_model_has_its_place():
    assert {*models_in(Config)} == {Config, *PLACES.values()}
    parse(written(BASE), "r.toml")


def test_every_number_has_bounds():
    for model in PLACES.values():
        for key, field in keys_of(model).items():
            plain = {field.annotation, *get_args(field.annotation)} & {int}
            taken = any(type(part).__name__ == "PlainValidator" for part in field.metadata)
            assert not plain or taken or len(bounds(field)) == 2, f"{model.__name__}.{key}"


@pytest.mark.parametrize(("path", "key"), FIELDS, ids=[dotted((*p, k)) for p, k in FIELDS])
def test_a_wrong_value(path, key):
    field = keys_of(PLACES[path])[key]
    wrong = [*NOTHING_TAKES]
    limits = bounds(field)
    if "low" in limits:
        wrong.append(limits["low"] - 1)
    if "high" in limits and limits["high"] < 2**63 - 1:
        wrong.append(limits["high"] + 1)
    if choices(field.annotation):
        wrong.append("no such choice")
    for value in wrong:
        raw = changed((*path, key), value)
        holds(raw, (*path, key))


@pytest.mark.parametrize("path", PLACES, ids=dotted)
def test_an_unknown_sibling(path):
    """Its message says which keys there are, and the one that was meant."""
    known = [*keys_of(PLACES[path])]
    for key, meant in (("no-such-key", ""), (f"{known[0]}x", known[0])):
        raw = changed((*path, key), 1)
        holds(raw, (*path, key))
        if meant:
            assert f'did you mean "{meant}"?' in "\n".join(refusal(written(raw)))


@pytest.mark.parametrize("path", PLACES, ids=dotted)
def test_no_table_at_all(path):
    for value in (1, "text", [1], True):
        if path[-2:] == ("ports", 1) and value == "text":
            continue  # of a bridge's port its name is enough: it names none
        raw = changed(path, value)
        lines = refusal(written(raw))
        number = [*raw].index(path[0]) + 1
        assert any(line.startswith(f"r.toml:{number}: {dotted(path[:1])}") for line in lines), lines
        assert all("; allowed: " in line for line in lines)


@pytest.mark.parametrize("key", Config.model_fields)
def test_the_top_level(key):
    for value in (1, "text", True, [1.5]):
        raw = {**copy.deepcopy(BASE), key: value}
        lines = refusal(written(raw))
        number = [*raw].index(key) + 1
        assert any(re.match(rf"r\.toml:{number}: {key}\b", line) for line in lines), lines
        assert all("; allowed: " in line for line in lines)


PAGE = Path(__file__).resolve().parents[2] / "docs/configuration.md"
COMMON = keys_of(config_ports.NullPort)
"""What ports of all types have."""
NAT = config_firewall.NAT_TYPES
PORT_TYPES = config_ports.PORT_TYPES
Timeouts = config_firewall.Timeouts
NOTHING = {
    *(
        "none",
        "any",
        "both",
        "`[]`",
        "all routed ports",
        "the file's stem, other characters as `-`",
    ),
    *("none; required with `listen`", "what this file's ports may need again", "of `source`, any"),
    "in a bridge, `pop` of all its tags; in a cross connect, none",
}
"""How the page speaks of a default that is no value."""
DOCUMENTED = [kind for kind in PORT_TYPES if kind != "null"]
"""Types of port with keys of their own."""
IN_ORDER = [
    ("[forwarder]", [Forwarder]),
    ("[api]", [Api]),
    ("[log]", [Log]),
    ("[privilege]", [Privilege]),
    ("[ports.NAME]", [config_ports.NullPort]),
    *((f'type = "{kind}"', [PORT_TYPES[kind]]) for kind in DOCUMENTED[:-2]),
    ('type = "vlan"', [config_ports.Rewrite]),
    *((f'type = "{kind}"', [PORT_TYPES[kind]]) for kind in DOCUMENTED[-2:]),
    ("[bridges.NAME]", [config_bridges.Bridge]),
    ("[bridges.NAME]", [config_bridges.BridgePort]),
    ("[[routes]]", [config_routes.Route]),
    ("[[routes]]", [config_routes.Path]),
    ("[[route_files]]", [config_routes.RouteFile]),
    ("[[neighbors]]", [config_routes.Neighbor]),
    ("[[cross_connects]]", [config_bridges.CrossConnect]),
    ("[firewall]", [config_firewall.Firewall]),
    ("[firewall]", [Timeouts]),
    ("[[rules]]", [config_firewall.Rule]),
    ("[policers.NAME]", [config_firewall.SingleRate, config_firewall.TwoRate]),
    ("[[nat]]", list(NAT.values())),
    ("[[nat]]", [NAT["masquerade"], NAT["source"]]),
    ("[[nat]]", [NAT["destination"]]),
    ("[[nat]]", [NAT["static"]]),
]
"""Which models each table is of."""


def tables():
    """(heading, {key: (type, default)}) of each table of keys, in the page's order."""
    heading, rows = "", None
    for line in [*PAGE.read_text().splitlines(), ""]:
        if line.startswith("#"):
            heading = line.strip("# ").partition(":")[0].split(", ")[0].replace("`", "")
        if line.startswith("| Key | Type | Default |"):
            rows = {}
        elif rows is not None and not line.startswith("|"):
            yield heading, rows
            rows = None
        elif rows is not None and not line.startswith("|--"):
            key, kind, default, _ = (cell.strip() for cell in line.split("|")[1:-1])
            rows[key.strip("`")] = (kind, default)


FOUND = list(tables())


def wanted(heading, models):
    """The keys that a table has to have: those of all ports, and of all NAT, in their own tables."""
    keys = {key: field for model in models for key, field in keys_of(model).items()}
    if heading.startswith("type = "):
        return {key: field for key, field in keys.items() if key not in COMMON}
    if models == [config_routes.Path]:  # and "as above": those of a route
        return {"weight": keys["weight"]}
    if heading == "[[nat]]":
        shared = {key for key in keys if all(key in keys_of(model) for model in NAT.values())}
        return {key: keys[key] for key in keys if (key in shared) == (len(models) == len(NAT))}
    return keys


def said(field):
    """How the page may write a default."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required():
        return {"", "of `source`, any", "the file's stem, other characters as `-`"}
    if isinstance(value, bool):
        return {str(value).lower()}
    if isinstance(value, Span):
        return {f'`"{value.first}-{value.last}"`'}
    if isinstance(value, BaseModel):
        return {"see below"}
    if value in (None, "", ()):
        return NOTHING
    return {f'`"{value}"`', str(value)} - ({value} if isinstance(value, str) else set())


def limits_of(annotation, metadata=()):
    """The least and the largest that a number may be, as the page writes them."""
    found = {type(part): part for part in metadata if isinstance(part, Ge | Le)}
    if len(found) == 2:
        return f"{found[Ge].ge} to {found[Le].le}"
    inner = (limits_of(arg, getattr(arg, "__metadata__", ())) for arg in get_args(annotation))
    return next((text for text in inner if text), None)


def test_every_table_of_the_page_has_its_models():
    assert [heading for heading, _ in FOUND] == [heading for heading, _ in IN_ORDER]
    there = {model for _, models in IN_ORDER for model in models}
    in_a_line = {config_bridges.StaticMac}
    assert {*models_in(Config)} == {Config, *there, *in_a_line}


@pytest.mark.parametrize(
    ("heading", "rows", "models"),
    [(heading, rows, models) for (heading, rows), (_, models) in zip(FOUND, IN_ORDER, strict=True)],
    ids=[f"{n}-{heading}" for n, (heading, _) in enumerate(FOUND)],
)
def test_keys_defaults_and_bounds(heading, rows, models):
    fields = wanted(heading, models)
    assert {*rows} == {*fields}
    for key, (kind, default) in rows.items():
        if models == [Timeouts]:
            assert default == str(session.DEFAULTS[[*fields].index(key)]), key
            continue
        assert default in said(fields[key]), key
        limits = limits_of(fields[key].annotation, fields[key].metadata)
        if limits is not None and not kind.startswith(("rate", "1 to 2^63 - 1")):
            assert limits in kind, key
