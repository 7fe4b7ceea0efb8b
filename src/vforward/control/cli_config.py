# SPDX-License-Identifier: Apache-2.0
"""Commands that bring a configuration in force in a running forwarder, or a part of one."""

from __future__ import annotations

import json as jsonlib
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from vforward.control.cli_app import UNTIL_END, Json, Name, app, command, connect, guarded
from vforward.control.cli_change import adding, deleting
from vforward.errors import ConfigError

moving = typer.Typer(no_args_is_help=True, help="Move within a running forwarder.")
app.add_typer(moving, name="move")


@command
def apply(
    file: Annotated[Path, typer.Argument(help="The configuration, a TOML file.")],
    name: Name = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Undo what was changed at run time, too.")
    ] = False,
    skip_restart: Annotated[
        bool, typer.Option("--skip-restart", help="Leave what needs a restart as it is.")
    ] = False,
    json: Json = False,
) -> None:
    """Let a running forwarder be as FILE says: what differs is changed, all of it at one moment."""
    client = connect(name)
    reads = None if json else client.about()["config"]
    answer = client.apply(file, dry_run=dry_run, exact=exact, skip_restart=skip_restart)
    _show(answer, json=json)
    if reads is not None and answer["applied"] and file.resolve() != Path(reads).resolve():
        sys.stdout.write(f"{UNTIL_END}; SIGHUP and the next start read {reads}\n")


@adding.command("port")
@guarded
def add_port(
    port: Annotated[str, typer.Argument(help="Its name.")],
    keys: Annotated[
        list[str], typer.Argument(help="Keys of [ports.NAME]: type=af_packet interface=eth0 ...")
    ],
    name: Name = "",
    json: Json = False,
) -> None:
    """Add a port; values as in a file, where quotes may be left out: address=10.0.1.1/24 mtu=9000."""
    client = connect(name)
    reads = None if json else client.about()["config"]
    _show(client.add_port(port, **dict(map(_key, keys))), json=json)
    _say_unless_in(reads)


@deleting.command("port")
@guarded
def delete_port(
    port: Annotated[str, typer.Argument(help="Its name.")], name: Name = "", json: Json = False
) -> None:
    """Delete a port; routes out of it go with it."""
    client = connect(name)
    reads = None if json else client.about()["config"]
    _show(client.delete_port(port), json=json)
    _say_unless_in(reads)


@moving.command("queue")
@guarded
def move_queue(
    port: Annotated[str, typer.Argument(help="The port.")],
    worker: Annotated[int, typer.Argument(help="The worker that polls it from now on.")],
    queue: Annotated[int, typer.Option(help="Which of its receive queues.")] = 0,
    name: Name = "",
    json: Json = False,
) -> None:
    """Let another worker poll a receive queue of a port, and send by it; no packet is lost."""
    connect(name).move_queue(port, worker, queue)
    what = f"queue {queue} of {port}"
    moved = f"{what} moved to worker {worker}; {UNTIL_END}"
    sys.stdout.write((jsonlib.dumps({"moved": what}) if json else moved) + "\n")


def _say_unless_in(reads: str | None) -> None:
    """Say how long a change lasts that the file which a start reads may hold."""
    if reads is not None:
        sys.stdout.write(f"{UNTIL_END}, unless {reads} says the same\n")


def _key(text: str) -> tuple[str, Any]:
    """A key and its value, as TOML or, where that is none, as a text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text}: say KEY=VALUE, like mtu=9000")
    try:
        return key, tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return key, value


def _show(answer: dict[str, Any], *, json: bool) -> None:
    if json:
        sys.stdout.write(jsonlib.dumps(answer, indent=1) + "\n")
        return
    from vforward.control.reload_report import Line, Report

    lines, left = ([Line(**row) for row in answer[key]] for key in ("changes", "left"))
    report = Report(lines, answer["routes_of_files"], answer["kept"], left)
    for line in report.text():
        sys.stdout.write(line + "\n")
    if answer["applied"]:
        stood, workers = answer["stood_ms"], answer["workers_stood_ms"]
        sys.stdout.write(f"applied; inputs waited {stood:.1f} ms, workers {workers:.1f} ms\n")
    elif not lines:
        sys.stdout.write("nothing differs\n")
