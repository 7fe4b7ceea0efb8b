"""Plain HTTP over a Unix socket, as any program may send it."""

import http.client
import json
import socket
from typing import NamedTuple

from vforward.io import unix


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def kind(self):
        return self.headers.get("content-type")


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self):
        self.sock = unix.connect(self._path, socket.SOCK_STREAM)
        self.sock.settimeout(30)


def call(path, method, target, body=None, headers=()):
    """One request. body: bytes as they are, anything else as JSON."""
    given = dict(headers)
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        given.setdefault("Content-Type", "application/json")
    return answered(Connection(path), method, target, body, given)


def answered(connection, method, target, body=None, headers=()):
    try:
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        found = {key.lower(): value for key, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()
