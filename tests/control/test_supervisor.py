# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells systemd."""

import os
import socket
import threading
import time

import pytest

from vforward.control.supervisor import Supervisor


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["path", "abstract"])
def told(request, tmp_path):
    """What has come since: who listens, as systemd does."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0vforward-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.setblocking(False)

        def come():
            found = []
            while True:
                try:
                    found.append(listener.recv(1000).decode())
                except BlockingIOError:
                    return found

        come.environment = {"NOTIFY_SOCKET": name.replace("\0", "@")}
        yield come


def test_the_start_and_the_end(told, clock):
    supervisor = Supervisor(told.environment, clock)
    supervisor.starting()
    assert told() == [], "it has hardly begun"
    for _ in range(3):
        clock.now += 0.6
        supervisor.starting()
    assert told() == ["EXTEND_TIMEOUT_USEC=120000000"]
    supervisor.ready(list)
    supervisor.stopping()
    assert told() == ["READY=1", "STOPPING=1"]


def test_the_pulse_is_the_workers(told):
    supervisor = Supervisor(told.environment)
    rounds = [7, 9]

    def later(*done):
        rounds[:] = [n + d for n, d in zip(rounds, done, strict=True)]
        supervisor.pulse([*rounds])
        return told()

    assert later(0, 0) == ["WATCHDOG=1"], "the first says nothing of what was before"
    assert later(1, 1) == ["WATCHDOG=1"]
    assert later(1, 0) == [], "one is stuck"
    assert later(5, 0) == []
    assert later(0, 1) == ["WATCHDOG=1"], "each has done a round since the last pulse"


def test_the_watchdog_is_told_until_a_worker_stops(told):
    """Whatever the other threads do meanwhile."""
    rounds, asked = [0], []

    def count():
        asked.append(None)
        rounds[0] += len(asked) < 5
        return [*rounds]

    more = {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    supervisor = Supervisor(told.environment | more)
    supervisor.ready(count)
    deadline = time.monotonic() + 20
    while len(asked) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    supervisor.stopping()
    assert told() == ["READY=1", *["WATCHDOG=1"] * 4, "STOPPING=1"]


@pytest.mark.parametrize(
    "more", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}]
)
def test_without_a_watchdog_there_is_no_thread(told, more):
    before = threading.active_count()
    supervisor = Supervisor(told.environment | more)
    supervisor.ready(list)
    assert threading.active_count() == before
    supervisor.stopping()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nonexistent/socket"}])
def test_who_does_not_listen_is_told_nothing(environment, clock):
    supervisor = Supervisor(environment | {"WATCHDOG_USEC": "1000000"}, clock)
    clock.now += 10
    supervisor.starting()
    supervisor.ready(list)
    supervisor.pulse([1])
    supervisor.stopping()
