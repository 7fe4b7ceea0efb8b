# SPDX-License-Identifier: Apache-2.0
"""The picture of a graph: well-formed, nothing left out, arrows that go forward."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_forwarder as fake
from vforward.control import observe
from vforward.control.graph_drawing import HEIGHT, WIDTH, chosen, svg
from vforward.control.observe_rows import EdgeRow, WaysRow

SVG = "{http://www.w3.org/2000/svg}"


def drawn(rows, **more):
    """Boxes by name, (start, end) -> packets, texts, of what is drawn."""
    root = ElementTree.fromstring(svg(rows, "<&>", **more))
    boxes, arrows, texts = {}, {}, []
    for group in root.iter(f"{SVG}g"):
        rect, title = group.find(f"{SVG}rect"), group.find(f"{SVG}title")
        said = [text.text for text in group.findall(f"{SVG}text")]
        texts += said
        if rect is not None:
            boxes[said[0]] = tuple(float(rect.get(key)) for key in ("x", "y"))
        else:
            start, end = re.match(r"(\S+) to (\S+): ", title.text).groups()
            arrows[start, end] = int(said[0].replace(",", ""))
    return boxes, arrows, texts


def test_the_arena(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with fake.arena(), observe.attach() as view:
        boxes, arrows, texts = drawn(view.graph())
    assert list(boxes) == ["lan-rx", "ethernet-input", "lan-tx"]
    assert arrows == {("lan-rx", "ethernet-input"): 100, ("ethernet-input", "lan-tx"): 90}
    assert "10 dropped" in texts
    assert boxes["lan-rx"][0] < boxes["ethernet-input"][0] < boxes["lan-tx"][0]


def test_ways_back_are_drawn():
    rows = [
        WaysRow("a", "queue", 3, [EdgeRow("on", "b", 3)], 0),
        WaysRow("b", "inner", 3, [EdgeRow("again", "a", 2), EdgeRow("x<y", "c", 1)], 0),
        WaysRow("c", "inner", 1, [], 1),
    ]
    _, arrows, _ = drawn(rows)
    assert arrows == {("a", "b"): 3, ("b", "a"): 2, ("b", "c"): 1}


def test_nothing_at_all():
    assert drawn([]) == ({}, {}, [])


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 12))
    names = [f"n{i}" for i in range(n)]
    rows = []
    for i, name in enumerate(names):
        ends = draw(st.lists(st.sampled_from([*names[i + 1 :], "drop"]), max_size=4))
        edges = [EdgeRow(f"e{k}", to, draw(st.integers(0, 3))) for k, to in enumerate(ends)]
        rows.append(WaysRow(name, "inner", draw(st.integers(0, 2)), edges, 0))
    return [*rows, WaysRow("drop", "inner", 1, [], 1)]


@given(graphs(), st.booleans())
def test_all_is_there_and_nothing_overlaps(rows, everything):
    boxes, arrows, _ = drawn(rows, everything=everything)
    wanted = {}
    for row in rows:
        for edge in row.edges:
            if edge.to != "drop" and (edge.packets or everything):
                wanted[row.name, edge.to] = wanted.get((row.name, edge.to), 0) + edge.packets
    assert arrows == wanted
    assert {name for pair in wanted for name in pair} <= set(boxes)
    if everything:
        assert set(boxes) == {row.name for row in rows} - {"drop"}
    for start, end in arrows:
        assert boxes[start][0] < boxes[end][0]
    places = list(boxes.values())
    for i, (x, y) in enumerate(places):
        assert not [1 for a, b in places[:i] if abs(a - x) < WIDTH and abs(b - y) < HEIGHT]


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_chosen_has_no_drop(everything):
    rows = [
        WaysRow("a", "input", 1, [EdgeRow("d", "drop", 1)], 0),
        WaysRow("drop", "inner", 1, [], 1),
    ]
    nodes, arrows = chosen(rows, everything=everything)
    assert [node.name for node in nodes] == ["a"]
    assert arrows == []
