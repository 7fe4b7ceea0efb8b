# SPDX-License-Identifier: Apache-2.0
"""control.top on the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from vforward.control.show import table_of
from vforward.control.top import Top

NODES_SHOWN = 30
UNITS = ("", "k", "M", "G", "T")


def screen(top: Top, nodes: int = NODES_SHOWN) -> Group:
    """Everything, as one thing to print: the ports, then the nodes that cost most."""
    head = Text(
        f"{top.name}: {top.state}, {number(top.packets)} packets/s in, "
        f"{top.clocks_per_packet:.1f} clocks/packet, load {top.load:.1%}, {top.sleeps:.0f} sleeps/s"
    )
    ways = [f">{way} {what}" for way in ("Rx", "Tx") for what in ("pkt/s", "bit/s", "drop/s")]
    ports = table_of("Port", *ways)
    for port in top.ports:
        rates = [port.rx_packets, port.rx_bits, port.rx_drops]
        rates += [port.tx_packets, port.tx_bits, port.tx_drops]
        ports.add_row(port.name, *map(number, rates))
    table = table_of("Node", ">Packets/s", ">Clocks/packet", ">Packets/call", ">Time")
    for node in top.nodes[:nodes]:
        table.add_row(
            node.name,
            number(node.packets),
            f"{node.clocks_per_packet:.1f}",
            f"{node.packets_per_call:.1f}",
            f"{node.share:.1%}",
        )
    return Group(head, Text(), ports, Text(), table)


def number(value: float) -> str:
    """In short: 0, 950, 12.3k, 1.49M."""
    unit = 0
    while abs(value) >= 999.5 and unit < len(UNITS) - 1:
        value /= 1000
        unit += 1
    if unit == 0:
        return f"{value:.0f}"
    return f"{value:.2f}{UNITS[unit]}" if value < 9.995 else f"{value:.1f}{UNITS[unit]}"
