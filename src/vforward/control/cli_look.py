# SPDX-License-Identifier: Apache-2.0
"""Commands that look into a running forwarder: show, trace, clear, and kill, which chooses as show does."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vforward.control.cli_app import CANNOT, Json, Name, command, connect, done
from vforward.errors import ConfigError

if TYPE_CHECKING:
    from vforward.control.client import Client


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


OF_FIREWALL = (What.RULES, What.NAT, What.POLICERS)
_PANEL = "Which sessions"


def _filter(option: str, text: str) -> Any:
    return typer.Option(option, help=text, rich_help_panel=_PANEL)


From = Annotated[str, _filter("--from", "Who began them: an address, a prefix or a range.")]
To = Annotated[str, _filter("--to", "The other end: an address, a prefix or a range.")]
Port = Annotated[str, _filter("--port", "A port, or a range, of either end.")]
Protocol = Annotated[str, _filter("--protocol", 'A protocol: "tcp", "icmp6", 47.')]
State = Annotated[str, _filter("--state", 'A state, or its beginning: "syn", "established".')]
Vrf = Annotated[str, _filter("--vrf", "A VRF.")]


@command
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
    from vforward.control import show as tables
    from vforward.control import show_firewall
    from vforward.control.observe_rows import Listing

    asked = connect(name)
    if what is What.SESSIONS:
        only = _only(from_, to, port, protocol, state, vrf)
        _show_sessions(asked, only, None if count else most, json)
        return
    rows: Any
    if what is What.ERRORS:
        rows = asked.errors(everything=everything)
    else:
        rows = getattr(asked, what.value)()
    left_out = 0
    if isinstance(rows, Listing):
        left_out = rows.count - sum(row.get("number", 0) is not None for row in rows.rows)
        rows = rows.rows
    if json:
        tables.as_json(rows)
    elif what is What.ERRORS:
        tables.errors(rows, everything=everything)
    else:
        getattr(show_firewall if what in OF_FIREWALL else tables, what.value)(rows)
    _say_left_out(left_out)


def _say_left_out(n: int) -> None:
    if n > 0:
        sys.stderr.write(f"vforward: ... and {n:,} more\n")


def _only(*wanted: str) -> dict[str, str]:
    keys = ("from_", "to", "port", "protocol", "state", "vrf")
    return {key: text for key, text in zip(keys, wanted, strict=True) if text}


def _show_sessions(asked: Client, only: dict[str, str], most: int | None, json: bool) -> None:
    """The sessions, at most so many; None: only how many."""
    from vforward.control import show as tables
    from vforward.control import show_firewall

    if most is None:
        states = asked.count_sessions(**only)
        tables.as_json(states) if json else show_firewall.counts(states)
        return
    found = asked.sessions(most, **only)
    tables.as_json(found.rows) if json else show_firewall.sessions(found.rows)
    _say_left_out(found.count - len(found.rows))


@command
def kill(
    name: Name = "",
    from_: From = "",
    to: To = "",
    port: Port = "",
    protocol: Protocol = "",
    state: State = "",
    vrf: Vrf = "",
    everything: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    json: Json = False,
) -> None:
    """End sessions of the firewall: the rules are asked about their next packets again."""
    only = _only(from_, to, port, protocol, state, vrf)
    if not only and not everything:
        raise ConfigError("which sessions? Give --from, --to, --port, ..., or --all")
    done(connect(name).kill_sessions(everything=everything, **only), "session", "ended", json=json)


@command
def trace(
    count: Annotated[int, typer.Argument(min=1, max=10_000, help="How many packets.")],
    name: Name = "",
    node: Annotated[str, typer.Option(help="Only packets of this input node.")] = "",
    timeout: Annotated[float, typer.Option(min=0, max=600, help="Longest wait, seconds.")] = 10.0,
    json: Json = False,
) -> None:
    """Follow the next COUNT packets through the graph, node by node."""
    from vforward.control import show as tables

    packets = connect(name).trace(count, node, timeout)
    if json:
        tables.as_json(packets)
    else:
        tables.trace(packets)
    if len(packets) < count:
        came = f"{len(packets)} of {count}" if packets else "no"
        sys.stderr.write(f"vforward: {came} packets came within {timeout:g} s\n")
    if not packets:
        raise typer.Exit(CANNOT)


@command
def clear(name: Name = "", json: Json = False) -> None:
    """Let `show` count from zero. The forwarder notices nothing."""
    connect(name).clear()
    if json:
        sys.stdout.write('{"cleared": "counters"}\n')
