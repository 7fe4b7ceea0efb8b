"""Compiling in another process: its steps are told here, and what goes wrong is done once more here."""

import os

import pytest

from vforward.control import compile as compiling
from vforward.control import compiled
from vforward.control.compile_aside import compile_aside
from vforward.errors import KernelError


class Stopped(Exception):
    """What a progress that wants no more raises."""


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A place for files, instead of the mark of the cache."""
    monkeypatch.setattr(compiled, "is_complete", lambda: (tmp_path / "done").exists())
    return tmp_path


def test_steps_are_told_and_it_is_done_by_another_process(here, monkeypatch):
    def compile_all(progress):
        for done in range(3):
            progress(done, 3, f"node {done}")
        (here / "done").write_text(str(os.getpid()))

    monkeypatch.setattr(compiling, "compile_all", compile_all)
    steps = []
    compile_aside(lambda *step: steps.append(step))
    assert steps == [(0, 3, "node 0"), (1, 3, "node 1"), (2, 3, "node 2")]
    assert int((here / "done").read_text()) != os.getpid()


def test_an_error_is_raised_here(here, monkeypatch):
    def compile_all(progress):
        progress(0, 3, "bad")
        raise KernelError(f"of {os.getpid()}")

    monkeypatch.setattr(compiling, "compile_all", compile_all)
    steps = []
    with pytest.raises(KernelError, match=f"of {os.getpid()}$"):
        compile_aside(lambda *step: steps.append(step))
    assert steps == 2 * [(0, 3, "bad")]


def test_who_stops_it_waits_until_it_has_cleared_up(here, monkeypatch):
    def compile_all(progress):
        try:
            for done in range(1 << 20):
                progress(done, 1 << 20, "endless")
        finally:
            (here / "cleared").touch()

    def progress(done, _total, _name):
        if done == 3:
            raise Stopped

    monkeypatch.setattr(compiling, "compile_all", compile_all)
    with pytest.raises(Stopped):
        compile_aside(progress)
    assert (here / "cleared").exists()
