# SPDX-License-Identifier: Apache-2.0
"""The application that a forwarder serves: what is asked of it and told to it, over HTTP.

    reads      control.observe's rows, from the arena, as any other process could
    changes    the methods of a Forwarder that may be called while it runs

docs/api.md lists the calls; the application serves the same as an OpenAPI document at /openapi.json.
"""

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

import vforward
from vforward.control import (
    api_capture,
    api_change,
    api_config,
    api_nodes,
    api_problems,
    api_read,
)
from vforward.control.observe import View

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder


def make_app(view: View, forwarder: "Forwarder | None" = None) -> FastAPI:
    """The application for one forwarder. Without it nothing can be changed: for tests of what is read."""
    app = FastAPI(
        title="vforward",
        version=vforward.__version__,
        description="A running forwarder. Errors are problem details (RFC 9457).",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    api_problems.install(app)
    app.include_router(api_read.router(view, forwarder.publish if forwarder else _nothing))
    if forwarder is not None:
        app.include_router(api_change.router(forwarder))
        app.include_router(api_config.router(forwarder))
        app.include_router(api_capture.router(forwarder))
        app.include_router(api_nodes.router(forwarder))
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _nothing(_part: str) -> None:
    pass


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        own = api_problems.schema()
        schemas |= own.pop("$defs", {})
        schemas["Problem"] = own
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = made
    return app.openapi_schema
