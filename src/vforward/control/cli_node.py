# SPDX-License-Identifier: Apache-2.0
"""`vforward node`: plug-ins of a running forwarder."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vforward.control.cli_app import UNTIL_END, Json, Name, app, connect, guarded

if TYPE_CHECKING:
    from vforward.control.plugin_rows import PluginChange

nodes = typer.Typer(
    no_args_is_help=True, help="Plug-ins of a running forwarder: nodes of your own."
)
app.add_typer(nodes, name="node")

PLACE = Annotated[str, typer.Argument(help="A file (./guard.py), or the name of an entry point.")]
UNLOADED = "unloaded"
NODE = Annotated[str, typer.Argument(help="The plug-in's node, see `vforward node list`.")]


@nodes.command("load")
@guarded
def load(place: PLACE, name: Name = "", json: Json = False) -> None:
    """Compile and try a plug-in, then let packets through it; the forwarder runs its code."""
    _say("loaded", connect(name).load_plugin(_absolute(place)), json)


@nodes.command("replace")
@guarded
def replace(
    node: NODE,
    place: Annotated[
        str, typer.Argument(help="A file or an entry point; if not given, where it came from.")
    ] = "",
    name: Name = "",
    json: Json = False,
) -> None:
    """Load a plug-in in place of one that is loaded: tables of the same layout keep their state."""
    _say("replaced", connect(name).replace_plugin(node, _absolute(place)), json)


@nodes.command("unload")
@guarded
def unload(node: NODE, name: Name = "", json: Json = False) -> None:
    """Take a plug-in out of the graph; its state is forgotten."""
    _say(UNLOADED, connect(name).unload_plugin(node), json)


@nodes.command("list")
@guarded
def list_(name: Name = "", json: Json = False) -> None:
    """List the plug-ins that are loaded."""
    from vforward.control import show as tables

    rows = connect(name).plugins()
    tables.as_json(rows) if json else tables.plugins(rows)


def _absolute(place: str) -> str:
    """A path as the forwarder, which runs elsewhere, has to see it; an entry point's name as it is."""
    return str(Path(place).absolute()) if "/" in place or place.endswith(".py") else place


def _say(done: str, change: PluginChange, json: bool) -> None:
    if json:
        sys.stdout.write(jsonlib.dumps(dataclasses.asdict(change)) + "\n")
        return
    parts = [f"node {change.name} {done}; packets waited {change.stood_s * 1e6:.0f} microseconds"]
    if change.kept:
        parts.append(f"state kept: {', '.join(change.kept)}")
    if change.begun:
        parts.append(f"begins anew: {', '.join(change.begun)}")
    sys.stdout.write("; ".join(parts) + "\n")
    if done != UNLOADED:
        sys.stdout.write(f"{UNTIL_END}; no start loads it\n")
