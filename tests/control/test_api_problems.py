# SPDX-License-Identifier: Apache-2.0
"""Every way to go wrong is answered with a problem of RFC 9457."""

from typing import Annotated

import pytest
from fastapi import Body
from pydantic import Field

from http_calls import call
from vforward.control import api_problems
from vforward.control.api_models import TraceWish
from vforward.control.api_server import Server
from vforward.control.config_firewall import Nat
from vforward.control.config_ports import Port
from vforward.control.config_routes import Route
from vforward.control.not_found import NotFound
from vforward.errors import ArenaError, ConfigError

MEDIA = "application/problem+json"


def application():
    from fastapi import FastAPI

    app = FastAPI()
    api_problems.install(app)
    raised = {
        "config": ConfigError("x: is wrong"),
        "arena": ArenaError("not now"),
        "missing": NotFound("no 'route' 10.0.0.0/8"),
        "ZeroDivisionError": ZeroDivisionError("secret"),
        "KeyError": KeyError("secret"),
    }

    @app.get("/raise/{what}")
    def fail(what: str):
        raise raised[what]

    @app.post("/trace")
    def trace(wish: TraceWish):
        return wish

    @app.post("/route")
    def route(wanted: Route):
        return {"prefix": str(wanted.prefix)}

    @app.put("/port")
    def port(wanted: Annotated[Port, Field(discriminator="type"), Body()]):
        return {"type": wanted.type}

    @app.put("/nat")
    def nat(wanted: list[Annotated[Nat, Field(discriminator="type")]]):
        return len(wanted)

    @app.get("/number")
    def number(n: int):
        return n

    return app


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api")
    directory.chmod(0o700)
    server = Server(directory, application)
    yield lambda *given, **more: call(server.path, *given, **more)
    server.stop()


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "kind", "detail"),
    [
        ("GET", "/raise/config", None, 422, "invalid", "x: is wrong"),
        ("GET", "/raise/arena", None, 409, "conflict", "not now"),
        ("GET", "/raise/missing", None, 404, "not-found", "no 'route' 10.0.0.0/8"),
        ("GET", "/none", None, 404, "not-found", "Not Found"),
        ("PUT", "/trace", None, 405, "method-not-allowed", "Method Not Allowed"),
        ("POST", "/trace", b"{", 400, "malformed", "the body is no JSON"),
        ("GET", "/number?n=x", None, 422, "invalid", "n: "),
        ("GET", "/number", None, 422, "invalid", "n: is missing"),
        ("POST", "/trace", [], 422, "invalid", "body: "),
        ("POST", "/trace", {"count": 0}, 422, "invalid", "count: is too small"),
        (
            "POST",
            "/trace",
            {"cuont": 1},
            422,
            "invalid",
            'cuont: is not a key here; did you mean "co',
        ),
    ],
)
def test_problems(ask, method, target, body, status, kind, detail):
    answer = ask(method, target, body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.kind) == (status, MEDIA)
    problem = answer.json
    assert (problem["status"], problem["type"]) == (status, f"urn:vforward:{kind}")
    assert problem["detail"].startswith(detail)
    assert problem["title"]


def test_a_wrong_route_is_told_as_in_a_file(ask):
    answer = ask("POST", "/route", {"prefix": "10.0.0.1/8", "via": "x", "metric": -1})
    assert answer.status == 422
    faults = {fault["at"]: fault["what"] for fault in answer.json["errors"]}
    assert faults["prefix"].startswith(
        'has host bits that are not zero; did you mean "10.0.0.0/8"?; allowed: a prefix without'
    )
    assert faults["via"].startswith("is not an IP address; allowed: a unicast address")
    assert faults["metric"] == "is too small; allowed: a whole number from 0 to 4294967295"


@pytest.mark.parametrize(
    ("target", "body", "at", "what"),
    [
        (
            "/port",
            {"type": "nul"},
            "type",
            'is not one of the choices; did you mean "null"?; allowed: "af',
        ),
        ("/port", {}, "type", 'is missing; allowed: "af_packet", "pcap"'),
        (
            "/port",
            {"type": "null", "adress": 1},
            "adress",
            'is not a key here; did you mean "address"?',
        ),
        (
            "/port",
            {"type": "null", "mtu": 1},
            "mtu",
            "is too small; allowed: a whole number from 68",
        ),
        ("/nat", [{"type": "static"}], "[0].inside", "is missing; allowed: an IPv4 address"),
        ("/nat", [{"type": "x"}], "[0].type", 'is not one of the choices; allowed: "masquerade"'),
    ],
)
def test_what_has_a_type_is_told_as_in_a_file(ask, target, body, at, what):
    answer = ask("PUT", target, body)
    assert answer.status == 422
    found = [fault["what"] for fault in answer.json["errors"] if fault["at"] == at]
    assert len(found) == 1
    assert found[0].startswith(what)


def test_many_faults_are_not_all_named(ask):
    answer = ask("POST", "/trace", {f"x{i}": 1 for i in range(1000)})
    assert len(answer.json["errors"]) == 20


@pytest.mark.parametrize("bug", ["ZeroDivisionError", "KeyError"])
def test_a_fault_tells_its_log_and_not_its_caller(ask, caplog, bug):
    answer = ask("GET", f"/raise/{bug}")
    assert (answer.status, answer.kind) == (500, MEDIA)
    assert b"secret" not in answer.body
    assert f"api: GET /raise/{bug} failed" in caplog.text
    assert f"{bug}: " in caplog.text
    assert ask("GET", "/number?n=1").json == 1


def test_the_schema_is_of_what_is_answered(ask):
    wanted = api_problems.schema()
    problem = ask("POST", "/trace", {"count": 0}).json
    assert set(wanted["required"]) <= set(problem) <= set(wanted["properties"])
