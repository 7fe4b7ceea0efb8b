"""The catalogue lists every node, and every node says what it does."""

import importlib
from pathlib import Path

import pytest

import vforward.nodes
from vforward.graph.node import Node
from vforward.nodes import CATALOG

NODES = Path(vforward.nodes.__file__).parent
MODULES = {
    path: importlib.import_module(f"vforward.nodes.{path.parent.name}.{path.stem}")
    for path in sorted(NODES.glob("*/*.py"))
    if path.stem != "__init__"
}
DECLARED = {
    path: m.NODE for path, m in MODULES.items() if isinstance(getattr(m, "NODE", None), Node)
}


def test_every_node_is_listed_once():
    assert sorted(n.name for n in CATALOG) == sorted(n.name for n in DECLARED.values())
    assert len({n.name for n in CATALOG}) == len(CATALOG)


@pytest.mark.parametrize("path", DECLARED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_node_has_texts_and_a_test(path):
    node = DECLARED[path]
    for labels in (node.edges, node.counters):
        assert all(member.help for member in labels or ())
    text = MODULES[path].__doc__ or ""
    assert text.startswith(f"{node.name}: ")
    assert all(f"\n{word} " in text for word in ("Reads", "Writes", "Drops"))
    assert (Path(__file__).parent / path.parent.name / f"test_{path.name}").is_file()
