"""The server: who may open what, what it says to nonsense, what becomes of the dead."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from fuzzing import open_fds
from netmap_worlds import until
from vforward.errors import PortError
from vforward.rings import netmap
from vforward.rings.netmap_message import (
    DESCRIPTORS,
    INFO,
    REGISTER,
    REPLY_SIZE,
    Reply,
    Request,
)
from vforward.rings.netmap_server import SWITCHES_MAX, Server


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "run" / "s") as running:
        yield running


def ask(server, *requests):
    """The replies on one connection, and how many descriptors came with each."""
    found = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(server.path))
        for request in requests:
            connection.send(request if isinstance(request, bytes) else request.packed())
            data, descriptors, _, _ = socket.recv_fds(connection, REPLY_SIZE + 1, 8)
            for descriptor in descriptors:
                os.close(descriptor)
            found.append((Reply.unpacked(data), len(descriptors)))
    return found


@pytest.mark.parametrize("name", ["x{1", "vale0:a"])
def test_one_connection_is_one_port(server, name):
    (first, n), (second, none) = ask(
        server, Request(REGISTER, name, 8, 8), Request(REGISTER, name + "2", 8, 8)
    )
    assert (first.error, n) == (0, DESCRIPTORS)
    assert (second.error, none) == (errno.EBUSY, 0)
    until(lambda: not server.pipes and not server.switches)


@pytest.mark.parametrize("name", ["netmap:x{1", "vale0:a"])
def test_ports_are_exclusive(server, name):
    with netmap.open(name, path=server.path), pytest.raises(PortError, match="busy"):
        netmap.open(name, path=server.path)
    until(lambda: not server.connections)
    netmap.open(name, path=server.path).close()


def test_information(server):
    assert ask(server, Request(INFO, "x{1"))[0][0].tx_slots == 1024
    with netmap.open("netmap:x{1@conf:tx-slots=8,rx-slots=16", path=server.path):
        reply, n = ask(server, Request(INFO, "x}1"))[0]
    assert (reply.tx_slots, reply.rx_slots, n) == (16, 8, 0)


@pytest.mark.parametrize(
    "request_", [b"x", bytes(96), Request(REGISTER, "eth0"), Request(REGISTER, "x{1", 1, 0)]
)
def test_nonsense_is_refused_and_ends_nothing(server, request_):
    (bad, none), (good, n) = ask(server, request_, Request(REGISTER, "x{1", 8, 8))
    assert (bad.error, none) == (errno.EINVAL, 0)
    assert (good.error, n) == (0, DESCRIPTORS)


def test_there_are_only_so_many_switches(server):
    ports = [netmap.open(f"vale{i}:a@conf:slots=8", path=server.path) for i in range(SWITCHES_MAX)]
    with pytest.raises(PortError, match="Invalid"):
        netmap.open("vale9:a", path=server.path)
    for port in ports:
        port.close()
    until(lambda: not server.switches)


def test_one_server_at_a_path(server):
    with pytest.raises(PortError, match="already"):
        Server(server.path)


def test_a_killed_server_is_followed_by_another(tmp_path):
    path = tmp_path / "run" / "s"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(path))
    with Server(path), netmap.open("netmap:x{1", path=path) as port:
        assert port.tx.space() == 1023
    assert not path.exists()


def test_no_server(tmp_path):
    with pytest.raises(PortError, match="netmap-serve"):
        netmap.open("netmap:x{1", path=tmp_path / "none")


def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(netmap, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        with pytest.raises(netmap.NoServer, match="timed out"):
            netmap.open("netmap:x{1", path=tmp_path / "s")


def test_an_answer_is_not_awaited_any_longer_when_it_is_not_wanted(tmp_path):
    stop = os.eventfd(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        with pytest.raises(netmap.NoServer, match="given up"):
            netmap.open("netmap:x{1", path=tmp_path / "s", stop=stop)
    os.close(stop)


def test_a_directory_of_others_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(PortError, match="0700"):
        Server(tmp_path / "open" / "s")


CHILD = """
import sys, time
from pathlib import Path
from vforward.rings import netmap
port = netmap.open(sys.argv[1], path=Path(sys.argv[2]), extra=4)
kind = sys.argv[3]
for i in range(3):
    port.inject(b"\\xff" * 6 + bytes([2, 0, 0, 0, 0, 9]) + bytes([i]) * 48)
if kind == "swapping":  # two slots with one buffer, another with none
    port.tx.slots["buf_idx"][5] = port.tx.slots["buf_idx"][6]
    port.tx.slots["buf_idx"][7] = 2**31
if kind != "filled":
    port.txsync()
if kind == "sleeping":
    print("ready", flush=True)
    port.poll(netmap.READ)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["filled", "sent", "sleeping", "swapping"])
@pytest.mark.parametrize(("theirs", "ours"), [("netmap:k{1", "netmap:k}1"), ("vale7:k", "vale7:o")])
def test_a_killed_program_leaves_its_place_to_the_next(server, kind, theirs, ours):
    with netmap.open(ours, path=server.path) as port:
        child = [sys.executable, "-c", CHILD, theirs, str(server.path), kind]
        with subprocess.Popen(child, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            sent = 0 if kind == "filled" else 3
            got = []
            while len(got) < sent:
                assert port.poll(netmap.READ, 10) == netmap.READ
                port.dispatch(got.append)
            process.send_signal(signal.SIGKILL)
        assert [frame[12:] for frame in got] == [bytes([i]) * 48 for i in range(sent)]
        until(lambda: server.connections == 1)
        with netmap.open(theirs, path=server.path, extra=4) as again:
            port.rxsync()
            again.txsync()
            mine = again.tx.slots["buf_idx"][again.tx.owned()].tolist() + again.extra
            assert len(set(mine)) == len(mine) == again.tx.space() + 4
            again.inject(b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 9]) + b"again")
            again.txsync()
            assert port.poll(netmap.READ, 10) == netmap.READ
            assert port.next_packet()[12:] == b"again"


@pytest.mark.parametrize("others", [[], ["vale0:x"]])
def test_a_port_of_a_switch_for_which_no_descriptors_are_left(server, monkeypatch, others):
    """It is refused, nothing of it is left, and the switch forwards: that is new, or was there."""

    def none(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with contextlib.ExitStack() as stack:
        there = [stack.enter_context(netmap.open(name, path=server.path)) for name in others]
        ask(server, Request(INFO, "x{1"))  # it has begun: what it opens for that is there
        until(lambda: server.connections == len(there))
        before = open_fds()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", none)
            assert ask(server, Request(REGISTER, "vale0:a", 8, 8)) == [(Reply(errno.EMFILE), 0)]
        until(lambda: open_fds() <= before)
        assert len(server.switches) == len(there)
        with (
            netmap.open("vale0:a", path=server.path) as one,
            netmap.open("vale0:b", path=server.path) as two,
        ):
            one.inject(b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 9]) + bytes(48))
            one.txsync()
            for port in (two, *there):
                assert port.poll(netmap.READ, 20) == netmap.READ
    until(lambda: not server.switches)


def test_many_come_and_go(server):
    """Threads open, use and close ports of one switch, while others do."""

    def live(number):
        for i in range(15):
            with netmap.open(f"vale0:p{number}_{i}@conf:slots=8", path=server.path) as port:
                port.inject(b"\xff" * 6 + bytes([2, 0, 0, 0, 0, number]) + bytes(48))
                port.poll(netmap.READ | netmap.WRITE, 0.01)

    threads = [threading.Thread(target=live, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: not server.connections and not server.switches)
