# SPDX-License-Identifier: Apache-2.0
"""Errors of the API, as problem details (RFC 9457)."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vforward.control.api_guard import problem
from vforward.control.api_models import Problem
from vforward.control.config_errors import describe, of_type
from vforward.control.not_found import NotFound
from vforward.control.wording import dotted
from vforward.errors import ConfigError, KernelError, VforwardError, WiringError

log = logging.getLogger(__name__)

MEDIA = "application/problem+json"
KINDS = {
    400: "malformed",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "content-too-large",
    422: "invalid",
    500: "fault",
}
_MEANS = {
    400: "The body is no JSON.",
    403: "It is answered on the Unix socket only.",
    404: "There is no such thing.",
    409: "It cannot be done now.",
    422: "The request is wrong; `errors` says where.",
    500: "A fault of the forwarder's; its log says more.",
}
WRONG = (ConfigError, KernelError, WiringError)
"""What is asked for is wrong: other errors say that it cannot be now."""
_FAULTS = 20
"""Wrong places of a request that are named."""


def may_answer(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the problems that a call may answer with."""
    content = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANS[status], "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Have the application answer with problems."""
    app.add_exception_handler(VforwardError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _fault)


def schema() -> dict[str, Any]:
    """Problem's own, for the OpenAPI document."""
    return Problem.model_json_schema(ref_template="#/components/schemas/{model}")


def problem_of(error: VforwardError) -> dict[str, Any]:
    """The problem that it is."""
    status = 404 if isinstance(error, NotFound) else 422 if isinstance(error, WRONG) else 409
    return problem(status, KINDS[status], str(error))


def _answer(status: int, detail: str, **more: Any) -> JSONResponse:
    kind = KINDS.get(status, "error")
    return JSONResponse(problem(status, kind, detail, **more), status, media_type=MEDIA)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, VforwardError)
    said = problem_of(error)
    return JSONResponse(said, said["status"], media_type=MEDIA)


async def _plain(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = _answer(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return _answer(400, "the body is no JSON")
    body = getattr(getattr(request.scope.get("route"), "body_field", None), "field_info", None)
    faults = []
    for one in found[:_FAULTS]:
        part, *path = one["loc"] or ("",)
        wanted = body.annotation if part == "body" and body is not None else None
        model, path = of_type(wanted, path)
        if one["type"].startswith("union_tag"):
            path = [*path, "type"]
        faults.append({"at": dotted(tuple(path)) or str(part), "what": describe(model, path, one)})
    detail = "; ".join(f"{fault['at']}: {fault['what']}" for fault in faults)
    return _answer(422, detail, errors=faults)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    log.error("api: %s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(500, "a fault of the forwarder's; its log says more")
