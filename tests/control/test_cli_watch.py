# SPDX-License-Identifier: Apache-2.0
"""The commands that watch: top and graph; capture is in test_api_capture.py."""

import json
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import fake_forwarder as fake
from vforward.control import cli_watch
from vforward.control.cli import app


@pytest.fixture(scope="module", autouse=True)
def arena(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        with fake.served() as made:
            yield made


def vforward(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_top(arena):
    result = vforward("top", "--every", "0.1", "--count", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("fake: running, ") == 2
    rows = vforward("top", "--every", "0.1", "--count", "2", "--json").stdout.splitlines()
    assert [json.loads(row)["name"] for row in rows] == ["fake", "fake"]


def test_graph(arena, tmp_path):
    result = vforward("graph")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "ethernet-input  (inner, 100 packets)" in result.stdout
    nodes = json.loads(vforward("graph", "--json").stdout)
    assert [node["name"] for node in nodes] == ["lan-rx", "ethernet-input", "drop", "lan-tx"]


def test_graph_as_a_picture(arena, tmp_path):
    file = tmp_path / "graph.svg"
    assert vforward("graph", "--svg", file).stdout == ""
    root = ElementTree.fromstring(file.read_text())
    assert root.tag.endswith("svg")
    assert vforward("graph", "--svg", "-").stdout == file.read_text()
    assert vforward("graph", "--svg", "-", "--all").stdout.startswith("<svg ")
    result = vforward("graph", "--svg", tmp_path / "none" / "x.svg")
    assert result.exit_code == 1
    assert "none/x.svg: No such file" in result.stderr


def test_ports_and_nodes_are_completed(arena):
    assert cli_watch._places("lan") == ["lan", "lan-rx", "lan-tx"]
    assert cli_watch._places("x") == []
