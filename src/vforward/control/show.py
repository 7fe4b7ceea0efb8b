# SPDX-License-Identifier: Apache-2.0
"""Rows of control.observe as tables on the terminal, or as JSON.

Into a file or a pipe tables go at full width, so that nothing is cut off.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vforward.control.observe_rows import ErrorRow, Moved, PortRow, Runtime, WaysRow
from vforward.control.observe_workers import WorkerRow
from vforward.control.packet_trace import TracedPacket
from vforward.control.plugin_rows import PluginRow

if TYPE_CHECKING:
    from vforward.control.config import Config

FILE_COLUMNS = 1000
ENDED = "(sent, freed or held)"


def console(*, error: bool = False) -> Console:
    """Where to print to. Text is taken as it is: names may hold brackets."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else FILE_COLUMNS
    return Console(
        file=stream, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False
    )


def as_json(rows: Any) -> None:
    """Print rows as one JSON document."""
    plain = [_plain(row) for row in rows] if isinstance(rows, list) else _plain(rows)
    sys.stdout.write(json.dumps(plain, indent=1) + "\n")


def as_json_line(row: Any) -> None:
    """Print one row as a line of JSON, at once."""
    sys.stdout.write(json.dumps(_plain(row)) + "\n")
    sys.stdout.flush()


def runtime(what: Runtime) -> None:
    """Print what the workers and their nodes have done."""
    out = console()
    out.print(
        f"{what.name}: {what.state}, pid {what.pid}, vector {what.vector}, {what.seconds:.1f} s: "
        f"{what.packets:,} packets in, {what.packets_per_second:,.0f} packets/s, "
        f"load {what.load:.1%}, {what.sleeps:,} sleeps"
    )
    table = table_of(
        "Node", "Kind", ">Calls", ">Packets", ">Clocks/packet", ">Packets/call", ">Time"
    )
    for node in what.nodes:
        if node.packets:
            table.add_row(
                node.name,
                node.kind,
                f"{node.calls:,}",
                f"{node.packets:,}",
                f"{node.clocks_per_packet:.1f}",
                f"{node.packets_per_call:.1f}",
                f"{node.share:.1%}",
            )
    table.add_section()
    total = f"{what.clocks_per_packet:.1f}"
    table.add_row("sum, per packet in", "", "", f"{what.packets:,}", total, "", "")
    out.print(table)
    polls = table_of("Input", ">Empty polls", ">Clocks/poll")
    for node in what.nodes:
        if node.empty_polls:
            clocks = f"{node.clocks_per_empty_poll:.1f}"
            polls.add_row(node.name, f"{node.empty_polls:,}", clocks)
    if polls.row_count:
        out.print(polls)


def workers(rows: list[WorkerRow]) -> None:
    """Print the workers: what each has done, and the queues that it polls."""
    heads = (">#", ">Core", "State", ">Packets", ">Handed off", ">Taken up", ">Clocks/packet")
    table = table_of(*heads, ">Load", ">Sleeps", "Queues")
    for row in rows:
        numbers = (f"{n:,}" for n in (row.packets, row.handed_off, row.taken_up))
        clocks, load, sleeps = f"{row.clocks_per_packet:.1f}", f"{row.load:.1%}", f"{row.sleeps:,}"
        core, queues = _text(row.core), ", ".join(row.queues)
        table.add_row(str(row.number), core, row.state, *numbers, clocks, load, sleeps, queues)
    console().print(table)


def ports(rows: list[PortRow]) -> None:
    """Print the ports: who they are, then what went through."""
    out = console()
    table = table_of(">#", "Port", "Type", "MAC", ">MTU", "Addresses", "Of")
    for row in rows:
        of = _belongs(row)
        number, mtu = str(row.number), str(row.mtu)
        table.add_row(number, row.name, row.type, row.mac, mtu, " ".join(row.addresses), of)
    out.print(table)
    heads = [f">{way} {what}" for way in ("Rx", "Tx") for what in ("packets", "bytes", "drops")]
    table = table_of("Port", *heads)
    for row in rows:
        table.add_row(row.name, *_moved(row.rx), *_moved(row.tx))
    out.print(table)
    for row in rows:
        if row.touched:
            out.print(f"{row.name}: {row.touched}")
        if row.other_end:
            out.print(f"{row.name}: {row.other_end}")


def errors(rows: list[ErrorRow], *, everything: bool = False) -> None:
    """Print what was dropped and why; with everything, the other counters behind it."""
    out = console()
    drops = [row for row in rows if row.drop]
    if drops:
        out.print(_error_table("Dropped", drops))
    else:
        out.print("nothing was dropped")
    if everything:
        out.print(_error_table("Counted", [row for row in rows if not row.drop]))


def routes(rows: list[dict[str, Any]]) -> None:
    """Print the routes."""
    _print_documents(rows, ("prefix", "kind", "via", "port", "metric", "vrf"), "no routes")


