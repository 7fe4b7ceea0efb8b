"""What a plug-in says of itself, and what is refused."""

import numpy as np
import pytest

from vforward import KernelError, Labels, Node, Plugin, Table, WiringError
from vforward.control.plugin import TABLE_MAX
from vforward.graph.node import Kind
from vforward.jit.kernel import kernel
from vforward.layout import U64, Counts, Data, Edges, Meta, Rows
from vforward.tables.ports import Ports


class Edge(Labels):
    DROP = 0, "no"
    ASIDE = 1, "elsewhere"


@kernel
def plain(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, ports: Ports, seen: U64
) -> None:
    edge[:] = 0


@kernel
def polled(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> int:
    return 0


NODE = Node("plain", plain, Edge)
WAYS = {"aside": "ip4-local"}
SEEN = {"seen": Table(4, np.uint64)}


def test_a_good_one():
    made = Plugin(NODE, "ip4-input", ways=WAYS, tables=SEEN)
    assert made.ports == ()
    array = made.tables["seen"].make()
    assert (array.dtype, array.shape, array.sum()) == (np.uint64, (4,), 0)
    assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ways": {}}, "where does edge 'aside' lead?"),
        ({"ways": {**WAYS, "up": "x"}}, "no edge 'up'; it has: drop, aside"),
        ({"tables": {}}, "its kernel takes 'seen': declare it in tables"),
        ({"tables": {**SEEN, "ports": Table(1, np.uint64)}}, "table 'ports' is the forwarder's"),
        ({"tables": {**SEEN, "more": Table(1, np.uint64)}}, "or its kernel does not take it"),
        ({"tables": {"seen": Table(4, np.uint32)}}, r"table 'seen' is uint32\[4\]"),
        ({"tables": {"seen": Table((4, 2), np.uint64)}}, r"its kernel takes uint64"),
        ({"tables": {"seen": Table(0, np.uint64)}}, r"table 'seen' is uint64\[0\]"),
        ({"tables": {"seen": Table(TABLE_MAX, np.uint64)}}, "its tables have more than"),
    ],
)
def test_what_is_refused(given, words):
    with pytest.raises(WiringError, match=f"plug-in plain: .*{words}"):
        Plugin(NODE, "ip4-input", **{"ways": WAYS, "tables": SEEN, **given})


def test_what_fill_begins():
    def fill(tables):
        tables["seen"][:] = tables["wanted"]

    made = Plugin(NODE, "ip4-input", ways=WAYS, tables=SEEN, fill=fill)
    given = {"seen": np.zeros(4, np.uint64), "wanted": np.uint64(7)}
    assert made.begin(given) is given
    assert given["seen"].tolist() == [7] * 4
    line = fill.__code__.co_firstlineno + 1
    with pytest.raises(
        KernelError,
        match=rf"plug-in plain: fill, .* \(seen\): line {line}: KeyError: 'wanted'; where",
    ):
        made.begin({"seen": np.zeros(4, np.uint64)})
    given["wanted"] = "x"
    with pytest.raises(KernelError, match=rf"\(seen, wanted\): line {line}: ValueError: .*'x'$"):
        made.begin(given)
    assert made.begin({}) == {}


def test_nodes_that_cannot_be_one():
    for node in (
        Node("input", polled, Edge, kind=Kind.INPUT),
        Node("plain", plain, None),
        Node("plain", plain, Edge, kind=Kind.QUEUE),
    ):
        with pytest.raises(WiringError, match="must have edges of its own"):
            Plugin(node, "ip4-input", ways=WAYS, tables=SEEN)


def test_layouts():
    one = Table(4, np.uint64).layout
    assert one == Table((4,), "u8").layout
    record = np.dtype([("a", np.uint32), ("b", np.uint32)])
    for other in (
        Table(5, np.uint64),
        Table(4, np.int64),
        Table(4, "u8", each=True),
        Table(4, record),
    ):
        assert other.layout != one
