# SPDX-License-Identifier: Apache-2.0
"""Who stops reading costs nobody else anything: memory stays bounded, packets and answers go on."""

import contextlib
import os
import socket
import time

import pytest

from e2e.lab import until
from e2e.process import MADE, daemon, descriptors, memory_kib
from vforward.control.api_server import CONNECTIONS_MAX
from vforward.control.client import Client
from vforward.errors import VforwardError
from vforward.io import unix
from vforward.memory.place import API_SOCKET

GROWTH_KIB = 64 << 10
"""A capture's ring and what the API has under way; not what all packets of a second are."""
SECRET = "0123456789abcdef"


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "stalled.toml"
    made.write_text(MADE.format(name="stalled"))
    return made


@pytest.fixture
def client():
    return Client("stalled")


def sent(client):
    return next(port.tx.packets for port in client.ports() if port.name == "sink")


def goes_on(client):
    before = sent(client)
    until(lambda: sent(client) > before + 1_000_000, "it does not forward any more")


def connection(runtime, request=b""):
    made = unix.connect(runtime / "stalled" / API_SOCKET, socket.SOCK_STREAM)
    made.sendall(request)
    return made


def asks(method, path, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_capture_that_nobody_reads(file, runtime, client):
    with daemon(file) as process:
        goes_on(client)
        before = memory_kib(process.pid)
        with connection(runtime, asks("POST", "/captures", b'{"at": "sink"}')):
            until(lambda: client.captures() and client.captures()[0].missed > 100_000, "no capture")
            goes_on(client)
            assert memory_kib(process.pid) - before < GROWTH_KIB
            with (
                pytest.raises(VforwardError, match="is captured from already"),
                client.capture("sink"),
            ):
                pass
            process.terminate()  # and it does not keep the daemon from its end
            assert process.wait(30) == 0, process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_answers_that_nobody_reads(file, runtime, client):
    """As many as there may be connections: each is asked for much, again and again."""
    with daemon(file) as process, contextlib.ExitStack() as stack:
        goes_on(client)
        before = memory_kib(process.pid)
        stalled = [stack.enter_context(connection(runtime)) for _ in range(CONNECTIONS_MAX // 2)]
        for each in stalled:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.sendall(asks("GET", "/metrics") * 1000)
        goes_on(client)
        assert memory_kib(process.pid) - before < GROWTH_KIB
        assert process.poll() is None


def test_who_says_nothing_by_tcp_keeps_nobody_else_out(tmp_path, runtime, client):
    """All connections by TCP are taken without a token: the Unix socket has its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token, file = tmp_path / "token", tmp_path / "stalled.toml"
    token.write_text(SECRET)
    token.chmod(0o600)
    api = f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"\n'
    file.write_text(MADE.format(name="stalled") + api)
    with daemon(file) as process, contextlib.ExitStack() as stack:
        by_tcp = Client(url=f"http://127.0.0.1:{port}", token=SECRET)
        assert by_tcp.about()["name"] == "stalled"
        before = descriptors(process.pid)
        for _ in range(CONNECTIONS_MAX + 10):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        until(lambda: descriptors(process.pid) >= before + CONNECTIONS_MAX, "none is accepted")
        with pytest.raises(VforwardError, match="503"):
            by_tcp.about()
        assert client.about()["name"] == "stalled"
        goes_on(client)
        stack.close()
        until(lambda: _answers(by_tcp), "they are not let go")


def _answers(client):
    with contextlib.suppress(VforwardError):
        return client.about()


def test_a_log_that_nobody_reads(file, client):
    """A pipe is full after 64 KiB: then lines are lost, and nothing waits for them."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(write, bytes(4096)):
            pass
    os.set_blocking(write, True)
    try:
        file.write_text(file.read_text() + '[log]\nlevel = "debug"\n')
        with daemon(file, errors=write) as process:
            goes_on(client)
            client.add_route("10.9.0.0/16", via="10.0.2.2")
            begin = time.monotonic()
            with pytest.raises(VforwardError):
                client.add_route("10.9.0.0/16", via="10.77.0.1")
            goes_on(client)
            process.terminate()
            assert process.wait(30) == 0
            assert time.monotonic() - begin < 60
    finally:
        os.close(read)
        os.close(write)
