# SPDX-License-Identifier: Apache-2.0
"""What the commands of `vforward` share: the application, its errors, and how a forwarder is found."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer
from typer.main import get_command_name

from vforward.errors import ConfigError, VforwardError

if TYPE_CHECKING:
    from vforward.control.client import Client

P = ParamSpec("P")

CANNOT, WRONG = 1, 2
URL, TOKEN = "VFORWARD_API", "VFORWARD_TOKEN"
"""Environment: the address of an API on TCP, and its token."""
UNTIL_END = "it lasts until the forwarder ends"
"""Said of changes that nothing keeps, see docs/operations.md."""

app = typer.Typer(
    name="vforward",
    help="A user-space vector packet forwarder.",
    epilog="Begin with: vforward demo. Files to start from: examples/; all about commands: docs/cli.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _names(incomplete: str) -> list[str]:
    """Completion: the forwarders that run."""
    from vforward.memory.place import running

    return [name for name in running() if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Option(
        "-n",
        "--name",
        help="The forwarder; may be left out if only one runs.",
        autocompletion=_names,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def connect(name: str) -> Client:
    """The API of the forwarder that is meant."""
    from vforward.control.client import Client

    if url := os.environ.get(URL):
        return Client(url=url, token=os.environ.get(TOKEN, ""))
    return Client(name)


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """The function; its VforwardErrors are a message and an exit status."""

    @functools.wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except VforwardError as error:
            sys.stderr.write(f"vforward: {error}\n")
            raise typer.Exit(WRONG if isinstance(error, ConfigError) else CANNOT) from error

    return made


def command(function: Callable[P, None]) -> Callable[P, None]:
    """A command, guarded."""
    return app.command()(guarded(function))


def start() -> None:
    """Run the command line. Of 27 commands the one that is named is put together: each takes 1 ms."""
    named = [
        one
        for one in app.registered_commands
        if one.callback and [get_command_name(one.callback.__name__)] == sys.argv[1:2]
    ]
    if named:
        app.registered_commands, app.registered_groups = named, []
    app()


def done(n: int, what: str, how: str, *, json: bool = False) -> None:
    """Say how many of something were changed: "3 sessions ended"."""
    text = f'{{"count": {n}}}' if json else f"{n} {what}{'' if n == 1 else 's'} {how}"
    sys.stdout.write(f"{text}\n")
