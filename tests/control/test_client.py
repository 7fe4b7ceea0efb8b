# SPDX-License-Identifier: Apache-2.0
"""The client: what it gives is what the arena has, and its errors say what to do."""

import socket
import threading

import pytest

import fake_forwarder as fake
import vforward
from vforward.control import observe, observe_firewall, show_capture
from vforward.errors import ApiError, ArenaError, ConfigError
from vforward.io import unix
from vforward.layout import EDGE_HELD
from vforward.memory.place import API_SOCKET


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def arena():
    with fake.served() as made:
        yield made


@pytest.fixture
def client(arena):
    return vforward.Client("fake")


def test_rows_are_those_of_the_arena(client):
    with observe.attach("fake") as view:
        assert client.runtime() == view.runtime()
        assert client.ports() == view.ports()
        assert client.graph() == view.graph()
        assert client.errors(everything=True) == view.errors()
        assert client.errors() == [row for row in view.errors() if row.drop]
        assert client.routes() == view.routes()
        assert client.bridges() == view.bridges()
        assert client.macs() == view.macs()
        (mine,), (its,) = client.neighbors().rows, view.neighbors().rows
        assert mine.pop("age") == pytest.approx(its.pop("age"), abs=60)
        assert mine == its


def test_rows_of_the_firewall_are_those_of_the_arena(arena, client):
    with pytest.raises(ApiError, match="forwarder 'fake' has no firewall") as caught:
        client.rules()
    assert caught.value.status == 409
    fake.add_firewall(arena)
    with observe.attach("fake") as view:
        assert client.rules() == observe_firewall.rules(view)
        assert client.nat() == observe_firewall.nat(view)
        assert client.policers() == observe_firewall.policers(view)
        assert client.sessions().rows == observe_firewall.sessions(view).rows()
    assert client.sessions(protocol="udp").count == 0
    assert client.count_sessions(from_="10.0.0.0/8") == {"established": 1}
    assert client.kill_sessions(to="192.0.2.9") == 1
    assert client.kill_sessions(everything=True) == 1
    with pytest.raises(ConfigError, match="which sessions"):
        client.kill_sessions()
    with pytest.raises(ConfigError, match="no state 'x'"):
        client.sessions(state="x")


def test_who_it_is(client):
    about = client.about()
    assert (about["name"], about["version"]) == ("fake", vforward.__version__)
    assert (about["state"], about["vrfs"]) == ("running", ["default"])


def test_clear(client):
    client.clear()
    assert client.errors() == []
    assert client.runtime().packets == 0


def test_trace(arena, client):
    path = [(fake.INPUT, 0, 0, b"\x02" * 60), (fake.OUT, EDGE_HELD, 0, b"\x02" * 60)]
    with fake.Worker(arena, [path], packets=2):
        (packet,) = client.trace()
        assert [step.node for step in packet.steps] == ["lan-rx", "lan-tx"]
        assert len(client.trace(5, "lan-rx", 0.2)) == 1
        with pytest.raises(ConfigError, match="no input node 'x'; there are: lan-rx"):
            client.trace(1, "x")
        with pytest.raises(ConfigError, match=r"count: is too small"):
            client.trace(0)


def test_the_only_one_needs_no_name(arena):
    assert vforward.Client().name == "fake"


@pytest.mark.parametrize("name", ["other", "../x", "x/y"])
def test_nobody_of_that_name(name):
    with pytest.raises(
        ArenaError, match=rf"no forwarder named {name!r} is running \(looked in .*\); there are: "
    ):
        vforward.Client(name).ports()


def test_nobody_at_all():
    with pytest.raises(ArenaError, match="no forwarder is running"):
        vforward.Client()


def test_one_that_died():
    with fake.arena() as arena:
        path = arena.path
    path.mkdir(mode=0o700)
    (path / "lock").touch(mode=0o600)
    unix.listen(path / API_SOCKET, socket.SOCK_STREAM).close()
    with pytest.raises(ArenaError, match="no forwarder named 'fake' is running"):
        vforward.Client("fake").ports()


def test_one_that_serves_nothing():
    with fake.arena(), pytest.raises(ApiError, match=r"serves no API.*Forwarder\.serve"):
        vforward.Client("fake").ports()


def test_a_directory_of_others_is_not_trusted(arena, client):
    arena.path.chmod(0o755)
    with pytest.raises(ArenaError, match=r"must be a directory of uid .* with mode 0700"):
        client.ports()


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"", "does not answer"),
        (b"nonsense\r\n\r\n", "does not answer"),
        (b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n", "answers 500 Broken"),
        (b'HTTP/1.1 409 No\r\ncontent-length: 16\r\n\r\n{"detail": "no"}', "no"),
    ],
)
def test_a_server_that_speaks_otherwise(said, what):
    with fake.arena() as arena:
        listener = unix.listen(arena.path / API_SOCKET, socket.SOCK_STREAM)

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(ApiError, match=what):
                vforward.Client("fake").ports()
        finally:
            thread.join()
            listener.close()


@pytest.mark.parametrize("reset", [False, True])
def test_a_capture_that_the_forwarder_ends(tmp_path, reset):
    """By closing the connection, or with a request that it has not read, which resets it."""
    with fake.arena() as arena:
        listener = unix.listen(arena.path / API_SOCKET, socket.SOCK_STREAM)
        taken = threading.Event()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 if reset else 65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                connection.sendall(b"4\r\npcap\r\n")
                taken.wait(60)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with vforward.Client("fake").capture("lan") as pieces:
                file = tmp_path / "x.pcap"

                def until_end():
                    for piece in pieces:
                        yield piece
                        taken.set()

                with pytest.raises(ApiError, match="forwarder 'fake' has ended the capture"):
                    show_capture.copy(until_end(), file)
            assert file.read_bytes() == b"pcap"
        finally:
            taken.set()
            thread.join()
            listener.close()


@pytest.mark.parametrize("url", ["https://x:1", "x:1", "http://", "http://x", "http://x:y"])
def test_a_wrong_address(url):
    with pytest.raises(ConfigError, match="is no address of an API"):
        vforward.Client(url=url)
