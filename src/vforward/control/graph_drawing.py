# SPDX-License-Identifier: Apache-2.0
"""The live graph as a picture: nodes in layers from left to right, arrows with the packets that took them.

Layers by the longest way (Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical
system structures", 1981); within a layer nodes stand where the mean of their neighbors is, swept there and
back.
Ways that no packet took are left out unless asked for, and so are nodes that no packet came to. What is
dropped is written into the node: arrows to one sink would hide the rest. A way back (to a queue's node) is
drawn below.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from vforward.control.observe import WaysRow

DROP = "drop"
WIDTH, HEIGHT = 172, 46
"""Of a node, pixels."""
BETWEEN_LAYERS, BETWEEN_NODES, MARGIN = 150, 22, 24
SWEEPS = 8
FONT = "font-family: ui-sans-serif, system-ui, sans-serif"
STYLE = f"""
text {{ {FONT}; font-size: 12px; fill: #1b1f24; }}
.name {{ font-weight: 600; }}
.small {{ font-size: 11px; fill: #57606a; }}
.drop {{ font-size: 11px; fill: #b42318; }}
.node {{ fill: #f6f8fa; stroke: #57606a; }}
.input {{ fill: #ddf4e4; }}
.end {{ fill: #e0ecfb; }}
.idle {{ stroke-dasharray: 4 3; }}
.way {{ fill: none; stroke: #6e7781; }}
.count {{ font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 3px; }}
"""


@dataclass(frozen=True)
class Arrow:
    """All ways from one node to another; labels of the edges, and their packets together."""

    start: str
    end: str
    labels: tuple[str, ...]
    packets: int


@dataclass
class _Box:
    row: WaysRow
    dropped: int
    layer: int = 0
    place: float = 0.0
    x: float = 0.0
    y: float = 0.0


def chosen(
    rows: Sequence[WaysRow], *, everything: bool = False
) -> tuple[list[WaysRow], list[Arrow]]:
    """What is drawn: nodes and arrows that packets took, or all of them; none to the drop node."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for row in rows:
        for edge in row.edges:
            if edge.to != DROP and (edge.packets or everything):
                found[row.name, edge.to].append((edge.label, edge.packets))
    arrows = [
        Arrow(start, end, tuple(label for label, _ in ways), sum(n for _, n in ways))
        for (start, end), ways in found.items()
    ]
    touched = {name for arrow in arrows for name in (arrow.start, arrow.end)}
    nodes = [row for row in rows if row.name in touched or row.packets or everything]
    return [row for row in nodes if row.name != DROP], arrows


def svg(rows: Sequence[WaysRow], title: str = "", *, everything: bool = False) -> str:
    """The picture, a document of its own. rows: in the order in which nodes run."""
    nodes, arrows = chosen(rows, everything=everything)
    boxes = {row.name: _Box(row, _dropped(row)) for row in nodes}
    order = {row.name: i for i, row in enumerate(nodes)}
    ahead = [arrow for arrow in arrows if order[arrow.start] < order[arrow.end]]
    _layer(boxes, ahead)
    layers = _arranged(boxes, ahead)
    height = _place(layers)
    back = [arrow for arrow in arrows if order[arrow.start] >= order[arrow.end]]
    width = 2 * MARGIN + max(1, len(layers)) * (WIDTH + BETWEEN_LAYERS) - BETWEEN_LAYERS
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 20 * len(back)}" '
        f'viewBox="0 0 {width} {height + 20 * len(back)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse" markerUnits="userSpaceOnUse">'
        '<path d="M0 0 8 4 0 8z" fill="#6e7781"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    parts += [_arrow(boxes[a.start], boxes[a.end], a) for a in ahead]
    parts += [
        _way_back(boxes[a.start], boxes[a.end], a, height - MARGIN + 20 * i)
        for i, a in enumerate(back)
    ]
    parts += [_node(box) for box in boxes.values()]
    return "\n".join([*parts, "</svg>", ""])


def _dropped(row: WaysRow) -> int:
    return sum(edge.packets for edge in row.edges if edge.to == DROP)


def _layer(boxes: dict[str, _Box], ahead: Iterable[Arrow]) -> None:
    """The layer of each is behind all that lead to it. boxes are in topological order."""
    to = defaultdict(list)
    for arrow in ahead:
        to[arrow.start].append(arrow.end)
    for name, box in boxes.items():
        for end in to[name]:
            boxes[end].layer = max(boxes[end].layer, box.layer + 1)


def _arranged(boxes: dict[str, _Box], ahead: Sequence[Arrow]) -> list[list[_Box]]:
    """The layers, each in an order with few crossings."""
    layers: list[list[_Box]] = [
        [] for _ in range(1 + max((b.layer for b in boxes.values()), default=-1))
    ]
    for box in boxes.values():
        layers[box.layer].append(box)
    before, behind = defaultdict(list), defaultdict(list)
    for arrow in ahead:
        before[arrow.end].append(boxes[arrow.start])
        behind[arrow.start].append(boxes[arrow.end])
    for layer in layers:
        _number(layer)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        beside = before if forth else behind
        for layer in layers if forth else reversed(layers):
            for box in layer:
                if near := beside[box.row.name]:
                    box.place = sum(other.place for other in near) / len(near)
            layer.sort(key=lambda box: box.place)
            _number(layer)
    return layers


def _number(layer: list[_Box]) -> None:
    for i, box in enumerate(layer):
        box.place = i - (len(layer) - 1) / 2


def _place(layers: Sequence[Sequence[_Box]]) -> int:
    """Give each its place on the paper. Returns the paper's height."""
    step = HEIGHT + BETWEEN_NODES
    height = 2 * MARGIN + max((len(layer) for layer in layers), default=1) * step
    for i, layer in enumerate(layers):
        for box in layer:
            box.x = MARGIN + i * (WIDTH + BETWEEN_LAYERS)
            box.y = height / 2 + box.place * step - HEIGHT / 2
    return height


def _node(box: _Box) -> str:
    row = box.row
    kind = "input" if row.kind == "input" else "" if row.edges else "end"
    classes = " ".join(filter(None, ("node", kind, "" if row.packets else "idle")))
    packets = f"{row.packets:,} packets"
    lines = [
        f'<g><rect class="{classes}" x="{box.x:.0f}" y="{box.y:.0f}" width="{WIDTH}" height="{HEIGHT}" '
        'rx="6"/>',
        f'<text class="name" x="{box.x + 10:.0f}" y="{box.y + 18:.0f}">{escape(row.name)}</text>',
        f'<text class="small" x="{box.x + 10:.0f}" y="{box.y + 36:.0f}">{packets}</text>',
    ]
    if box.dropped:
        at = f'x="{box.x + WIDTH - 8:.0f}" y="{box.y + 36:.0f}" text-anchor="end"'
        lines.append(f'<text class="drop" {at}>{box.dropped:,} dropped</text>')
    return "".join([*lines, "</g>"])


def _arrow(start: _Box, end: _Box, arrow: Arrow) -> str:
    x1, y1 = start.x + WIDTH, start.y + HEIGHT / 2
    x2, y2 = end.x, end.y + HEIGHT / 2
    bend = BETWEEN_LAYERS / 2
    curve = (
        f"M{x1:.0f} {y1:.0f}C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
    )
    return _drawn(curve, (x1 + x2) / 2, (y1 + y2) / 2 - 4, arrow)


def _way_back(start: _Box, end: _Box, arrow: Arrow, y: float) -> str:
    x1, y1 = start.x + WIDTH / 2, start.y + HEIGHT
    x2, y2 = end.x + WIDTH / 2, end.y + HEIGHT
    curve = f"M{x1:.0f} {y1:.0f}V{y:.0f}H{x2:.0f}V{y2:.0f}"
    return _drawn(curve, (x1 + x2) / 2, y - 4, arrow)


def _drawn(curve: str, x: float, y: float, arrow: Arrow) -> str:
    thick = 1 + log10(1 + arrow.packets) / 2
    says = f"{arrow.start} to {arrow.end}: {', '.join(arrow.labels)}"
    return (
        f"<g><title>{escape(says)}</title>"
        f'<path class="way" style="stroke-width: {thick:.1f}px" d="{curve}" marker-end="url(#head)"/>'
        f'<text class="count" x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{arrow.packets:,}</text></g>'
    )
