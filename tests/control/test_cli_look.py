# SPDX-License-Identifier: Apache-2.0
"""The commands that look into a running forwarder, by its API."""

import json

import pytest
from typer.testing import CliRunner

import fake_forwarder as fake
from vforward.control.cli import app
from vforward.layout import EDGE_HELD


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def vforward(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "what", ["runtime", "ports", "errors", "routes", "neighbors", "bridges"]
)  # fmt: skip
def test_show(what):
    with fake.served():
        text = vforward("show", what)
        assert (text.exit_code, text.stderr) == (0, "")
        assert text.stdout
        parsed = vforward("show", what, "-n", "fake", "--json")
        assert parsed.exit_code == 0
        assert json.loads(parsed.stdout)


def test_show_errors_all():
    with fake.served():
        assert "bytes received" not in vforward("show", "errors").stdout
        assert "bytes received" in vforward("show", "errors", "--all").stdout
        drops = json.loads(vforward("show", "errors", "--json").stdout)
        assert all(row["drop"] for row in drops)


def test_clear():
    with fake.served():
        quiet = vforward("clear")
        assert (quiet.exit_code, quiet.stdout) == (0, "")
        assert json.loads(vforward("clear", "--json").stdout) == {"cleared": "counters"}
        assert vforward("show", "errors").stdout == "nothing was dropped\n"


def test_trace():
    path = [(fake.INPUT, 0, 0, b"\x02" * 60), (fake.OUT, EDGE_HELD, 0, b"\x02" * 60)]
    with fake.served() as arena, fake.Worker(arena, [path], packets=5):
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
    with fake.served() as arena, fake.Worker(arena, [path], packets=1):
        result = vforward("trace", 2, "--timeout", 0.3)
    assert result.exit_code == 0
    assert result.stderr == "vforward: 1 of 2 packets came within 0.3 s\n"


@pytest.fixture
def walled():
    with fake.served() as arena:
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
    with fake.served():
        result = vforward("show", what)
    said = "forwarder 'fake' has no firewall; [firewall] in its file makes one at its next start"
    assert (result.exit_code, result.stderr) == (1, f"vforward: {said}\n")


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


def test_what_is_left_out_is_said():
    with fake.served() as arena:
        arena.write_document("routes", {"count": 1_001_001, "routes": fake.ROUTES})
        for more in ((), ("--json",)):
            result = vforward("show", "routes", *more)
            assert (result.exit_code, result.stderr) == (0, "vforward: ... and 1,001,000 more\n")
        fake.add_firewall(arena)
        assert vforward("show", "rules").stderr == ""
        result = vforward("show", "sessions", "--most", 1)
        assert result.stderr == ""


def test_kill_says_what_it_did_in_json(walled):
    result = vforward("kill", "--all", "--json")
    assert json.loads(result.stdout) == {"count": 1}
