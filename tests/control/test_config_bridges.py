# SPDX-License-Identifier: Apache-2.0
"""The models of bridges and cross connects."""

import pytest
from pydantic import ValidationError

from configs import BARE, B, bridge, crosses, message, refusal
from vforward.control.config import Bridge, parse

WRONG = [
    (
        "bridges = []\n",
        "1: bridges",
        "is not a table",
        "a list of 0",
        "one table [bridges.NAME] for each",
    ),
    (
        "bridges.x = 1\n",
        "1: bridges.x",
        "is not a table",
        "1",
        "a table [bridges.NAME]",
    ),
    (
        "bridges.'a b' = {ports = []}\n",
        '1: bridges."a b"',
        "is not a name that can be used",
        "a table",
        "1 to 32 of A-Z a-z 0-9 _ . -, the first a letter or digit",
    ),
    (
        "bridges.x = {}\n",
        "1: bridges.x.ports",
        "is missing",
        "nothing",
        'a list of names of ports, or of tables like { port = "a", group = 1 }',
    ),
    (
        B + bridge("x", '"b"', "lern = true"),
        "2: bridges.x.lern",
        'is not a key here; did you mean "learn"?',
        "true",
        ", ".join(f'"{key}"' for key in Bridge.model_fields),
    ),
    (
        B + bridge("x", '"b"', "learn = 1"),
        "2: bridges.x.learn",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        B + bridge("x", '"b"', "flood_unknown = 1"),
        "2: bridges.x.flood_unknown",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        B + bridge("x", '"b"', "flood_broadcast = 1"),
        "2: bridges.x.flood_broadcast",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        B + bridge("x", '"b"', "flood_multicast = 1"),
        "2: bridges.x.flood_multicast",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        B + bridge("x", '"b"', "forward_reserved = 1"),
        "2: bridges.x.forward_reserved",
        "is not true or false",
        "1",
        "true or false",
    ),
    (
        B + bridge("x", '"b"', "limit = -1"),
        "2: bridges.x.limit",
        "is too small",
        "-1",
        "a whole number from 0 to 2097152",
    ),
    (
        B + bridge("x", '"b"', "limit = 2097153"),
        "2: bridges.x.limit",
        "is too large",
        "2097153",
        "a whole number from 0 to 2097152",
    ),
    (
        B + 'bridges.x = {ports = "b"}\n',
        "2: bridges.x.ports",
        "is not a list",
        '"b"',
        'a list of names of ports, or of tables like { port = "a", group = 1 }',
    ),
    (
        B + bridge("x", "1"),
        "2: bridges.x.ports[0]",
        "has the wrong type",
        "1",
        'a list of names of ports, or of tables like { port = "a", group = 1 }',
    ),
    (
        B + bridge("x", "{group = 1}"),
        "2: bridges.x.ports[0].port",
        "is missing",
        "nothing",
        "the name of a port under [ports]",
    ),
    (
        B + bridge("x", '{port = "b", group = 256}'),
        "2: bridges.x.ports[0].group",
        "is too large",
        "256",
        "a whole number from 0 to 255",
    ),
    (
        B + bridge("x", '{port = "b", group = -1}'),
        "2: bridges.x.ports[0].group",
        "is too small",
        "-1",
        "a whole number from 0 to 255",
    ),
    (
        B + bridge("x", '{port = "b", gruop = 1}'),
        "2: bridges.x.ports[0].gruop",
        'is not a key here; did you mean "group"?',
        "1",
        '"port", "group"',
    ),
    (
        B + bridge("x", '"b"', "static = 1"),
        "2: bridges.x.static",
        "is not a list",
        "1",
        'a list of tables like { mac = "02:00:00:00:00:01", port = "a" }',
    ),
    (
        B + bridge("x", '"b"', 'static = ["b"]'),
        "2: bridges.x.static[0]",
        "has the wrong type",
        '"b"',
        'a list of tables like { mac = "02:00:00:00:00:01", port = "a" }',
    ),
    (
        B + bridge("x", '"b"', 'static = [{mac = "ff:ff:ff:ff:ff:ff", port = "b"}]'),
        "2: bridges.x.static[0].mac",
        "is a multicast MAC address",
        '"ff:ff:ff:ff:ff:ff"',
        'a unicast MAC address like "02:00:00:00:00:01"',
    ),
    (
        B + bridge("x", '"b"', 'static = [{port = "b"}]'),
        "2: bridges.x.static[0].mac",
        "is missing",
        "nothing",
        'a unicast MAC address like "02:00:00:00:00:01"',
    ),
    (
        BARE + crosses('"a"'),
        "3: cross_connects[0].ports",
        "is not a list of exactly two ports",
        "a list of 1",
        "two names of ports",
    ),
    (
        "cross_connects = 1\n",
        "1: cross_connects",
        "is not an array of tables",
        "1",
        "one table [[cross_connects]] for each",
    ),
]


@pytest.mark.parametrize(("text", "where", "what", "got", "allowed"), WRONG)
def test_what_is_wrong_is_named_with_its_key_and_line(text, where, what, got, allowed):
    assert refusal(text) == [message(where, what, got, allowed)]


def test_what_bridges_mean():
    text = BARE + bridge(
        "x",
        '"a", {port = "b", group = 255}',
        "learn = false, flood_unknown = false, flood_broadcast = false, flood_multicast = false, "
        "forward_reserved = true, limit = 7, "
        'static = [{mac = "02:00:00:00:00:0A", port = "b"}]',
    )
    x = parse(text, "r.toml").bridges["x"]
    assert [(member.port, member.group) for member in x.ports] == [("a", 0), ("b", 255)]
    assert (x.learn, x.flood_unknown, x.flood_broadcast, x.flood_multicast) == (False,) * 4
    assert (x.forward_reserved, x.limit) == (True, 7)
    assert [(static.mac, static.port) for static in x.static] == [("02:00:00:00:00:0a", "b")]


def test_defaults_of_bridges():
    x = parse(bridge("x", ""), "r.toml").bridges["x"]
    assert x.model_dump() == {
        "ports": (), "learn": True, "flood_unknown": True, "flood_broadcast": True,
        "flood_multicast": True, "forward_reserved": False, "limit": 0, "static": (),
    }  # fmt: skip


def test_each_stays_as_it_is_after_a_file_was_read():
    x = parse(bridge("x", ""), "r.toml").bridges["x"]
    with pytest.raises(ValidationError):
        x.limit = 1
