# SPDX-License-Identifier: Apache-2.0
"""Rows of control.observe_firewall as tables on the terminal."""

from __future__ import annotations

from typing import Any

from vforward.control.show import console, table_of


def rules(rows: list[dict[str, Any]]) -> None:
    """Print the rules, and the default behind them."""
    heads = (">#", "Name", "Action", "Match", "Then", ">Packets", ">Bytes")
    keys = ("number", "name", "action", "match", "then", "packets", "bytes")
    _print(rows, heads, keys, "no rules")


def nat(rows: list[dict[str, Any]]) -> None:
    """Print the rules of NAT."""
    heads = (">#", "Name", "Type", "Match", "Becomes", ">Sessions", ">Allocated", ">Exhausted")
    keys = ("number", "name", "type", "match", "new", "sessions", "allocated", "exhausted")
    _print(rows, heads, keys, "no NAT")


def policers(rows: list[dict[str, Any]]) -> None:
    """Print the policers."""
    colours = ("green", "yellow", "red")
    heads = [
        f">{colour.capitalize()} {what}" for colour in colours for what in ("packets", "bytes")
    ]
    keys = [f"{colour}_{what}" for colour in colours for what in ("packets", "bytes")]
    _print(rows, ("Policer", "Set to", *heads), ("name", "what", *keys), "no policers")


def sessions(rows: list[dict[str, Any]]) -> None:
    """Print sessions."""
    heads = ["Protocol", "From", "To", "State", ">Age", ">Idle", "In", "Out", "Rule"]
    keys = ["protocol", "from", "to", "state", "age", "idle", "in", "out", "rule"]
    if any(row["nat_from"] or row["nat_to"] for row in rows):
        heads[3:3] = ["From becomes", "To becomes"]
        keys[3:3] = ["nat_from", "nat_to"]
    if any(row["vrf"] != "default" for row in rows):
        heads.append("Vrf")
        keys.append("vrf")
    _print(rows, heads, keys, "no sessions")


def counts(by_state: dict[str, int]) -> None:
    """Print how many sessions there are, by state."""
    table = table_of("State", ">Sessions")
    for state, n in by_state.items():
        table.add_row(state, f"{n:,}")
    table.add_section()
    table.add_row("all", f"{sum(by_state.values()):,}")
    console().print(table)


def _print(rows: list[dict[str, Any]], heads: Any, keys: Any, none: str) -> None:
    if not rows:
        console().print(none)
        return
    table = table_of(*heads)
    for row in rows:
        table.add_row(*(_text(row.get(key)) for key in keys))
    console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
