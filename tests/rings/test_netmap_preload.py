"""libvforward_netmap.so under a C program that knows nothing of us, and pkt-gen where there is one."""

import errno
import os
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from netmap_worlds import received, until
from rings.netmap_programs import compiled, needs_programs, numbered, started, told, under
from vforward.rings import netmap
from vforward.rings.netmap_server import Server

pytestmark = needs_programs
HEADER = b"\xff" * 6 + b"\x02\0\0\0\0\x02"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("c"))


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "d" / "s") as running:
        yield running


@pytest.fixture
def env(server):
    return under(server.path)


@pytest.mark.parametrize("how", [[], ["-l"], ["-p"]])
def test_a_pipe_of_two_programs(env, program, how):
    n = 200_000
    with (
        started(env, program, *how, "rx", "x}1", n) as receiver,
        started(env, program, *how, "tx", "x{1", n) as sender,
    ):
        assert told(receiver) == [n, n]
        assert told(sender) == [n]


TWO = pytest.mark.parametrize(
    ("theirs", "ours"), [("x{1", "netmap:x}1@conf:slots=64"), ("vale1:c", "vale1:py")]
)


@pytest.mark.parametrize("kind", ["echo", "swap"])
@TWO
def test_a_program_and_python(server, env, program, kind, theirs, ours):
    n, got = 500, []
    with (
        netmap.open(ours, path=server.path) as port,
        started(env, program, kind, theirs, n) as process,
    ):
        for i in range(n):
            frame = HEADER + i.to_bytes(4, "big") * 12
            while not port.inject(frame):
                assert port.poll(netmap.WRITE, 20) == netmap.WRITE
            port.txsync()
            while i - len(got) >= 40:
                assert port.poll(netmap.READ, 20) == netmap.READ
                port.dispatch(got.append)
        while len(got) < n:
            assert port.poll(netmap.READ, 20) == netmap.READ
            port.dispatch(got.append)
        port.rxsync()
        assert told(process) == [n]
    assert [frame[12:16] for frame in got] == [i.to_bytes(4, "big") for i in range(n)]


@pytest.mark.parametrize("kind", ["echo", "swap"])
@TWO
def test_long_frames_go_to_a_program_and_back(server, env, program, kind, theirs, ours):
    n = 40
    with (
        netmap.open(ours, path=server.path) as port,
        started(env, program, kind, theirs, 3 * n) as process,
    ):
        for i in range(n):
            frame = HEADER + bytes((i + k) % 251 for k in range(5000 - len(HEADER)))
            assert port.inject(frame) == 5000
            port.txsync()
            assert port.poll(netmap.READ, 20) == netmap.READ
            assert port.next_packet() == frame
        port.rxsync()
        assert told(process) == [3 * n]


@TWO
def test_frames_of_a_program_come_whole_or_not_at_all(server, env, program, theirs, ours):
    """Of three slots each: syncs come in between, and the last two are of one that never has a third."""
    n = 200
    with (
        netmap.open(ours, path=server.path) as port,
        started(env, program, "parts", theirs, 3 * n + 2) as process,
    ):
        got = received(port, n)
        assert told(process) == [3 * n + 2]
        assert port.poll(netmap.READ, 0) == 0
    assert got == [b"".join(map(numbered, range(3 * i, 3 * i + 3))) for i in range(n)]


@TWO
def test_a_program_that_breaks_the_rules(server, env, program, theirs, ours):
    """Its rings are reinitialised, it is told so, and they work."""
    n, refused = 50, [errno.EINVAL, 0, 0]
    is_pipe = not theirs.startswith("vale")
    expected = [
        *refused, 0, 0, 0, 0, -1, 0,  # by bad slots: a buffer that is none, twice; a length
        *(refused if is_pipe else [0, 1, 1]),
        select.POLLERR, select.POLLOUT, *refused, select.POLLERR, 0,
    ]  # fmt: skip
    with (
        netmap.open(ours, path=server.path) as port,
        started(env, program, "bad", theirs, n) as process,
    ):
        assert received(port, n) == [numbered(i) for i in range(n)]
        assert told(process) == [*expected, n]


@pytest.mark.parametrize("how", [[], ["-l"]])
@TWO
def test_extra_buffers_of_a_program(server, env, program, how, theirs, ours):
    n = 5
    with netmap.open(ours, path=server.path) as port:
        pair = server.pipes.get("x{1")
        spare = pair and len(pair.region.free)
        with started(env, program, *how, "extra", theirs, n) as process:
            assert received(port, n) == [numbered(i) for i in range(n)]
            assert told(process) == [n, n]
        until(lambda: server.connections == 1)
        if pair:
            assert len(set(pair.region.free)) == len(pair.region.free) == spare


