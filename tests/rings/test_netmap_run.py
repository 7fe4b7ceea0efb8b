"""Programs under our netmap: their environment, and the server that comes and goes with them."""

import contextlib
import os
import subprocess
import sys
import time

import pytest

from netmap_worlds import received, until
from rings.netmap_programs import compiled, needs_programs, numbered, started, told
from vforward.errors import PortError, ShimMissing
from vforward.rings import netmap, netmap_run
from vforward.rings.netmap_server import Server


@pytest.fixture
def path(tmp_path, monkeypatch):
    where = tmp_path / "d" / "s"
    monkeypatch.setenv("VFORWARD_NETMAP", str(where))
    return where


@pytest.mark.parametrize(("before", "after"), [(None, ""), ("other.so", ":other.so")])
def test_the_library_is_loaded_first(path, monkeypatch, tmp_path, before, after):
    library = tmp_path / "lib.so"
    library.touch()
    monkeypatch.setattr(netmap_run, "library", lambda: library)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    if before:
        monkeypatch.setenv("LD_PRELOAD", before)
    env = netmap_run.environment(path)
    assert env["LD_PRELOAD"] == f"{library}{after}"
    assert env["VFORWARD_NETMAP"] == str(path)


def test_a_library_that_was_not_built(path, monkeypatch, tmp_path):
    monkeypatch.setattr(netmap_run, "library", lambda: tmp_path / "none")
    with pytest.raises(ShimMissing, match="make venv"):
        netmap_run.environment(path)


def test_a_server_that_runs_is_used(path):
    with Server() as server:
        assert netmap_run.ensure_server() == path
        netmap.open("netmap:x{1").close()
        assert server.path == path


def test_a_server_comes_and_goes(path, monkeypatch):
    monkeypatch.setattr(netmap_run, "IDLE_S", 0.5)
    assert netmap_run.ensure_server() == path
    with netmap.open("netmap:x{1") as port:
        time.sleep(1)
        port.txsync()
        assert netmap_run.ensure_server() == path
    end = time.monotonic() + 20
    while path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_no_such_program(path):
    with pytest.raises(PortError, match="no program"):
        netmap_run.run(["vforward-no-such-program"])


LAUNCH = """
import sys
from vforward.control.main import main
from vforward.rings import netmap_run
netmap_run.IDLE_S = 2.0
main()
"""


@pytest.mark.skipif(
    not netmap_run.library().exists(), reason="the library was not built: make venv"
)
def test_its_status_is_the_programs(path):
    code = "import os; print(os.environ['LD_PRELOAD'], os.environ['VFORWARD_NETMAP']); exit(7)"
    with Server():
        done = subprocess.run(
            [sys.executable, "-c", LAUNCH, "netmap-run", sys.executable, "-c", code],
            env=os.environ.copy(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 7, done.stderr
    assert done.stdout == f"{netmap_run.library()} {path}\n"


@needs_programs
@pytest.mark.parametrize("there_is_one", [True, False])
def test_the_command(path, tmp_path, there_is_one):
    """A program that netmap-run becomes, with the server that there is, or with one that it starts."""
    command = [sys.executable, "-c", LAUNCH, "netmap-run", compiled(tmp_path), "tx", "x{1", "3"]
    with contextlib.ExitStack() as stack:
        if there_is_one:
            server = stack.enter_context(Server())
            port = stack.enter_context(netmap.open("netmap:x}1"))
            process = stack.enter_context(started(os.environ, *command))
            until(lambda: server.connections == 2)
        else:
            process = stack.enter_context(started(os.environ, *command))
            port = stack.enter_context(netmap.open("netmap:x}1"))
        got = received(port, 3)
        assert told(process) == [3]
        assert got == [numbered(i) for i in range(3)]
    until(lambda: not path.exists())
