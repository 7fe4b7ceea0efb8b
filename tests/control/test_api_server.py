# SPDX-License-Identifier: Apache-2.0
"""The server: who may reach it, what it leaves behind, and its token."""

import http.client
import importlib.util
import os
import stat
import threading
from pathlib import Path

import pytest

import vforward
from http_calls import answered, call
from vforward.control import api_server
from vforward.control.api_server import Server, Tcp
from vforward.errors import ApiError, ArenaError

TOKEN = "a-token-of-sixteen"


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.fixture
def place(tmp_path):
    made = tmp_path / ("long" * 30)  # a socket's path may be longer than 107 bytes
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def servers(place):
    made = []

    def serve(make=lambda: hello, tcp=None):
        made.append(Server(place, make, tcp))
        return made[-1]

    yield serve
    for server in made:
        server.stop()


def test_the_socket_is_its_users_alone(servers, place):
    server = servers()
    status = server.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
    assert call(server.path, "GET", "/x").body == b"/x"
    server.stop()
    assert list(place.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name == "api"]
    server.stop()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o707])
def test_a_directory_of_others_is_refused(place, mode):
    place.chmod(mode)
    with pytest.raises(ArenaError, match="with mode 0700"):
        Server(place, lambda: hello)
    assert list(place.iterdir()) == []


def test_a_link_to_a_directory_is_refused(place, tmp_path):
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(ArenaError, match="with mode 0700"):
        Server(tmp_path / "link", lambda: hello)


def test_who_comes_before_it_is_ready_waits(servers):
    release = threading.Event()

    def slowly():
        release.wait(30)
        return hello

    server = servers(slowly)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(call(server.path, "GET", "/")))
    asking.start()
    release.set()
    asking.join(30)
    assert answers[0].status == 200


def test_one_that_cannot_begin_leaves_nothing(servers, place, caplog):
    def fail():
        raise RuntimeError("no")

    server = servers(fail)
    server._thread.join(30)
    assert "the server has ended" in caplog.text
    assert list(place.iterdir()) == []


def test_stopped_at_once(servers, place):
    for _ in range(5):
        servers().stop()
    assert list(place.iterdir()) == []


def test_by_tcp_each_request_says_the_token(servers):
    server = servers(tcp=Tcp("127.0.0.1", 0, TOKEN))
    host, port = server.address

    def ask(**headers):
        return answered(
            http.client.HTTPConnection(host, port, timeout=30), "GET", "/", None, headers
        )

    assert ask(Authorization=f"Bearer {TOKEN}").status == 200
    for wrong in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer x"}):
        answer = ask(**wrong)
        assert (answer.status, answer.kind) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert call(server.path, "GET", "/").status == 200  # the Unix socket needs none


def test_the_client_says_the_token(servers):
    async def ports(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})

    server = servers(lambda: ports, Tcp("127.0.0.1", 0, TOKEN))
    url = "http://{}:{}".format(*server.address)
    assert vforward.Client(url=url, token=TOKEN).ports() == []
    with pytest.raises(ApiError, match="Authorization: Bearer TOKEN") as caught:
        vforward.Client(url=url).ports()
    assert caught.value.status == 401


def test_an_address_that_is_taken(servers, place, tmp_path):
    server = servers(tcp=Tcp("127.0.0.1", 0, TOKEN))
    _, port = server.address
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with pytest.raises(
        ApiError, match=rf"127\.0\.0\.1:{port}: .*in use; choose another \[api\] listen"
    ):
        Server(other, lambda: hello, Tcp("127.0.0.1", port, TOKEN))
    assert list(other.iterdir()) == []
    with pytest.raises(ApiError, match=r"api\.sock: Address already in use"):
        Server(place, lambda: hello)
    assert call(server.path, "GET", "/").status == 200


def test_no_tcp_without_a_token(place):
    with pytest.raises(ApiError, match="takes a token"):
        Server(place, lambda: hello, Tcp("127.0.0.1", 0, ""))
    assert list(place.iterdir()) == []


def test_says_what_to_install(place, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        api_server.importlib.util,
        "find_spec",
        lambda name: None if name == "uvicorn" else found(name),
    )
    with pytest.raises(ApiError, match=r"pip install 'vforward\[daemon\]' \(missing: uvicorn\)"):
        Server(place, lambda: hello)


def test_the_limits_are_those_of_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    headers, connections = api_server.HEADERS_MAX >> 10, api_server.CONNECTIONS_MAX
    assert f"Headers may have {headers} KiB, and {connections} connections" in text


def test_too_long_headers_end_the_connection(servers):
    server = servers()
    try:
        status = call(server.path, "GET", "/", headers={"X": "y" * 1_000_000}).status
    except OSError:  # it was closed while we sent
        status = 431
    assert status in (400, 431)
    assert call(server.path, "GET", "/").status == 200
