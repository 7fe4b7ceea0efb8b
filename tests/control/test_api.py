# SPDX-License-Identifier: Apache-2.0
"""The application as a whole: its OpenAPI document, and that nothing else is served."""

import json
from contextlib import ExitStack

import pytest

import fake_forwarder as fake
from http_calls import call
from vforward.memory.place import API_SOCKET


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        arena = stack.enter_context(fake.served())
        yield lambda *given, **more: call(arena.path / API_SOCKET, *given, **more)


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_the_document_is_whole(ask):
    document = ask("GET", "/openapi.json").json
    assert document["info"]["title"] == "vforward"
    schemas = document["components"]["schemas"]
    assert {ref.rpartition("/")[2] for ref in references(document)} <= set(schemas)
    for path, calls in document["paths"].items():
        for method, about in calls.items():
            assert about.get("description"), f"{method} {path} has no text"
            for status, answer in about["responses"].items():
                kinds = set(answer.get("content", {}))
                if int(status) >= 400:
                    assert kinds == {"application/problem+json"}, f"{method} {path} {status}"
    assert "HTTPValidationError" not in json.dumps(document)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/", "/ports/"])
def test_nothing_else_is_served(ask, path):
    assert ask("GET", path).status == 404


def test_a_body_has_a_bound(ask):
    assert ask("POST", "/traces", b"x" * (9 << 20)).status == 413
    kind = {"Content-Type": "application/json"}
    assert ask("POST", "/traces", b"[" * 100_000, headers=kind).status == 400
