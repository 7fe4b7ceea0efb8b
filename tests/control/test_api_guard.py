# SPDX-License-Identifier: Apache-2.0
"""The bound on bodies, and the token, held against what the application behind them is given."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control.api_guard import bounded, with_token


class World:
    """One request in chunks, and what was answered. The application reads all, then says how much."""

    def __init__(self, chunks=(b"",), headers=(), begin_first=False):
        self.chunks, self.headers, self.begin_first = list(chunks), list(headers), begin_first
        self.sent, self.read = [], 0

    async def app(self, scope, receive, send):
        if self.begin_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            self.read += len(message.get("body", b""))
            more = message.get("more_body", False)
        if not self.begin_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive(self):
        body = self.chunks.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self.chunks)}

    async def send(self, message):
        self.sent.append(message)

    def run(self, app, kind="http"):
        scope = {"type": kind, "path": "/", "headers": self.headers}
        asyncio.run(app(scope, self.receive, self.send))
        return self.sent[0]["status"] if self.sent else None


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=8), st.integers(0, 24))
def test_no_more_than_the_bound_is_taken(chunks, most):
    world = World(chunks)
    status = world.run(bounded(world.app, most))
    size = sum(map(len, chunks))
    assert status == (413 if size > most else 200)
    assert world.read <= most


@pytest.mark.parametrize(
    ("said", "status"), [(b"10", 200), (b"11", 413), (b"9" * 5000, 413), (b"-1", 200), (b"x", 200)]
)
def test_what_a_request_says_of_its_length(said, status):
    world = World(headers=[(b"content-length", said)])
    assert world.run(bounded(world.app, 10)) == status
    if status == 413:
        assert world.read == 0
        problem = json.loads(world.sent[1]["body"])
        assert (problem["status"], problem["type"]) == (413, "urn:vforward:content-too-large")


def test_an_answer_that_has_begun_is_not_begun_again():
    world = World([b"12345", b"67890"], begin_first=True)
    assert world.run(bounded(world.app, 8)) == 200
    assert [m["type"] for m in world.sent] == ["http.response.start"]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"Bearer secret", 200),
        (b"bearer  secret ", 200),
        (b"Bearer secre", 401),
        (b"Bearer secrets", 401),
        (b"Basic secret", 401),
        (b"secret", 401),
        (b"", 401),
        (b"Bearer \xff", 401),
    ],
)
def test_the_token(said, status):
    world = World(headers=[(b"authorization", said)])
    assert world.run(with_token(world.app, "secret")) == status


def test_without_a_token():
    world = World()
    assert world.run(with_token(world.app, "secret")) == 401


@pytest.mark.parametrize("guard", [bounded, lambda app: with_token(app, "secret")])
def test_nothing_but_http(guard):
    world = World()
    assert world.run(guard(world.app), "websocket") is None
