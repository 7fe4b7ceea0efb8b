# SPDX-License-Identifier: Apache-2.0
"""What is answered on the Unix socket is refused by TCP, whatever its body says."""

import http.client

import pytest

from http_calls import answered, call
from vforward.control import api_problems
from vforward.control.api_local import local
from vforward.control.api_models import QueueWish
from vforward.control.api_server import Server, Tcp

TOKEN = "a-token-of-sixteen"


def application():
    from fastapi import FastAPI

    app = FastAPI()
    api_problems.install(app)

    @app.put("/x", dependencies=[local("it runs code, it is done")])
    def put(wish: QueueWish) -> int:
        return wish.worker

    return app


@pytest.mark.parametrize(("body", "status"), [(b'{"worker": 3}', 200), (b"{}", 422)])
def test_by_tcp_it_is_refused(tmp_path, body, status):
    tmp_path.chmod(0o700)
    server = Server(tmp_path, application, Tcp("127.0.0.1", 0, TOKEN))
    try:
        said = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        assert call(server.path, "PUT", "/x", body, said).status == status
        connection = http.client.HTTPConnection(*server.address, timeout=30)
        answer = answered(connection, "PUT", "/x", body, said)
        assert (answer.status, answer.kind) == (403, "application/problem+json")
        assert answer.json["detail"] == "it runs code, it is done: by the Unix socket only"
    finally:
        server.stop()
