"""The command line: usage, exit status, messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fake_forwarder as fake
from vforward.control import bench_command
from vforward.control.cli import app
from vforward.layout import EDGE_HELD
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


@pytest.mark.parametrize(
    "what", ["runtime", "ports", "errors", "routes", "neighbors", "graph"]
)  # fmt: skip
def test_show(what):
    with fake.arena():
        text = vforward("show", what)
        assert (text.exit_code, text.stderr) == (0, "")
        assert text.stdout
        parsed = vforward("show", what, "-n", "fake", "--json")
        assert parsed.exit_code == 0
        assert json.loads(parsed.stdout)


def test_show_errors_all():
    with fake.arena():
        assert "bytes received" not in vforward("show", "errors").stdout
        assert "bytes received" in vforward("show", "errors", "--all").stdout
        drops = json.loads(vforward("show", "errors", "--json").stdout)
        assert all(row["drop"] for row in drops)


def test_clear():
    with fake.arena():
        assert vforward("clear").exit_code == 0
        assert vforward("show", "errors").stdout == "nothing was dropped\n"


def test_trace():
    path = [(fake.INPUT, 0, 0, b"\x02" * 60), (fake.OUT, EDGE_HELD, 0, b"\x02" * 60)]
    with fake.arena() as arena, fake.Worker(arena, [path], packets=5):
        result = vforward("trace", "2")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "packet 0 from lan" in result.stdout
        result = vforward("trace", 2, "--json", "--node", "lan-rx", "--timeout", 5)
        assert [len(packet["steps"]) for packet in json.loads(result.stdout)] == [2, 2]
        result = vforward("trace", 2, "--timeout", 0.3)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "vforward: no packets came within 0.3 s\n"
        assert vforward("trace", 2, "--node", "lan-tx").exit_code == 2


def test_a_trace_of_fewer_packets_says_so():
    path = [(fake.INPUT, EDGE_HELD, 0, b"\x02" * 60)]
    with fake.arena() as arena, fake.Worker(arena, [path], packets=1):
        result = vforward("trace", 2, "--timeout", 0.3)
    assert result.exit_code == 0
    assert result.stderr == "vforward: 1 of 2 packets came within 0.3 s\n"


def test_check_only_checks(tmp_path):
    file = tmp_path / "router.toml"
    file.write_text(ROUTER)
    result = vforward("run", file, "--check")
    assert (result.exit_code, result.stdout) == (0, f"{file}: good: 1 port, 1 route\n")
    assert not runtime_directory().exists()


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
    with fake.arena():
        done = process("show", "graph")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ethernet-input" in done.stdout


@pytest.fixture
def walled():
    with fake.arena() as arena:
        fake.add_firewall(arena)
        yield


@pytest.mark.parametrize("what", ["rules", "nat", "policers", "sessions"])
def test_show_of_the_firewall(walled, what):
    text = vforward("show", what)
    assert (text.exit_code, text.stderr) == (0, "")
    (*_, row) = json.loads(vforward("show", what, "--json").stdout)
    assert row


@pytest.mark.parametrize("what", ["rules", "nat", "policers", "sessions"])
def test_a_forwarder_without_a_firewall_is_1(what):
    with fake.arena():
        result = vforward("show", what)
    assert (result.exit_code, result.stderr) == (1, "vforward: forwarder 'fake' has no firewall\n")


def test_sessions_are_chosen(walled):
    assert vforward("show", "sessions", "--port", "81").stdout == "no sessions\n"
    one = vforward("show", "sessions", "--from", "10.0.0.0/8", "--state", "est", "--json")
    assert len(json.loads(one.stdout)) == 1
    count = vforward("show", "sessions", "--count", "--protocol", "tcp", "--json")
    assert json.loads(count.stdout) == {"established": 1}
    assert vforward("show", "sessions", "--to", "10.0.0").exit_code == 2


def test_kill(walled):
    assert vforward("kill").exit_code == 2
    assert vforward("kill", "--port", "81").stdout == "0 sessions ended\n"
    assert vforward("kill", "--port", "80").stdout == "1 session ended\n"
    assert vforward("kill", "--all").stdout == "1 session ended\n"
