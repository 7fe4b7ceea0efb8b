# SPDX-License-Identifier: Apache-2.0
"""Commands that watch a running forwarder: its rates as they are, its graph, its packets."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vforward.control.cli_app import Json, Name, command, connect
from vforward.errors import VforwardError

if TYPE_CHECKING:
    from vforward.control.client import Client
    from vforward.control.top import Look


@command
def top(
    name: Name = "",
    every: Annotated[
        float, typer.Option("--every", min=0.1, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    count: Annotated[int, typer.Option(min=0, help="End after so many; 0: at Ctrl-C.")] = 0,
    json: Json = False,
) -> None:
    """Show rates of ports and clocks of nodes as they are, until Ctrl-C."""
    from rich.live import Live

    from vforward.control import show as tables
    from vforward.control import show_top
    from vforward.control.top import between

    asked = connect(name)
    out, shown = tables.console(), 0
    live = Live(console=out, auto_refresh=False, screen=False, transient=False)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        if out.is_terminal and not json:
            stack.enter_context(live)
        before = _look(asked)
        while not count or shown < count:
            time.sleep(every)
            now = _look(asked)
            found, before, shown = between(before, now), now, shown + 1
            if json:
                tables.as_json_line(found)
            elif out.is_terminal:
                live.update(
                    show_top.screen(found, max(1, out.height - len(found.ports) - 6)), refresh=True
                )
            else:
                out.print(show_top.screen(found))


def _look(asked: Client) -> Look:
    from vforward.control.top import Look

    return Look(asked.runtime(), asked.ports())


@command
def graph(
    name: Name = "",
    svg: Annotated[
        Path | None, typer.Option(help="Draw it to this file, as SVG; - is standard output.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="In the picture: also what no packet took.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the graph as it is: nodes, ways out, and the packets that took them."""
    from vforward.control import show as tables

    asked = connect(name)
    if svg is not None:
        drawn = asked.picture(everything=everything)
        if str(svg) == "-":
            sys.stdout.write(drawn)
            return
        try:
            svg.write_text(drawn, encoding="utf-8")
        except OSError as error:
            raise VforwardError(f"{svg}: {error.strerror}") from error
        return
    rows = asked.graph()
    tables.as_json(rows) if json else tables.graph(rows)


def _places(incomplete: str) -> list[str]:
    """Completion: ports and nodes of the only forwarder that runs."""
    try:
        asked = connect("")
        names = [port.name for port in asked.ports()] + [node.name for node in asked.graph()]
    except VforwardError:
        return []
    return [name for name in names if name.startswith(incomplete)]


@command
def capture(
    at: Annotated[str, typer.Argument(metavar="PORT|NODE", help="Where.", autocompletion=_places)],
    filter: Annotated[
        list[str] | None,
        typer.Argument(help='Which packets: "tcp port 443 and not host 10.0.0.1".'),
    ] = None,
    name: Name = "",
    write: Annotated[
        Path | None,
        typer.Option("-w", "--write", help="To this pcap file; - is standard output."),
    ] = None,
    count: Annotated[int, typer.Option("-c", "--count", min=0, help="End after so many.")] = 0,
    seconds: Annotated[
        float, typer.Option(min=0, max=86400, help="End after so many seconds.")
    ] = 0.0,
    snap: Annotated[
        int,
        typer.Option("-s", "--snap", min=16, max=65549, help="Bytes of a packet that are kept."),
    ] = 65549,
    json: Json = False,
) -> None:
    """Capture packets while they are forwarded, until Ctrl-C; without -w print what they are."""
    from vforward.control import show as tables
    from vforward.control import show_capture

    asked = connect(name)
    with (
        asked.capture(
            at, " ".join(filter or ()), count=count, seconds=seconds, snap=snap
        ) as pieces,
        contextlib.suppress(KeyboardInterrupt),
    ):
        if write is None:
            show_capture.packets(pieces, json=json)
        else:
            show_capture.copy(pieces, write)
    (progress,) = asked.captures()
    if json and write is not None:
        tables.as_json(progress)
    else:
        sys.stderr.write(f"vforward: {show_capture.summary(progress)}\n")
