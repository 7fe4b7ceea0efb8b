# SPDX-License-Identifier: Apache-2.0
"""The `vforward` command.

Exit status 0: good; 1: it cannot be done now; 2: wrong usage or configuration.

What a command needs is imported when it runs: `show` and `--help` load no compiler. Commands that ask a
running forwarder, or tell it something, are clients of its API.
"""

from __future__ import annotations

import contextlib
import functools
import json as jsonlib
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vforward.control import cli_change, cli_config, cli_look, cli_node, cli_watch
from vforward.control.cli_app import Json, app, command, guarded, start

__all__ = ["app", "cli_change", "cli_config", "cli_look", "cli_node", "cli_watch", "start"]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"vforward {version('vforward')}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of vforward itself."""


@command
def run(
    file: Annotated[Path, typer.Argument(help="The configuration, a TOML file.")],
    check: Annotated[bool, typer.Option("--check", help="Only check the configuration.")] = False,
    exit_when_idle: Annotated[
        bool, typer.Option("--exit-when-idle", help="End when no packet has come for 0.2 s.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what the last one of this name knew.")
    ] = False,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby", help="Load all, and take the place of the one that runs when it has ended."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Forward packets as FILE says, until SIGTERM or SIGINT comes."""
    from vforward.control import config

    wanted = config.load(file)
    if check:
        from vforward.control import show as tables

        good = {"good": str(file), **tables.counts_of(wanted)}
        sys.stdout.write(_line(good, f"{file}: good: {tables.summary(wanted)}", json))
        return
    from vforward.control import logs
    from vforward.control import run as daemon
    from vforward.control.progress_bar import Bar

    logs.set_up(wanted.log.format, wanted.log.level)
    logs.tell_of_threads()
    own = wanted.forwarder.name

    def ready() -> None:
        from vforward.control import show as tables  # not before packets flow

        bar.close()
        how = f"show with: vforward show runtime -n {own}"
        say(
            {"forwarding": own, **tables.counts_of(wanted)},
            f"forwarding: {tables.summary(wanted)}; {how}",
        )

    def standing_by() -> None:
        bar.close()
        say({"standing_by": own}, f"standing by for {own}")

    def say(plain: dict[str, Any], text: str) -> None:
        with contextlib.suppress(OSError):  # it forwards, whether there is room to say so or not
            sys.stdout.write(_line(plain, text, json))
            sys.stdout.flush()

    with Bar("compiling") as bar:
        daemon.run(
            wanted,
            functools.partial(bar.report, title="compiling"),
            ready,
            loading=functools.partial(bar.report, title="loading routes"),
            file=str(file.absolute()),
            exit_when_idle=exit_when_idle,
            fresh=fresh,
            confined=True,
            standing_by=standing_by if standby else None,
        )


@command
def compile(
    cold: Annotated[
        bool, typer.Option("--cold", help="Remove this version's compiled code first.")
    ] = False,
    json: Json = False,
) -> None:
    """Compile everything that may be needed, so that `run` starts at once."""
    from vforward.control import compile as compiling
    from vforward.control.progress_bar import Bar
    from vforward.jit import cache

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it clears up
    start = time.perf_counter()
    if cold:
        compiling.empty_cache()
    with Bar("compiling") as bar:
        steps = compiling.compile_all(bar.report)
    seconds = time.perf_counter() - start
    where = str(cache.directory())
    done = {"steps": steps, "seconds": round(seconds, 3), "directory": where}
    sys.stdout.write(_line(done, f"{steps} steps in {seconds:.1f} s; compiled code: {where}", json))


@command
def bench(
    cases: Annotated[
        list[str] | None, typer.Argument(help="Cases; none: all. Or: compare A B [CASE ...].")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object per row.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Plot a case to this file.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Only list the cases.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report, plots included.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown table.")] = None,
) -> None:
    """Measure vforward on this machine; or compare two checkouts or commits A and B: is B slower?"""
    from vforward.control.bench_command import bench as measure

    measure(cases or [], json, plot, list_only=list_only, html=html, markdown=markdown)


@command
def demo() -> None:
    """Show it at work: two network namespaces, pings and TCP through a forwarder between them."""
    from vforward.control.demo import demo as show_it

    raise typer.Exit(show_it())


@command
def netmap_serve(json: Json = False) -> None:
    """Be the netmap server: pipes and VALE switches for other programs, until SIGINT comes."""
    from vforward.rings.netmap_message import socket_path
    from vforward.rings.netmap_run import serve

    where = str(socket_path())
    sys.stdout.write(_line({"serving": where}, f"netmap server at {where}", json))
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        serve()


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@guarded
def netmap_run(
    command: Annotated[
        list[str], typer.Argument(help="A program that uses netmap, and its options.")
    ],
) -> None:
    """Run a netmap program on vforward's pipes and VALE switches, without netmap's kernel module."""
    from vforward.rings.netmap_run import run as become

    become(command)


def _line(plain: dict[str, Any], text: str, json: bool) -> str:
    return (jsonlib.dumps(plain) if json else text) + "\n"


app.registered_commands.sort(key=lambda one: one.callback is not run)  # it comes first in --help
