# SPDX-License-Identifier: Apache-2.0
"""What stands before the API: a bound on bodies, and for TCP a token. Plain ASGI."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

BODY_MAX = 8 << 20
"""Bytes of a request's body; 100 000 rules have room in it."""

BY_TCP = "vforward.by_tcp"
"""Key of a request's scope: it did not come by the Unix socket."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class _TooLong(Exception):
    """A body is longer than is allowed."""


def bounded(app: App, most: int = BODY_MAX) -> App:
    """The application, for which no request has a body of more than so many bytes."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        said = _header(scope, b"content-length")
        if said.isdigit() and int(said[:20]) > most:
            await refuse(send, 413, "content-too-large", f"more than {most} bytes in the body")
            return
        came, begun = 0, False

        async def counted() -> Scope:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise _TooLong
            return message

        async def noted(message: Scope) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await app(scope, counted, noted)
        except _TooLong:
            if not begun:
                await refuse(send, 413, "content-too-large", f"more than {most} bytes in the body")

    return guarded


def with_token(app: App, token: str) -> App:
    """The application, for whoever says ``Authorization: Bearer TOKEN``."""
    wanted = token.encode()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        kind, _, given = _header(scope, b"authorization").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), wanted):
            await app({**scope, BY_TCP: True}, receive, send)
        else:
            detail = "say Authorization: Bearer TOKEN, with the token of [api] token_file"
            await refuse(send, 401, "unauthorized", detail, [(b"www-authenticate", b"Bearer")])

    return guarded


def problem(status: int, kind: str, detail: str, **more: Any) -> dict[str, Any]:
    """A problem as RFC 9457 has it."""
    title = kind.replace("-", " ")
    return {
        "type": f"urn:vforward:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        **more,
    }


async def refuse(
    send: Send,
    status: int,
    kind: str,
    detail: str,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """Answer with a problem."""
    body = json.dumps(problem(status, kind, detail)).encode()
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            *(headers or []),
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")
