"""The commands of configurations: what they send, what they say, and how they end."""

import json

import pytest
from typer.testing import CliRunner

from vforward.control import cli_config
from vforward.control.cli import app
from vforward.errors import ApiError, ConfigError

ANSWER = {
    "applied": True,
    "changes": [
        {"kind": "added", "what": "ports.b", "before": "", "after": "type memory", "restart": ""}
    ],
    "routes_of_files": {"added": 0, "changed": 2, "deleted": 0},
    "kept": ["rules"],
    "left": [],
    "stood_ms": 2.12,
    "workers_stood_ms": 0.64,
}


class Asked:
    """A client that notes what it is told."""

    def __init__(self):
        self.calls, self.answer = [], ANSWER
        self.config = "/etc/vforward/router.toml"

    def about(self):
        return {"config": self.config}

    def __getattr__(self, method):
        def call(*given, **more):
            self.calls.append((method, given, more))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


@pytest.fixture
def asked(monkeypatch):
    made = Asked()
    monkeypatch.setattr(cli_config, "connect", lambda name: made)
    return made


def vforward(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("option", ["dry_run", "exact", "skip_restart"])
def test_apply_says_what_differs(asked, option, tmp_path):
    result = vforward("apply", tmp_path / "x.toml", f"--{option.replace('_', '-')}")
    given = dict.fromkeys(("dry_run", "exact", "skip_restart"), False) | {option: True}
    assert asked.calls == [("apply", (tmp_path / "x.toml",), given)]
    assert result.exit_code == 0
    assert result.stdout.split("\n") == [
        "+ ports.b: type memory",
        "  routes of files: 2 changed",
        "= rules: changed at run time, stays",
        "applied; inputs waited 2.1 ms, workers 0.6 ms",
        "it lasts until the forwarder ends; SIGHUP and the next start read /etc/vforward/router.toml",
        "",
    ]


def test_what_the_next_start_reads_lasts(asked, tmp_path, monkeypatch):
    """By whichever way the file is called; a forwarder of no file has none that could hold it."""
    file, other = tmp_path / "x.toml", tmp_path / "y.toml"
    file.touch()
    other.symlink_to(file)
    asked.config = str(file)
    monkeypatch.chdir(tmp_path)
    for named in (file, other, "x.toml"):
        assert "lasts" not in vforward("apply", named).stdout
    assert f"start read {file}\n" in vforward("apply", "z.toml").stdout
    asked.config = None
    assert "lasts" not in vforward("apply", "z.toml").stdout


def test_apply_as_json(asked, tmp_path):
    result = vforward("apply", tmp_path / "x.toml", "--json")
    assert json.loads(result.stdout) == ANSWER


def test_nothing_differs(asked, tmp_path):
    asked.answer = {**ANSWER, "applied": False, "changes": [], "kept": [], "routes_of_files": {}}
    assert vforward("apply", tmp_path / "x.toml").stdout == "nothing differs\n"


@pytest.mark.parametrize(("error", "status"), [(ConfigError("no"), 2), (ApiError("no"), 1)])
def test_what_is_refused(asked, error, status, tmp_path):
    asked.answer = error
    result = vforward("apply", tmp_path / "x.toml")
    assert (result.exit_code, result.stderr) == (status, "vforward: no\n")


def test_ports(asked):
    keys = [
        "type=af_packet",
        "interface=eth0",
        "mtu=9000",
        'address=["10.0.1.1/24"]',
        "set_up=true",
    ]
    lasts = "it lasts until the forwarder ends, unless /etc/vforward/router.toml says the same\n"
    assert vforward("add", "port", "lan", *keys).stdout.endswith(f"\n{lasts}")
    told = {"type": "af_packet", "interface": "eth0", "mtu": 9000, "set_up": True}
    assert asked.calls == [("add_port", ("lan",), {**told, "address": ["10.0.1.1/24"]})]
    asked.calls.clear()
    assert vforward("delete", "port", "lan").stdout.endswith(f"\n{lasts}")
    assert asked.calls == [("delete_port", ("lan",), {})]
    for command in (("add", "port", "lan", "type=null"), ("delete", "port", "lan")):
        assert json.loads(vforward(*command, "--json").stdout) == ANSWER
    wrong = vforward("add", "port", "lan", "memory")
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "vforward: memory: say KEY=VALUE, like mtu=9000\n",
    )


def test_queues(asked):
    result = vforward("move", "queue", "lan", 1, "--queue", 2)
    assert asked.calls == [("move_queue", ("lan", 1, 2), {})]
    said = "queue 2 of lan moved to worker 1; it lasts until the forwarder ends\n"
    assert result.stdout == said
    assert json.loads(vforward("move", "queue", "lan", 1, "--json").stdout) == {
        "moved": "queue 0 of lan"
    }
