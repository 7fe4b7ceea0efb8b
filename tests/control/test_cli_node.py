"""`vforward node`: what it sends, what it says."""

import json

import pytest
from typer.testing import CliRunner

from vforward.control import cli_node
from vforward.control.cli import app
from vforward.control.plugin_rows import PluginChange, PluginRow
from vforward.errors import ConfigError

ROW = PluginRow(
    "probe", "/p/probe.py", "ab", "ip4-input", "urpf", "", ["lan", "wan"], ["seen"], 1.0
)


class Asked:
    def __init__(self):
        self.calls = []

    def plugins(self):
        return [ROW]

    def __getattr__(self, method):
        def call(*given):
            self.calls.append((method, *given))
            if "bad" in given:
                raise ConfigError("bad: is bad")
            return PluginChange("probe", ["seen"], ["more"], 12.34e-6)

        return call


@pytest.fixture
def asked(monkeypatch):
    made = Asked()
    monkeypatch.setattr(cli_node, "connect", lambda name: made)
    return made


def vforward(*arguments):
    return CliRunner().invoke(app, ["node", *arguments])


def test_a_path_is_told_as_the_forwarder_has_to_see_it(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert vforward("load", "probe.py").exit_code == 0
    assert vforward("load", "./probe").exit_code == 0
    assert vforward("load", "entry").exit_code == 0
    assert vforward("replace", "probe").exit_code == 0
    assert vforward("replace", "probe", "x.py").exit_code == 0
    assert vforward("unload", "probe").exit_code == 0
    assert asked.calls == [
        ("load_plugin", str(tmp_path / "probe.py")),
        ("load_plugin", str(tmp_path / "probe")),
        ("load_plugin", "entry"),
        ("replace_plugin", "probe", ""),
        ("replace_plugin", "probe", str(tmp_path / "x.py")),
        ("unload_plugin", "probe"),
    ]


def test_what_it_says(asked):
    assert vforward("load", "x").stdout == (
        "node probe loaded; packets waited 12 microseconds; state kept: seen; begins anew: more\n"
        "it lasts until the forwarder ends; no start loads it\n"
    )
    assert "no start loads it" in vforward("replace", "x").stdout
    assert "lasts" not in vforward("unload", "x").stdout
    said = json.loads(vforward("unload", "x", "--json").stdout)
    assert said == {"name": "probe", "kept": ["seen"], "begun": ["more"], "stood_s": 12.34e-6}
    refused = vforward("load", "bad")
    assert (refused.exit_code, refused.stderr) == (2, "vforward: bad: is bad\n")


def test_the_list(asked):
    text = vforward("list").stdout
    assert "/p/probe.py" in text
    assert "lan wan" in text
    assert json.loads(vforward("list", "--json").stdout)[0]["place"] == "/p/probe.py"
