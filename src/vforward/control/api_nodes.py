# SPDX-License-Identifier: Apache-2.0
"""The API's calls for plug-ins. Those that change something make the forwarder run Python code."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path

from vforward.control import api_models as m
from vforward.control.api_local import local
from vforward.control.api_problems import may_answer
from vforward.control.plugin_rows import PluginChange, PluginRow

if TYPE_CHECKING:
    from vforward.control.forwarder import Forwarder

Named = Annotated[str, Path(max_length=m.TEXT_MAX)]


LOCAL = [local("plug-ins are code, they are loaded and unloaded")]


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
