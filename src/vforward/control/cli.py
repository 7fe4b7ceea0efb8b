# SPDX-License-Identifier: Apache-2.0
"""The `vforward` command.

Exit status 0: good; 1: it cannot be done now; 2: wrong usage or configuration.

What a command needs is imported when it runs: `show` and `--help` load no compiler.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from vforward.errors import ConfigError, VforwardError

P = ParamSpec("P")

CANNOT, WRONG = 1, 2

app = typer.Typer(
    name="vforward",
    help="A user-space vector packet forwarder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class What(StrEnum):
    """What `vforward show` shows."""

    RUNTIME = "runtime"
    WORKERS = "workers"
    PORTS = "ports"
    ERRORS = "errors"
    ROUTES = "routes"
    NEIGHBORS = "neighbors"
    BRIDGES = "bridges"
    MACS = "macs"
    RULES = "rules"
    SESSIONS = "sessions"
    NAT = "nat"
    POLICERS = "policers"
    GRAPH = "graph"


OF_FIREWALL = (What.RULES, What.NAT, What.POLICERS)


Name = Annotated[
    str, typer.Option("-n", "--name", help="The forwarder; may be left out if only one runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_PANEL = "Which sessions"


def _filter(option: str, text: str) -> Any:
    return typer.Option(option, help=text, rich_help_panel=_PANEL)


From = Annotated[str, _filter("--from", "Who began them: an address, a prefix or a range.")]
To = Annotated[str, _filter("--to", "The other end: an address, a prefix or a range.")]
Port = Annotated[str, _filter("--port", "A port, or a range, of either end.")]
Protocol = Annotated[str, _filter("--protocol", 'A protocol: "tcp", "icmp6", 47.')]
State = Annotated[str, _filter("--state", 'A state, or its beginning: "syn", "established".')]
Vrf = Annotated[str, _filter("--vrf", "A VRF.")]


def _guarded(function: Callable[P, None]) -> Callable[P, None]:
    """The function; its VforwardErrors are a message and an exit status."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except VforwardError as error:
            sys.stderr.write(f"vforward: {error}\n")
            raise typer.Exit(WRONG if isinstance(error, ConfigError) else CANNOT) from error

    return guarded


def _command(function: Callable[P, None]) -> Callable[P, None]:
    """A command, guarded."""
    return app.command()(_guarded(function))


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


@_command
def run(
    file: Annotated[Path, typer.Argument(help="The configuration, a TOML file.")],
    check: Annotated[bool, typer.Option("--check", help="Only check the configuration.")] = False,
    exit_when_idle: Annotated[
        bool, typer.Option("--exit-when-idle", help="End when no packet has come for 0.2 s.")
    ] = False,
) -> None:
    """Forward packets as FILE says, until SIGTERM or SIGINT comes."""
    from vforward.control import config
    from vforward.control import show as tables

    wanted = config.load(file)
    if check:
        sys.stdout.write(f"{file}: good: {tables.summary(wanted)}\n")
        return
    from vforward.control import run as daemon

    def ready() -> None:
        bar.close()
        how = f"show with: vforward show runtime -n {wanted.forwarder.name}"
        sys.stdout.write(f"forwarding: {tables.summary(wanted)}; {how}\n")
        sys.stdout.flush()

    with tables.Bar("compiling") as bar:
        daemon.run(
            wanted,
            functools.partial(bar.report, title="compiling"),
            ready,
            loading=functools.partial(bar.report, title="loading routes"),
            file=str(file.absolute()),
            exit_when_idle=exit_when_idle,
        )


@_command
def show(
    what: Annotated[What, typer.Argument(help="What to show.")],
    name: Name = "",
    json: Json = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With errors: also what counts no drops.")
    ] = False,
    from_: From = "",
    to: To = "",
    port: Port = "",
    protocol: Protocol = "",
    state: State = "",
    vrf: Vrf = "",
    most: Annotated[int, typer.Option(min=1, help="Most sessions.", rich_help_panel=_PANEL)] = 1000,
    count: Annotated[
        bool, typer.Option("--count", help="Only how many, by state.", rich_help_panel=_PANEL)
    ] = False,
) -> None:
    """Look into a running forwarder, without stopping it."""
    from vforward.control import observe, observe_workers
    from vforward.control import show as tables

    if what is What.SESSIONS:
        _show_sessions(name, (from_, to, port, protocol, state, vrf), None if count else most, json)
        return
    if what in OF_FIREWALL:
        _show_firewall(name, what.value, json)
        return
    with observe.attach(name) as view:
        ask = getattr(view, what.value, None) if what is not What.WORKERS else None
        rows: Any = ask() if ask else observe_workers.workers(view)
    if what is What.ERRORS and not everything:
        rows = [row for row in rows if row.drop]
    if json:
        tables.as_json(rows)
    elif what is What.ERRORS:
        tables.errors(rows, everything=everything)
    else:
        getattr(tables, what.value)(rows)


