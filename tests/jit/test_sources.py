# SPDX-License-Identifier: Apache-2.0
"""Digests of functions: equal for equal sources, other for any that is compiled in."""

import enum

import numpy as np
import pytest

from vforward.jit import sources
from vforward.jit.intrinsics import ctz
from vforward.jit.kernel import kernel
from vforward.nodes.ip4 import lookup, rewrite
from vforward.nodes.ip6 import lookup as lookup6
from vforward.packet import checksum

LIMIT = 3
TABLE = np.arange(4)


class Edge(enum.IntEnum):
    A = 0


@kernel
def uses(x):
    return x + LIMIT + TABLE[0] + Edge.A


def made(value):
    return lambda x: x + value


def test_equal_functions_have_equal_digests():
    assert sources.digest(uses) == sources.digest(uses)
    assert sources.digest(made(1)) == sources.digest(made(1))


def test_the_closure_counts():
    assert sources.digest(made(1)) != sources.digest(made(2))
    assert sources.digest(made(np.arange(2))) != sources.digest(made(np.arange(3)))
    assert sources.digest(made((1, 2))) != sources.digest(made((1, 3)))


def test_what_was_written_of_others_changes_no_digest():
    kernels = [lookup.NODE.kernel, rewrite.NODE.kernel, lookup6.NODE.kernel]
    written = {}
    shared = [sources.digest(kernel, "x", written) for kernel in kernels]
    assert shared == [sources.digest(kernel, "x") for kernel in kernels]


def test_so_does_the_salt():
    assert sources.digest(uses, "a") != sources.digest(uses, "b")


@pytest.mark.parametrize("name", ["LIMIT", "TABLE", "Edge"])
def test_globals_count(monkeypatch, name):
    before = sources.digest(uses)
    other = {
        "LIMIT": 4,
        "TABLE": np.arange(4) + 1,
        "Edge": enum.IntEnum("Edge", {"A": 1}),
    }
    monkeypatch.setitem(sources.python_function(uses).__globals__, name, other[name])
    assert sources.digest(uses) != before


def test_what_an_inner_function_names_counts(monkeypatch):
    def outer(x):
        def inner(y):
            return y + LIMIT

        return inner(x)

    before = sources.digest(outer)
    monkeypatch.setitem(outer.__globals__, "LIMIT", 4)
    assert sources.digest(outer) != before


def test_the_files_of_intrinsics_count():
    assert sources.origin(sources.python_function(ctz))[0] == "vforward.jit.intrinsics"
    assert sources.digest(ctz) == sources.digest(ctz)


def test_objects_that_numba_does_not_freeze_do_not_spoil_it(monkeypatch):
    before = sources.digest(made(object()))
    assert sources.digest(made(object())) == before


def test_functions_without_a_file_differ_by_their_code():
    digests = set()
    for text in ("x + 1", "x + 2", "x * 1"):
        names = {}
        exec(f"def f(x):\n    return {text}\n", names)
        digests.add(sources.digest(names["f"]))
        assert not sources.in_file(names["f"])
    assert len(digests) == 3


def test_what_is_foreign():
    assert sources.foreign(uses)
    assert not sources.foreign(checksum.complete)
    assert sources.in_file(uses)