def neighbors(rows: list[dict[str, Any]]) -> None:
    """Print the neighbors."""
    _print_documents(rows, ("address", "mac", "port", "state", "age"), "no neighbors")


def bridges(rows: list[dict[str, Any]]) -> None:
    """Print the bridges."""
    rows = [{**row, "ports": " ".join(row["ports"])} for row in rows]
    _print_documents(rows, ("bridge", "ports", "macs", "moves"), "no bridges")


def macs(rows: list[dict[str, Any]]) -> None:
    """Print who is behind which port of a bridge."""
    _print_documents(rows, ("bridge", "mac", "port", "static", "age"), "no MACs")


def plugins(rows: list[PluginRow]) -> None:
    """Print the plug-ins."""
    listed = [{**asdict(row), "ports": " ".join(row.ports)} for row in rows]
    _print_documents(listed, ("name", "arc", "after", "before", "ports", "place"), "no plug-ins")


def graph(rows: list[WaysRow]) -> None:
    """Print the nodes, and as branches of each its ways out with the packets that took them."""
    out = console()
    label = max((len(edge.label) for row in rows for edge in row.edges), default=0)
    to = max(len(name) for name in (ENDED, *(edge.to for row in rows for edge in row.edges)))
    for row in rows:
        made = f", {row.made:,} made here" if row.made else ""
        out.print(f"{row.name}  ({row.kind}, {row.packets:,} packets{made})", style="bold")
        ways = [(f"{e.label:{label}} -> {e.to:{to}}", e.packets) for e in row.edges]
        if row.ended:
            ways.append((f"{'':{label}}    {ENDED:{to}}", row.ended))
        for i, (text, packets) in enumerate(ways):
            branch = "└─" if i == len(ways) - 1 else "├─"
            out.print(f"{branch} {text}  {packets:>14,}", style=None if packets else "dim")


def trace(packets: list[TracedPacket]) -> None:
    """Print the ways that packets went."""
    out = console()
    for packet in packets:
        out.print(
            f"packet {packet.number} from {packet.port or packet.steps[0].node}", style="bold"
        )
        table = table_of(">us", "Node", "Left by", ">Bytes", "As")
        for step in packet.steps:
            left = step.edge or f"({step.end})"
            left += f" ({step.reason})" if step.reason else ""
            clock = f"{step.microseconds:.2f}"
            table.add_row(clock, step.node, left, str(step.bytes), step.text)
        out.print(table)


COUNTED = {
    "ports": "port",
    "routes": "route",
    "route_files": "route file",
    "neighbors": "neighbor",
    "bridges": "bridge",
    "cross_connects": "cross connect",
    "rules": "rule",
    "nat": "NAT rule",
}
"""What is counted of a configuration: its key, and one of it in words."""


def counts_of(config: Config) -> dict[str, int]:
    """How many a configuration has of each."""
    return {key: len(getattr(config, key)) for key in COUNTED}


def summary(config: Config) -> str:
    """What a configuration has, in a few words: "2 ports, 1 route"."""
    counted = ((n, COUNTED[key]) for key, n in counts_of(config).items() if n)
    return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for n, name in counted) or "no ports"


def table_of(*heads: str) -> Table:
    """A table without lines; a head that begins with ">" is of a column of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for head in heads:
        if head.startswith(">"):
            table.add_column(head[1:], justify="right", no_wrap=True)
        else:
            table.add_column(head, overflow="fold")
    return table


def _error_table(head: str, rows: Iterable[ErrorRow]) -> Table:
    table = table_of("Node", "Reason", f">{head}", "Meaning")
    for row in rows:
        table.add_row(row.node, row.reason, f"{row.count:,}", row.help)
    return table


def _belongs(row: PortRow) -> str:
    """What a port belongs to, in a few words."""
    parts = []
    if row.vlan:
        inner = f".{row.inner}" if row.inner else ""
        parts.append(f"{row.parent} vlan {row.vlan}{inner}")
    if row.bridge:
        parts.append(f"bridge {row.bridge}")
    elif row.peer:
        parts.append(f"{'host of' if row.type == 'TapPort' else 'cross connect to'} {row.peer}")
    if row.vrf != "default":
        parts.append(f"vrf {row.vrf}")
    if row.urpf:
        parts.append(f"urpf {row.urpf}")
    return ", ".join(parts)


def _moved(moved: Moved | None) -> list[str]:
    if moved is None:
        return ["-"] * 3
    return [f"{moved.packets:,}", f"{moved.bytes:,}", f"{moved.drops:,}"]


def _print_documents(rows: list[dict[str, Any]], keys: tuple[str, ...], none: str) -> None:
    out = console()
    if not rows:
        out.print(none)
        return
    table = table_of(*(key.capitalize() for key in keys))
    for row in rows:
        table.add_row(*(_text(row.get(key)) for key in keys))
    out.print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return "" if value is None else str(value)


def _plain(row: Any) -> Any:
    return asdict(row) if is_dataclass(row) and not isinstance(row, type) else row
