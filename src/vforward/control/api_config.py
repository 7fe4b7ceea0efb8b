# SPDX-License-Identifier: Apache-2.0
"""The API's calls that bring another configuration in force, or parts of one: ports, and who polls them."""

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import Field

from vforward.control import api_models as m
from vforward.control import config
from vforward.control.api_local import local
from vforward.control.api_problems import may_answer
from vforward.control.config_ports import Port
from vforward.control.reload import Reload
from vforward.control.reload_report import Report
from vforward.errors import ConfigError

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

Named = Annotated[str, Path(max_length=m.TEXT_MAX)]
NOTHING = 204
LOCAL = [local("configurations and ports name files that are read and written, they are told")]


def router(forwarder: "Forwarder") -> APIRouter:
    """The calls."""
    routes = APIRouter(responses=may_answer(400, 403, 404, 409, 422, 500))

    @routes.post("/configuration", response_model=m.Applied, dependencies=LOCAL)
    def apply(wish: m.ConfigurationWish) -> Any:
        """Bring a configuration in force: what differs from the one that is, all of it at one moment.

        With dry_run only says what that would be.
        """
        file = str(FilePath(wish.file or "configuration"))
        wanted = config.parse(wish.text, file, forwarder.name)
        report = _of(forwarder).apply(
            wanted, dry_run=wish.dry_run, exact=wish.exact, skip_restart=wish.skip_restart
        )
        return _said(report)

    @routes.put("/ports/{name}", response_model=m.Applied, dependencies=LOCAL)
    def add_port(name: Named, port: Annotated[Port, Field(discriminator="type"), Body()]) -> Any:
        """Add a port, told as a table [ports.NAME]; it stays when a configuration is applied."""
        return _said(_of(forwarder).add_port(name, port))

    @routes.delete("/ports/{name}", response_model=m.Applied)
    def delete_port(name: Named) -> Any:
        """Delete a port that nothing of the configuration needs; routes out of it go with it."""
        return _said(_of(forwarder).delete_port(name))

    @routes.put("/ports/{name}/queues/{queue}", status_code=NOTHING)
    def move_queue(
        name: Named, queue: Annotated[int, Path(ge=0, le=1023)], wish: m.QueueWish
    ) -> None:
        """Let another worker poll a receive queue of a port. No packet is lost by it."""
        forwarder.move_queue(name, wish.worker, queue)

    return routes


def _of(forwarder: "Forwarder") -> Reload:
    if forwarder.reload is None:
        raise ConfigError(
            f"forwarder {forwarder.name!r} was put together by a program, not from a configuration"
        )
    return forwarder.reload


def _said(report: Report) -> dict[str, Any]:
    return {
        "applied": report.applied,
        "changes": [vars(line) for line in report.lines],
        "routes_of_files": report.routes,
        "kept": report.kept,
        "left": [vars(line) for line in report.left],
        "stood_ms": report.stood_ms,
        "workers_stood_ms": report.workers_stood_ms,
    }
