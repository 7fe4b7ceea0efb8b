# SPDX-License-Identifier: Apache-2.0
"""The API's calls for plug-ins. Those that change something make the forwarder run Python code.

So they are answered on the Unix socket alone, which only the forwarder's user can reach: he can run what he
likes anyway. By TCP a token that leaks, or is overheard, would otherwise be a shell on the machine.
"""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request

from vforward.control import api_models as m
from vforward.control.api_guard import BY_TCP
from vforward.control.api_problems import may_answer
from vforward.control.plugin_rows import PluginChange, PluginRow

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

Named = Annotated[str, Path(max_length=m.TEXT_MAX)]


def _local(request: Request) -> None:
    if request.scope.get(BY_TCP):
        raise HTTPException(403, "plug-ins are code: they are loaded by the Unix socket only")


LOCAL = [Depends(_local)]


def router(forwarder: "Forwarder") -> APIRouter:
    """The calls."""
    routes = APIRouter(responses=may_answer(400, 403, 404, 409, 422, 500))
    plugins = forwarder.plugins

    @routes.get("/nodes")
    def list_plugins() -> list[PluginRow]:
        """The plug-ins that are loaded."""
        return plugins.rows()

    @routes.post("/nodes", dependencies=LOCAL)
    def load_plugin(wish: m.PluginWish) -> PluginChange:
        """Load a plug-in, which is compiled and tried before. Answers when packets go through it."""
        return plugins.load(wish.place)

    @routes.put("/nodes/{name}", dependencies=LOCAL)
    def replace_plugin(name: Named, wish: m.PluginWish) -> PluginChange:
        """Load a plug-in in place of one that is loaded. Tables of the same layout keep their state."""
        return plugins.replace(name, wish.place)

    @routes.delete("/nodes/{name}", dependencies=LOCAL)
    def unload_plugin(name: Named) -> PluginChange:
        """Take a plug-in out; its state is forgotten."""
        return plugins.unload(name)

    return routes
