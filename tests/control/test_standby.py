"""A second process of a name: it waits for the first one's end, and goes on from what that knew."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from vforward.control import standby
from vforward.control.client import Client
from vforward.memory.arena import Arena

NAME = "pair"
FILE = f"""
[forwarder]
name = "{NAME}"
[ports.lan]
type = "null"
address = "10.0.1.1/24"
"""
LONG = 120


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a daemon with such options; returns it when it has said something."""
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    file = tmp_path / "pair.toml"
    file.write_text(FILE)
    command = [sys.executable, "-c", "from vforward.control.main import main; main()", "run"]
    with contextlib.ExitStack() as stack:

        def started(*options):
            process = subprocess.Popen(
                [*command, str(file), *options], stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.stdout.close)
            stack.callback(process.kill)
            return process, process.stdout.readline()

        yield started


ROUTE = '[[routes]]\nprefix = "10.8.0.0/16"\nvia = "10.0.1.2"\n'


def test_it_takes_the_place_of_one_that_was_killed(start, tmp_path):
    first, said = start()
    assert said.startswith("forwarding:")
    second, said = start("--standby")
    assert said == f"standing by for {NAME}\n"
    client = Client(NAME)
    assert client.about()["pid"] == first.pid
    client.add_route("10.9.0.0/16", via="10.0.1.2")
    (tmp_path / "pair.toml").write_text(FILE + ROUTE)
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline().startswith("forwarding:")
    assert Client(NAME).about()["pid"] == second.pid
    prefixes = [route["prefix"] for route in Client(NAME).routes().rows]
    assert "10.9.0.0/16" in prefixes, "what the first one was told"
    assert "10.8.0.0/16" in prefixes, "what the file says by now"
    third, said = start("--standby")
    assert said == f"standing by for {NAME}\n"
    (tmp_path / "pair.toml").write_text("spoilt")
    second.send_signal(signal.SIGTERM)
    assert second.wait(LONG) == 0
    assert third.stdout.readline().startswith("forwarding:")


def test_alone_it_forwards_at_once(start):
    process, said = start("--standby")
    assert said == f"standing by for {NAME}\n"
    assert process.stdout.readline().startswith("forwarding:")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG) == 0


def test_it_can_be_stopped_while_it_waits(start):
    first, _ = start()
    second, _ = start("--standby")
    second.send_signal(signal.SIGTERM)
    assert second.wait(LONG) == 0
    assert Client(NAME).about()["pid"] == first.pid


def test_an_owner_that_says_nothing_yet_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    stop, done = threading.Event(), []
    with Arena.create(NAME) as arena:
        thread = threading.Thread(target=lambda: done.append(standby.wait(NAME, stop)))
        thread.start()
        time.sleep(3 * standby.STARTING_S)
        arena.write_document("forwarder", {"pid": "nobody's"})
        time.sleep(3 * standby.STARTING_S)
        assert not done
    thread.join(LONG)
    assert done == [None]


def test_the_owner_is_told_by_its_pid_and_stop_ends_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    stop, looks = threading.Event(), []

    def looked():
        looks.append(1)
        stop.set()

    with Arena.create(NAME) as arena:
        arena.write_document("forwarder", {"pid": os.getpid()})
        standby.wait(NAME, stop, looked)
    assert looks == [1]
