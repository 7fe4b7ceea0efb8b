# SPDX-License-Identifier: Apache-2.0
"""What commands share: how a forwarder is found."""

import pytest
from rich.text import Text
from typer.main import get_command
from typer.testing import CliRunner

import fake_forwarder as fake
from vforward.control import cli_app, cli_look
from vforward.control.cli import app
from vforward.errors import ConfigError


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def test_the_only_one_or_the_named_one():
    with fake.arena():
        assert cli_app.connect("").name == "fake"
    assert cli_app.connect("x").name == "x"


def test_the_one_of_the_environment(monkeypatch):
    monkeypatch.setenv("VFORWARD_API", "http://127.0.0.1:8080")
    monkeypatch.setenv("VFORWARD_TOKEN", "secret")
    assert cli_app.connect("x").name == "http://127.0.0.1:8080"
    monkeypatch.setenv("VFORWARD_API", "nonsense")
    with pytest.raises(ConfigError, match="no address of an API"):
        cli_app.connect("")


def test_names_are_completed():
    with fake.arena("one"), fake.arena("other"), fake.arena("two"):
        assert cli_app._names("o") == ["one", "other"]
        assert cli_app._names("x") == []


def texts(command):
    """All that --help says of a command, and of those in it."""
    yield from (command.help or "", command.epilog or "")
    yield from (getattr(one, "help", None) or "" for one in command.params)
    for one in getattr(command, "commands", {}).values():
        yield from texts(one)


def test_help_loses_nothing_that_looks_like_markup():
    """[ports.NAME] would be a style of rich's, and not be shown."""
    said = [*texts(get_command(app))]
    assert len(said) > 100
    assert [text for text in said if Text.from_markup(text).plain != text] == []


TALKS = {
    "demo": "a show for who looks at it",
    "netmap-run": "becomes the program that it is given, and all after that is the program's",
}
"""Commands without --json, and why."""


def leaves(command, *names):
    """(words, command) of all that can be called."""
    if not hasattr(command, "commands"):
        yield " ".join(names), command
    for name, one in getattr(command, "commands", {}).items():
        yield from leaves(one, *names, name)


def test_all_commands_print_json():
    found = dict(leaves(get_command(app)))
    assert {"run", "clear", "add route", "node list", "bench"} <= set(found)
    without = {
        words
        for words, command in found.items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == set(TALKS)


ASKED = {
    "apply": "router.toml",
    "kill": "--all",
    "trace": "1",
    "clear": "",
    "top": "--count 1",
    "graph": "",
    "capture": "lan",
    "add route": "10.9.0.0/16 --via 10.0.1.2",
    "add neighbor": "10.0.1.2 02:00:00:00:00:02 lan",
    "add rule": "permit",
    "add port": "more type=null",
    "delete route": "10.9.0.0/16",
    "delete neighbor": "10.0.1.2 lan",
    "delete rule": "0",
    "delete port": "lan",
    "move queue": "lan 0",
    "node load": "./guard.py",
    "node replace": "guard",
    "node unload": "guard",
    "node list": "",
}
"""What a running forwarder is asked, or told: by command its arguments. And `show`, of everything:"""
SHOWN = [("show", what.value) for what in cli_look.What]
ALONE = {"run", "compile", "bench", "demo", "netmap-serve", "netmap-run"}
"""Commands that need no running forwarder."""


def test_all_others_are_about_a_running_forwarder():
    found = dict(leaves(get_command(app)))
    named = {
        words
        for words, command in found.items()
        if any("-n" in parameter.opts for parameter in command.params)
    }
    assert named == {"show", *ASKED}
    assert set(found) - named == ALONE


@pytest.mark.parametrize(("words", "arguments"), [*SHOWN, *ASKED.items()])
def test_each_of_them_is_a_client_of_its_api(words, arguments):
    """One that looks into the arena by itself would get along without."""
    with fake.arena():
        result = CliRunner().invoke(app, [*words.split(), *arguments.split(), "-n", "fake"])
    said = "vforward: forwarder 'fake' serves no API: it is still starting"
    assert result.stderr.startswith(said)
    assert (result.exit_code, result.stdout) == (cli_app.CANNOT, "")


def test_help_begins_with_run():
    assert next(iter(get_command(app).commands)) == "run"


@pytest.mark.parametrize(
    ("words", "there", "not_there"),
    [
        (["--help"], ["netmap-run", "apply", "delete"], []),
        (["netmap-run", "--help"], ["A program that uses netmap"], ["apply"]),
        (["delete", "--help"], ["route", "neighbor"], []),
    ],
)
def test_a_command_that_is_named_is_put_together_alone(
    monkeypatch, capsys, words, there, not_there
):
    for kind in ("registered_commands", "registered_groups"):
        monkeypatch.setattr(app, kind, getattr(app, kind))
    monkeypatch.setattr("sys.argv", ["vforward", *words])
    with pytest.raises(SystemExit) as ended:
        cli_app.start()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [text for text in there if text not in said] == []
    assert [text for text in not_there if text in said] == []


def test_what_is_no_command_is_said_as_ever(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vforward", "ruin"])
    with pytest.raises(SystemExit) as ended:
        cli_app.start()
    assert ended.value.code == cli_app.WRONG
    assert "No such command 'ruin'" in capsys.readouterr().err


@pytest.mark.parametrize(("n", "text"), [(0, "0 sessions ended"), (1, "1 session ended")])
def test_how_many(capsys, n, text):
    cli_app.done(n, "session", "ended")
    cli_app.done(n, "session", "ended", json=True)
    assert capsys.readouterr().out == f'{text}\n{{"count": {n}}}\n'


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("vforward sho", "show"), ("vforward show por", "ports"), ("vforward add r", "route")],
)
def test_shells_complete_what_is_typed(typed, offered):
    given = {"_VFORWARD_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}
    result = CliRunner().invoke(app, [], prog_name="vforward", env=given)
    assert f'"{offered}"' in result.stdout
