# SPDX-License-Identifier: Apache-2.0
"""The `vforward` command with and without the daemon extra."""

import sys
from types import ModuleType

import pytest

from vforward.control.main import main


class Cli(ModuleType):
    """A vforward.control.cli whose import stops at the module `missing`."""

    def __init__(self, missing):
        super().__init__("vforward.control.cli")
        self.missing = missing

    def __getattr__(self, name):
        if name != "start":
            raise AttributeError(name)
        raise ModuleNotFoundError(f"No module named {self.missing!r}", name=self.missing)


def test_runs_the_command_line(monkeypatch):
    calls = []
    cli = ModuleType("vforward.control.cli")
    cli.start = lambda: calls.append("start")
    monkeypatch.setitem(sys.modules, "vforward.control.cli", cli)
    main()
    assert calls == ["start"]


@pytest.mark.parametrize("missing", ["typer", "rich.console", "pydantic"])
def test_names_the_extra_and_what_is_missing(monkeypatch, capsys, missing):
    monkeypatch.setitem(sys.modules, "vforward.control.cli", Cli(missing))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "vforward: the command line needs the 'daemon' extra: "
        f"pip install 'vforward[daemon]' (missing: {missing.partition('.')[0]})\n"
    )


def test_says_so_too_where_a_command_finds_it_missing(monkeypatch, capsys):
    """`run` imports pydantic when it reads its file."""

    def start():
        raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")

    cli = ModuleType("vforward.control.cli")
    cli.start = start
    monkeypatch.setitem(sys.modules, "vforward.control.cli", cli)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "pip install 'vforward[daemon]' (missing: pydantic)" in capsys.readouterr().err


def test_hides_no_other_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "vforward.control.cli", Cli("vforward.nothing"))
    with pytest.raises(ModuleNotFoundError, match=r"vforward\.nothing"):
        main()