@pytest.mark.parametrize("how", [[], ["-l"]])
def test_what_a_program_is_told_before_it_registers(server, env, program, how):
    with (
        netmap.open("netmap:x{1@conf:tx-slots=8,rx-slots=16", path=server.path),
        started(env, program, *how, "info", "x}1", 0) as process,
    ):
        region = server.pipes["x{1"].region
        assert told(process) == [region.where.size, 16, 8, 1, 1, region.mem_id]


def test_a_switch_between_two_programs(env, program):
    n = 900  # no more than fit the receiver's ring: a switch may drop
    with (
        started(env, program, "rx", "vale2:r", n) as receiver,
        started(env, program, "tx", "vale2:s", n) as sender,
    ):
        assert told(sender) == [n]
        assert told(receiver) == [n, n]


def test_two_threads_wait_for_one_port(server, env, program):
    """One to send and one to receive: a wakeup is for both, whoever hears of it first."""
    n = 300
    with (
        netmap.open("netmap:x}1", path=server.path) as port,
        started(env, program, "both", "x{1", n) as process,
    ):
        room = port.tx.space()
        for i in range(n):
            port.inject(numbered(i))
            port.txsync()
            until(lambda: port.txsync() or port.tx.space() == room)  # it is taken
        assert port.poll(netmap.READ, 20) == netmap.READ
        port.dispatch(len)
        port.rxsync()
        assert told(process) == [n, n]


def test_a_port_is_opened_once(server, env, program):
    with netmap.open("netmap:x{1", path=server.path):
        done = subprocess.run(
            [program, "tx", "x{1", "1"], env=env, capture_output=True, text=True, check=False
        )
    assert (done.returncode, "busy" in done.stderr) == (2, True)


def test_a_signal_while_a_port_is_opened(server, env, program, monkeypatch):
    """The program waits for the server's answer when it comes."""
    answer = server._answer

    def interrupted(connection, asked):
        pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[
            0
        ]
        until(lambda: state(pid)[0] == "S")
        os.kill(pid, signal.SIGUSR1)
        until(lambda: state(pid) in ("S0", "Z0"))
        return answer(connection, asked)

    monkeypatch.setattr(server, "_answer", interrupted)
    with started(env, program, "tx", "vale3:a", 1) as process:
        assert told(process) == [1]


def state(pid):
    """Of a process: what it does (S: it waits, Z: it has ended), and the signals that have not arrived."""
    words = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return words["State"][0] + f"{int(words['ShdPnd'], 16):x}"


@pytest.mark.parametrize(("name", "error"), [("eth0", "Invalid argument"), ("x{1", "No such file")])
def test_what_there_is_not(server, program, name, error, tmp_path):
    path = server.path if name == "eth0" else tmp_path / "none"
    env = under(path)
    done = subprocess.run(
        [program, "tx", name, "1"], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, error in done.stderr) == (2, True)


def test_a_killed_program_leaves_its_place(server, env, program):
    with netmap.open("netmap:x{1", path=server.path) as port:
        with started(env, program, "rx", "x}1", 10):
            assert server.connections == 2
        until(lambda: server.connections == 1)
        with started(env, program, "echo", "x}1", 1) as process:
            port.inject(b"\xff" * 60)
            port.txsync()
            assert port.poll(netmap.READ, 20) == netmap.READ
            assert port.next_packet() == b"\xff" * 60
            assert told(process) == [1]


def test_other_programs_notice_nothing(env):
    done = subprocess.run(
        ["sh", "-c", "cat /proc/self/status | grep -c Name; sleep 0"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.skipif(
    "PKT_GEN" not in os.environ, reason="PKT_GEN=/path/to/pkt-gen runs netmap's own"
)
@pytest.mark.parametrize(("one", "two"), [("netmap:x{1", "netmap:x}1"), ("vale0:a", "vale0:b")])
def test_pkt_gen(env, one, two):
    command = [os.environ["PKT_GEN"], "-w", "1", "-l", "60"]
    receiving = [*command, "-i", two, "-f", "rx", "-T", "500", "-n", "500000"]
    sending = [*command, "-i", one, "-f", "tx", "-n", "500000"]
    with subprocess.Popen(receiving, env=env, stderr=subprocess.PIPE, text=True) as receiver:
        time.sleep(2)
        sent = subprocess.run(
            sending, env=env, timeout=60, capture_output=True, text=True, check=False
        )
        assert "500000 packets" in sent.stdout + sent.stderr
        if one.startswith("netmap"):
            assert "500000 packets" in receiver.communicate(timeout=30)[1]
        receiver.kill()
