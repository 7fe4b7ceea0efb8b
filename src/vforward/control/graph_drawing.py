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
from itertools import pairwise
from math import log10

from vforward.control.observe_rows import WaysRow

DROP = "drop"
WIDTH, HEIGHT, THIN = 172, 46, 14
"""Of a node, pixels; and the height of a place where an arrow passes."""
BETWEEN_LAYERS, BETWEEN_NODES, MARGIN = 110, 20, 24
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
    """A node, or the place where a long arrow passes a layer."""

    layer: int
    row: WaysRow | None = None
    dropped: int = 0
    y: float = 0.0  # of its middle

    @property
    def x(self) -> float:
        return MARGIN + self.layer * (WIDTH + BETWEEN_LAYERS)

    @property
    def height(self) -> int:
        return HEIGHT if self.row else THIN


Way = tuple[Arrow, list[_Box]]
"""An arrow, and the boxes on its way: its two nodes, and between them one in each layer."""


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
    boxes = {row.name: _Box(0, row, _dropped(row)) for row in nodes}
    order = {row.name: i for i, row in enumerate(nodes)}
    ahead = [arrow for arrow in arrows if order[arrow.start] < order[arrow.end]]
    back = [arrow for arrow in arrows if order[arrow.start] >= order[arrow.end]]
    _layer(boxes, ahead)
    ways = [_way(boxes, arrow) for arrow in ahead]
    layers = _arranged(boxes.values(), ways)
    height = 2 * MARGIN + max((_tall(layer) for layer in layers), default=HEIGHT)
    for layer in layers:
        for box in layer:
            box.y += height / 2
    width = 2 * MARGIN + max(1, len(layers)) * (WIDTH + BETWEEN_LAYERS) - BETWEEN_LAYERS
    below = height + 20 * len(back)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{below}" '
        f'viewBox="0 0 {width} {below}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse" markerUnits="userSpaceOnUse">'
        '<path d="M0 0 8 4 0 8z" fill="#6e7781"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    parts += [_arrow(arrow, passed) for arrow, passed in ways]
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


def _way(boxes: dict[str, _Box], arrow: Arrow) -> Way:
    """What the arrow passes: one that packets took has a place of its own in each layer."""
    start, end = boxes[arrow.start], boxes[arrow.end]
    between = range(start.layer + 1, end.layer) if arrow.packets else ()
    return arrow, [start, *(_Box(layer) for layer in between), end]


def _arranged(nodes: Iterable[_Box], ways: Sequence[Way]) -> list[list[_Box]]:
    """The layers, each in an order with few crossings; y counts from the middle of the paper."""
    every = [*nodes, *(box for _, passed in ways for box in passed[1:-1])]
    layers: list[list[_Box]] = [[] for _ in range(1 + max((b.layer for b in every), default=-1))]
    for box in every:
        layers[box.layer].append(box)
    before, behind = defaultdict(list), defaultdict(list)
    for _, passed in ways:
        for one, other in pairwise(passed):
            before[id(other)].append(one)
            behind[id(one)].append(other)
    for layer in layers:
        _stack(layer)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        beside = before if forth else behind
        for layer in layers if forth else reversed(layers):
            for box in layer:
                if near := beside[id(box)]:
                    box.y = sum(other.y for other in near) / len(near)
            layer.sort(key=lambda box: box.y)
            _stack(layer)
    return layers


def _tall(layer: Sequence[_Box]) -> int:
    return sum(box.height for box in layer) + BETWEEN_NODES * (len(layer) - 1)


def _stack(layer: Sequence[_Box]) -> None:
    """Give each its place in the layer's order, around the middle."""
    at = -_tall(layer) / 2
    for box in layer:
        box.y = at + box.height / 2
        at += box.height + BETWEEN_NODES


def _node(box: _Box) -> str:
    row, top = box.row, box.y - HEIGHT / 2
    assert row is not None
    kind = "input" if row.kind == "input" else "" if row.edges else "end"
    classes = " ".join(filter(None, ("node", kind, "" if row.packets else "idle")))
    packets = f"{row.packets:,} packets"
    lines = [
        f'<g><rect class="{classes}" x="{box.x:.0f}" y="{top:.0f}" width="{WIDTH}" height="{HEIGHT}" '
        'rx="6"/>',
        f'<text class="name" x="{box.x + 10:.0f}" y="{top + 18:.0f}">{escape(row.name)}</text>',
        f'<text class="small" x="{box.x + 10:.0f}" y="{top + 36:.0f}">{packets}</text>',
    ]
    if box.dropped:
        at = f'x="{box.x + WIDTH - 8:.0f}" y="{top + 36:.0f}" text-anchor="end"'
        lines.append(f'<text class="drop" {at}>{box.dropped:,} dropped</text>')
    return "".join([*lines, "</g>"])


def _arrow(arrow: Arrow, passed: Sequence[_Box]) -> str:
    x, y = passed[0].x + WIDTH, passed[0].y
    curve, middles = f"M{x:.0f} {y:.0f}", []
    for box in passed[1:]:
        bend = (box.x - x) / 2
        curve += f"C{x + bend:.0f} {y:.0f} {box.x - bend:.0f} {box.y:.0f} {box.x:.0f} {box.y:.0f}"
        middles.append(((x + box.x) / 2, (y + box.y) / 2))
        x, y = box.x + WIDTH, box.y
        if box is not passed[-1]:
            curve += f"H{x:.0f}"
    x, y = middles[len(middles) // 2]
    return _drawn(curve, x, y - 4, arrow)


def _way_back(start: _Box, end: _Box, arrow: Arrow, y: float) -> str:
    x1, y1 = start.x + WIDTH / 2, start.y + HEIGHT / 2
    x2, y2 = end.x + WIDTH / 2, end.y + HEIGHT / 2
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