def _show_firewall(name: str, what: str, json: bool) -> None:
    from vforward.control import observe, observe_firewall, show_firewall
    from vforward.control import show as tables

    with observe.attach(name) as view:
        rows = getattr(observe_firewall, what)(view)
    if json:
        tables.as_json(rows)
    else:
        getattr(show_firewall, what)(rows)


def _show_sessions(name: str, wanted: tuple[str, ...], most: int | None, json: bool) -> None:
    """The sessions, at most so many; None: only how many."""
    from vforward.control import observe, observe_firewall, show_firewall
    from vforward.control import show as tables
    from vforward.control.session_list import Filter

    with observe.attach(name) as view:
        found, only = observe_firewall.sessions(view), Filter(*wanted)
        states = found.by_state(only)
        rows = [] if most is None else found.rows(only, most)
    if json:
        tables.as_json(states if most is None else rows)
    elif most is None:
        show_firewall.counts(states)
    else:
        show_firewall.sessions(rows, max(0, sum(states.values()) - len(rows)))


@_command
def kill(
    name: Name = "",
    from_: From = "",
    to: To = "",
    port: Port = "",
    protocol: Protocol = "",
    state: State = "",
    vrf: Vrf = "",
    everything: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
) -> None:
    """End sessions of the firewall: the next packets are asked by the rules again."""
    from vforward.control import observe, observe_firewall
    from vforward.control.session_list import Filter

    only = Filter(from_, to, port, protocol, state, vrf)
    if only == Filter() and not everything:
        raise ConfigError("which sessions? Give --from, --to, --port, ..., or --all")
    with observe.attach(name) as view:
        n = observe_firewall.kill(view, only)
    sys.stdout.write(f"{n} session{'' if n == 1 else 's'} ended\n")


@_command
def trace(
    count: Annotated[int, typer.Argument(min=1, max=100_000, help="How many packets.")],
    name: Name = "",
    node: Annotated[str, typer.Option(help="Only packets of this input node.")] = "",
    timeout: Annotated[float, typer.Option(min=0, help="Longest wait, seconds.")] = 10.0,
    json: Json = False,
) -> None:
    """Follow the next COUNT packets through the graph, node by node."""
    from vforward.control import observe, packet_trace
    from vforward.control import show as tables

    with observe.attach(name) as view:
        packets = packet_trace.collect(view, count, node, timeout)
    if json:
        tables.as_json(packets)
    else:
        tables.trace(packets)
    if len(packets) < count:
        came = f"{len(packets)} of {count}" if packets else "no"
        sys.stderr.write(f"vforward: {came} packets came within {timeout:g} s\n")
    if not packets:
        raise typer.Exit(CANNOT)


@_command
def clear(name: Name = "") -> None:
    """Let `show` count from zero. The forwarder notices nothing."""
    from vforward.control import observe

    with observe.attach(name) as view:
        view.clear()


@_command
def compile(
    cold: Annotated[
        bool, typer.Option("--cold", help="Remove this version's compiled code first.")
    ] = False,
) -> None:
    """Compile everything that may be needed, so that `run` starts at once."""
    from vforward.control import compile as compiling
    from vforward.control import show as tables
    from vforward.jit import cache

    start = time.perf_counter()
    if cold:
        compiling.empty_cache()
    with tables.Bar("compiling") as bar:
        steps = compiling.compile_all(bar.report)
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{steps} steps in {seconds:.1f} s; compiled code: {cache.directory()}\n")


@_command
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


@_command
def demo() -> None:
    """Show it at work: two network namespaces, pings and TCP through a forwarder between them."""
    from vforward.control.demo import demo as show_it

    raise typer.Exit(show_it())


@_command
def netmap_serve() -> None:
    """Be the netmap server: pipes and VALE switches for other programs, until SIGINT comes."""
    from vforward.rings.netmap_message import socket_path
    from vforward.rings.netmap_run import serve

    sys.stdout.write(f"netmap server at {socket_path()}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        serve()


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_guarded
def netmap_run(
    command: Annotated[
        list[str], typer.Argument(help="A program that uses netmap, and its options.")
    ],
) -> None:
    """Run a netmap program on vforward's pipes and VALE switches, without netmap's kernel module."""
    from vforward.rings.netmap_run import run as become

    become(command)
