# SPDX-License-Identifier: Apache-2.0
"""The API's calls for captures: a pcap file that is answered while packets come."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from vforward.control import api_models as m
from vforward.control.api_problems import may_answer
from vforward.control.capture import Capture
from vforward.control.capture_progress import Progress

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

MEDIA = "application/vnd.tcpdump.pcap"
LOOK_S = 0.01


class Pcap(StreamingResponse):
    """The file. The capture ends with the answer, however that ends."""

    media_type = MEDIA

    def __init__(self, capture: Capture, seconds: float) -> None:
        super().__init__(_content(capture, seconds))
        self._capture = capture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._capture.close()


def router(forwarder: "Forwarder") -> APIRouter:
    """The calls."""
    routes = APIRouter(responses=may_answer(400, 409, 422, 500))
    captures = forwarder.captures

    @routes.post("/captures", response_class=Pcap, status_code=200)
    def capture(wish: m.CaptureWish) -> StreamingResponse:
        """Capture packets, until so many or so many seconds have come, or the connection is closed."""
        begun = captures.begin(wish.at, wish.filter, count=wish.count, snap=wish.snap)
        return Pcap(begun, wish.seconds)

    @routes.get("/captures")
    def progress() -> list[Progress]:
        """How the capture stands that is running, or that was the last one."""
        return captures.progress()

    return routes


async def _content(capture: Capture, seconds: float) -> AsyncIterator[bytes]:
    until = time.monotonic() + seconds if seconds else float("inf")
    yield capture.header()
    over = False
    while not capture.done and not over:
        over = time.monotonic() >= until  # looked at before: what has come until then is taken
        if part := await asyncio.to_thread(capture.take):
            yield part
        elif not over:
            await asyncio.sleep(LOOK_S)
