"""The command line: usage, exit status, messages."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fake_forwarder as fake
from vforward.control import bench_command
from vforward.control import compile as compiling
from vforward.control.cli import app
from vforward.errors import PortError
from vforward.jit import cache
from vforward.memory.place import runtime_directory

ROUTER = """
[ports.lan]
type = "null"
address = "10.0.1.1/24"
[[routes]]
prefix = "10.2.0.0/16"
via = "10.0.1.2"
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def vforward(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def process(*arguments):
    command = [Path(sys.executable).parent / "vforward", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version():
    assert vforward("--version").stdout.startswith("vforward 0.")


def test_help_names_every_command():
    text = vforward("--help").stdout
    for command in ("run", "show", "kill", "trace", "clear", "compile", "bench", "demo"):
        assert f" {command} " in text


@pytest.mark.parametrize(
    "arguments",
    [("show", "nonsense"), ("show",), ("trace", "0"), ("trace", "x"), ("run",), ("nonsense",)],
)
def test_wrong_usage_is_2(arguments):
    result = vforward(*arguments)
    assert result.exit_code == 2
    assert result.stderr


@pytest.mark.parametrize(
    "arguments", [("show", "runtime"), ("trace", "1"), ("clear",), ("show", "ports", "-n", "x")]
)
def test_no_forwarder_is_1(arguments):
    result = vforward(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("vforward: no forwarder ")
    assert result.stdout == ""


def test_ctrl_c_is_130_where_it_is_not_the_usual_end(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vforward.control.cli_look.connect", interrupted)
    monkeypatch.setattr("vforward.rings.netmap_run.serve", lambda: interrupted(None))
    assert vforward("trace", "1").exit_code == 130
    assert vforward("netmap-serve").exit_code == 0


def test_check_only_checks(tmp_path):
    file = tmp_path / "router.toml"
    file.write_text(ROUTER)
    result = vforward("run", file, "--check")
    assert (result.exit_code, result.stdout) == (0, f"{file}: good: 1 port, 1 route\n")
    assert not runtime_directory().exists()
    result = vforward("run", file, "--check", "--json")
    found = json.loads(result.stdout)
    assert (found.pop("good"), found.pop("ports"), found.pop("routes")) == (str(file), 1, 1)
    assert set(found.values()) == {0}


def test_what_run_says_as_json(tmp_path, monkeypatch):
    def run(_wanted, _progress, ready, *, standing_by, **_):
        standing_by()
        ready()

    monkeypatch.setattr("vforward.control.run.run", run)
    monkeypatch.setattr("vforward.control.logs.set_up", lambda *_: None)
    monkeypatch.setattr("vforward.control.logs.tell_of_threads", lambda: None)
    file = tmp_path / "router.toml"
    file.write_text('forwarder.name = "edge"\n' + ROUTER)
    first, last = map(json.loads, vforward("run", file, "--standby", "--json").stdout.splitlines())
    assert first == {"standing_by": "edge"}
    assert (last["forwarding"], last["ports"], last["nat"]) == ("edge", 1, 0)
    first, last = vforward("run", file, "--standby").stdout.splitlines()
    assert first == "standing by for edge"
    assert last.startswith("forwarding: 1 port, 1 route; show with: vforward show runtime -n edge")


def test_what_compile_says(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "compile_all", lambda _progress: 7)
    assert vforward("compile").stdout.startswith("7 steps in ")
    found = json.loads(vforward("compile", "--json").stdout)
    assert (found["steps"], found["directory"]) == (7, str(cache.directory()))
    assert 0 <= found["seconds"] < 60


def test_what_the_netmap_server_says(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_NETMAP", str(tmp_path / "n"))
    monkeypatch.setattr("vforward.rings.netmap_run.serve", lambda: None)
    assert vforward("netmap-serve").stdout == f"netmap server at {tmp_path}/n\n"
    said = json.loads(vforward("netmap-serve", "--json").stdout)
    assert said == {"serving": f"{tmp_path}/n"}


def test_a_wrong_configuration_is_2_and_starts_nothing(tmp_path):
    file = tmp_path / "router.toml"
    file.write_text(ROUTER + 'vlan = 7\n[ports.wan]\ntype = "nil"\n')
    for arguments in (["run", file], ["run", file, "--check"]):
        result = vforward(*arguments)
        assert result.exit_code == 2
        assert f"{file}:8: routes[0].vlan" in result.stderr
        assert f"{file}:10: ports.wan.type" in result.stderr
    assert not runtime_directory().exists()


def test_a_missing_configuration_is_2(tmp_path):
    result = vforward("run", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "none.toml: cannot be read: No such file" in result.stderr


def test_bench_hands_its_arguments_on(monkeypatch):
    calls = []
    monkeypatch.setattr(bench_command, "bench", lambda *given, **more: calls.append((given, more)))
    assert vforward("bench", "ip4-path", "dispatch", "--json").exit_code == 0
    assert (
        vforward("bench", "--list", "--plot", "x.png", "--html", "a", "--markdown", "b").exit_code
        == 0
    )
    assert vforward("bench", "compare", "main", ".").exit_code == 0
    none = {"list_only": False, "html": None, "markdown": None}
    assert calls == [
        ((["ip4-path", "dispatch"], True, None), none),
        (
            ([], False, Path("x.png")),
            {"list_only": True, "html": Path("a"), "markdown": Path("b")},
        ),
        ((["compare", "main", "."], False, None), none),
    ]


def test_exit_status_and_output_of_the_process(tmp_path):
    done = process("show", "runtime")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vforward: no forwarder is running")
    assert "Traceback" not in done.stderr
    done = process("run", tmp_path / "none.toml")
    assert (done.returncode, done.stdout) == (2, "")
    with fake.served():
        done = process("graph")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ethernet-input" in done.stdout


def test_the_log_is_as_the_configuration_says(tmp_path, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)

    def run(*_, **__):
        logging.getLogger("vforward.x").info("said")
        raise PortError("no")

    monkeypatch.setattr("vforward.control.run.run", run)
    file = tmp_path / "router.toml"
    file.write_text(ROUTER + '[log]\nformat = "json"\nlevel = "info"\n')
    result = vforward("run", file)
    assert result.exit_code == 1
    first, last = result.stderr.splitlines()
    assert json.loads(first)["message"] == "said"
    assert last == "vforward: no"
