# SPDX-License-Identifier: Apache-2.0
"""What a declaration is checked for when it is made."""

import numpy as np
import pytest

from vforward.errors import KernelError, WiringError
from vforward.graph.node import INFO, Kind, Labels, Node
from vforward.layout import EDGE_MAX, U64, Counts, Data, Edges, Meta, Rows


class Edge(Labels):
    FORWARD = 0, "the usual way"
    TTL_EXPIRED = 1, "TTL was 0 or 1"


class Count(Labels):
    TTL_EXPIRED = 0, "its TTL ran out"
    BYTES = 1, "bytes seen", INFO


class Gap(Labels):
    A = 0, "a"
    C = 2, "c"


def plain(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, fib: U64, x: U64): ...
def polled(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> int: ...
def bad(data: Data, meta: Meta, count: Counts): ...


def test_labels_carry_text_number_and_what_they_count():
    assert [(m.value, m.label, m.help, m.drop) for m in Count] == [
        (0, "ttl-expired", "its TTL ran out", True),
        (1, "bytes", "bytes seen", False),
    ]
    assert np.uint8(Edge.TTL_EXPIRED) == 1
    assert Edge(1) is Edge.TTL_EXPIRED


def test_a_node_knows_its_labels_and_tables():
    node = Node("a", plain, Edge, Count)
    assert node.tables == ("fib", "x")
    assert node.edge_labels == ["forward", "ttl-expired"]
    assert node.counter_labels == ["ttl-expired", "bytes"]
    assert node.kind is Kind.INNER


def test_a_node_may_have_neither():
    node = Node("a", plain, None)
    assert (node.edge_labels, node.counter_labels) == ([], [])


@pytest.mark.parametrize("gaps", ["edges", "counters"])
def test_numbers_have_no_gaps(gaps):
    with pytest.raises(WiringError, match=rf"node a: {gaps} must be numbered"):
        Node("a", plain, **{"edges": Edge, gaps: Gap})


def test_there_is_a_limit_of_edges():
    many = [(f"E{k}", (k, "text")) for k in range(EDGE_MAX + 1)]
    Node("a", plain, Labels("Many", many[:-1]))
    with pytest.raises(WiringError):
        Node("a", plain, Labels("Many", many))


def test_the_kernel_is_checked():
    with pytest.raises(KernelError, match="kernel bad"):
        Node("a", bad, Edge)


def test_inputs_and_no_others_return_how_many():
    """An input whose entry returned the vector's size would bring packets that are not there."""
    Node("a", polled, Edge, kind=Kind.INPUT)
    for kernel, kind in ((plain, Kind.INPUT), (polled, Kind.INNER), (polled, Kind.QUEUE)):
        with pytest.raises(WiringError, match=r"node a: .*-> int"):
            Node("a", kernel, Edge, kind=kind)
