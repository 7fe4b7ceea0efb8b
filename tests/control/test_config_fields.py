# SPDX-License-Identifier: Apache-2.0
"""Every key of every table wrong in turn: the message names file, line and key, and says what is allowed.

The keys and their bounds are those of the models, so a new key is tested without a word here.
"""

import copy
import json
import re
import tomllib
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

MORE = """
api = {}
log = {level = "info"}
privilege = {keep = ["net_raw"]}
[ports.pipe]
type = "netmap"
name = "netmap:x{1"
[ports.ring]
type = "memring"
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
