# SPDX-License-Identifier: Apache-2.0
"""The commands that change a forwarder: what they send, what they say."""

import json

import pytest
from typer.testing import CliRunner

from vforward.control import cli_change
from vforward.control.cli import app
from vforward.errors import ApiError, ConfigError


class Asked:
    """A client that notes what it is told."""

    def __init__(self, name):
        self.name, self.calls = name, []

    def __getattr__(self, method):
        def call(*given, **more):
            self.calls.append((method, given, more))
            return 3

        return call


@pytest.fixture
def asked(monkeypatch):
    made = Asked("")
    monkeypatch.setattr(cli_change, "connect", lambda name: made)
    return made


def vforward(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


P = "10.9.0.0/16"
NONE = {"metric": 0, "vrf": "default", "type": None}


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (("--via", "10.0.0.1"), {**NONE, "via": "10.0.0.1", "port": None}),
        (("--via", "fe80::1", "--port", "wan"), {**NONE, "via": "fe80::1", "port": "wan"}),
        (("--port", "wan", "--metric", 7), {**NONE, "via": None, "port": "wan", "metric": 7}),
        (
            ("--type", "blackhole", "--vrf", "red"),
            {"metric": 0, "vrf": "red", "type": "blackhole", "via": None, "port": None},
        ),
        (
            ("--via", "10.0.0.1*2", "--via", "10.0.0.2"),
            {**NONE, "paths": [{"via": "10.0.0.1", "weight": 2}, {"via": "10.0.0.2", "weight": 1}]},
        ),
    ],
)
def test_add_route(asked, arguments, call):
    result = vforward("add", "route", P, *arguments)
    assert (result.exit_code, result.stdout) == (0, f"route {P} added\n")
    assert asked.calls == [("add_route", (P,), call)]


def test_weights_are_numbers(asked):
    assert vforward("add", "route", P, "--via", "10.0.0.1*x").exit_code == 2
    assert asked.calls == []


def test_delete_route(asked):
    assert vforward("delete", "route", P, "--json").stdout == f'{{"deleted": "route {P}"}}\n'
    assert vforward("delete", "route", P, "--metric", 0, "--vrf", "red").exit_code == 0
    assert asked.calls == [
        ("delete_route", (P,), {"metric": None, "vrf": "default"}),
        ("delete_route", (P,), {"metric": 0, "vrf": "red"}),
    ]


def test_neighbors(asked):
    assert vforward("add", "neighbor", "10.0.0.1", "02:00:00:00:00:01", "lan").exit_code == 0
    assert vforward("delete", "neighbor", "10.0.0.1", "lan").stdout == "neighbor 10.0.0.1 deleted\n"
    assert asked.calls == [
        ("add_neighbor", ("10.0.0.1", "02:00:00:00:00:01", "lan"), {}),
        ("delete_neighbor", ("10.0.0.1", "lan"), {}),
    ]


def test_rules(asked):
    result = vforward(
        *("add", "rule", "deny", "--from", "10.0.0.0/8", "--from", "@x", "--protocol", "tcp"),
        *("--to-ports", 80, "--in", "lan", "--family", 4, "--mark", "ef", "--before", "web"),
        *("--called", "no", "--stateless", "--json"),
    )
    assert json.loads(result.stdout) == {"added": "rule 3"}
    rule = {
        "action": "deny", "stateful": False, "from": ["10.0.0.0/8", "@x"], "protocol": ["tcp"],
        "to_ports": [80], "in": ["lan"], "name": "no", "mark": "ef", "family": 4,
    }  # fmt: skip
    assert asked.calls == [("add_rule", (rule, "web"), {})]
    assert vforward("delete", "rule", "no").stdout == "rule no deleted\n"


@pytest.mark.parametrize(("error", "status"), [(ConfigError("x"), 2), (ApiError("x", 404), 1)])
def test_errors(monkeypatch, error, status):
    def refuse(name):
        raise error

    monkeypatch.setattr(cli_change, "connect", refuse)
    result = vforward("delete", "rule", "x")
    assert (result.exit_code, result.stderr) == (status, "vforward: x\n")
