"""What the compiler says of kernels that cannot be, in words: where, what, what to do instead."""

from pathlib import Path

import numpy as np
import pytest

from vforward.control import plugin_words
from vforward.errors import KernelError
from vforward.graph.node import Labels, Node
from vforward.jit import entries
from vforward.jit.kernel import kernel
from vforward.layout import Counts, Data, Edges, Meta, Rows


class Edge(Labels):
    DROP = 0, "x"


class Thing:
    field = 1


THING = Thing()


@kernel
def makes_an_array(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[0] = np.zeros(4)[0]


@kernel
def makes_a_list(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    found = [i for i in range(idx.size)]  # noqa: C416
    edge[0] = found[0]


@kernel
def an_object(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[0] = THING.field


@kernel
def unknown(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[0] = nowhere(1)  # noqa: F821


@kernel
def no_field(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[0] = meta[0].colour


@kernel
def two_kinds(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    if idx.size > 2:
        x = 1
    else:
        x = "a"
    edge[0] = len(x)


@kernel
def compares(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[0] = idx[0] < (1, 2)


@kernel
def good(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[:] = 0


@kernel
def helper(x):
    assert x
    return x


@kernel
def asserts(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    edge[0] = helper(idx[0])


@kernel
def raises(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    if idx.size > 300:
        raise ValueError("long")
    edge[:] = 0


def said(function):
    with pytest.raises(KernelError) as caught:
        entries.build("x", function)
    return plugin_words.explain(str(caught.value), __file__)


@pytest.mark.parametrize(
    ("function", "line", "words"),
    [
        (
            makes_an_array,
            "np.zeros(4)",
            ["zeros: this makes an array", "is a Table of the plug-in"],
        ),
        (makes_a_list, "found = [", ["this needs new memory", "is a Table of the plug-in"]),
        (
            an_object,
            "THING.field",
            ["'THING' is nothing that can be compiled", "functions with @kernel"],
        ),
        (unknown, "", ["'nowhere' is not defined; define or import it"]),
        (no_field, "", ["there is nothing of the name 'colour'; fields of meta are those of"]),
        (compares, "(1, 2)", ["< does not go with what it is given here; cast"]),
        (two_kinds, "len(x)", ["the variable 'x' is of two kinds", "i64(...)"]),
    ],
)
def test_what_does_not_compile(function, line, words):
    text = said(function)
    assert text.startswith("node x: its kernel does not compile: ")
    for word in words:
        assert word in text
    if line:
        place, number = text.split(": ")[2].rsplit(":", 1)
        assert place == __file__
        assert line in Path(__file__).read_text().splitlines()[int(number) - 1]


def test_other_messages_stay_as_they_are():
    assert plugin_words.explain("node x: no table", "f.py") == "node x: no table"
    text = "node x: its kernel does not compile: something new"
    assert plugin_words.explain(text, "f.py") == text


def test_statements_that_would_lose_packets():
    plugin_words.refuse_statements(good)
    for function, line in ((raises, "raise ValueError"), (asserts, "assert x")):
        with pytest.raises(
            KernelError, match="raise and assert: cannot be in a kernel; give the"
        ) as e:
            plugin_words.refuse_statements(function)
        assert line in str(e.value)


def test_what_a_trial_raises():
    node = Node("x", good, Edge)

    def raising(error):
        def run():
            raise error

        return run

    plugin_words.tried(node, lambda: None)
    for error, words in (
        (IndexError("index 4"), "node x: it reads or writes beyond an array: index 4"),
        (AssertionError("lost"), "node x: its self-check failed: lost"),
        (AssertionError(), "node x: its self-check failed: an assertion"),
        (OSError("disk"), "node x: its self-check failed: OSError: disk"),
        (KernelError("as it is"), "as it is"),
    ):
        with pytest.raises(KernelError, match=words):
            plugin_words.tried(node, raising(error))
    with pytest.raises(KernelError, match="does not compile: 'ttl'"):
        plugin_words.tried(node, raising(KeyError("ttl")), compiles=True)
