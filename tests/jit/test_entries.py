# SPDX-License-Identifier: Apache-2.0
"""C entries: what they demand of a kernel, what they call, and when they are compiled anew."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from vforward.errors import KernelError
from vforward.jit import entries
from vforward.jit.intrinsics import call4
from vforward.jit.kernel import kernel
from vforward.layout import BUF_STRIDE, META, U8, U32, Counts, Data, Edges, Meta, Rows

HEADER = """
import numpy as np
from vforward.jit.kernel import kernel
from vforward.layout import *

"""
KERNEL = """
@kernel
def plain(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    for i in range(idx.size):
        edge[i] = {value}
"""


@kernel
def every(
    data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, small: U8, large: U32
) -> int:
    for i in range(idx.size):
        row = np.int64(idx[i])
        edge[i] = data[row, 3]
        meta[row].hash = large[large.size - 1]
    count[0] = np.uint64(idx.size * 1000 + edge.size)
    count[count.size - 1] = small[small.size - 1]
    return -idx.size


@kernel
def nothing(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    pass


@kernel
def wrong(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
    idx.no_such_thing()


@kernel
def call(function, block, rows, n, edges):
    return call4(function, block, rows, n, edges)


def make(value):
    @kernel
    def made(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts) -> None:
        for i in range(idx.size):
            edge[i] = value

    return made


def edge_of(entry, n_words=6):
    """The edge that a kernel which looks at nothing gives to a packet."""
    block, rows, edges = np.zeros(n_words, np.int64), np.zeros(1, np.uint32), np.zeros(1, np.uint8)
    call(entry.address, block.ctypes.data, rows.ctypes.data, 1, edges.ctypes.data)
    return int(edges[0])


def test_an_entry_passes_every_argument_in_its_place():
    data, meta = np.zeros((4, BUF_STRIDE), np.uint8), np.zeros(4, META)
    count, small, large = np.zeros(3, np.uint64), np.zeros(5, np.uint8), np.zeros(7, np.uint32)
    data[:, 3] = [10, 11, 12, 13]
    small[-1], large[-1] = 77, 88
    assert entries.block_names(every) == ["data", "meta", "count", "small", "large"]
    words = [w for a in (data, meta, count, small, large) for w in (a.ctypes.data, a.shape[0])]
    block = np.array(words, np.int64)
    rows, edges = np.array([2, 1, 3], np.uint32), np.zeros(4, np.uint8)
    entry = entries.build("test-every", every)
    result = call(entry.address, block.ctypes.data, rows.ctypes.data, 3, edges.ctypes.data)
    assert result == -3
    assert edges.tolist() == [12, 11, 13, 0]
    assert meta["hash"].tolist() == [0, 88, 88, 88]
    assert count.tolist() == [3003, 0, 77]


def test_a_kernel_that_returns_nothing_returns_the_packets():
    entry = entries.build("test-nothing", nothing)
    assert call(entry.address, np.zeros(6, np.int64).ctypes.data, 0, 5, 0) == 5
    assert (entries.returns_int(nothing), entries.returns_int(every)) == (False, True)


def test_parameters_must_begin_with_the_reserved_ones():
    def swapped(meta: Meta, data: Data, idx: Rows, edge: Edges, count: Counts) -> None: ...
    def short(data: Data, meta: Meta, idx: Rows) -> None: ...

    for function in (swapped, short):
        with pytest.raises(
            KernelError, match=rf"kernel {function.__name__} .*must begin with data"
        ):
            entries.parameters(function)


def test_every_parameter_needs_an_array_type():
    def bare(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, table) -> None: ...
    def odd(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, table: int) -> None: ...

    for function in (bare, odd):
        with pytest.raises(KernelError, match=rf"{function.__name__} .*parameter table needs"):
            entries.parameters(function)


def test_a_kernel_that_does_not_compile_names_node_and_reason():
    with pytest.raises(KernelError, match=r"(?s)node test-wrong: .*no_such_thing") as raised:
        entries.build("test-wrong", wrong)
    assert raised.value.__cause__ is not None
    with pytest.raises(KernelError):  # and again: nothing half-made was left behind
        entries.build("test-wrong", wrong)


def test_kernels_of_one_factory_have_entries_of_their_own():
    built = [entries.build("test-made", make(value)) for value in (3, 4)]
    assert [edge_of(entry) for entry in built] == [3, 4]


def test_a_name_cannot_leave_the_directory():
    assert edge_of(entries.build("../../test made", make(9))) == 9


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """A plug-in of three files that names a helper, a helper's helper, a module's, a constant."""
    files = {
        "plug_limits.py": "LIMIT = 1\n",
        "plug_deep.py": HEADER + "@kernel\ndef deep(x):\n    return x + 1\n",
        "plug_helper.py": HEADER
        + "from plug_deep import deep\n@kernel\ndef helper(x):\n    return deep(x) + 1\n",
        "plug_by_module.py": HEADER + "@kernel\ndef more(x):\n    return x + 1\n",
        "plug_node.py": HEADER
        + "import plug_by_module\nfrom plug_helper import helper\nfrom plug_limits import LIMIT\n"
        + KERNEL.format(value="helper(plug_by_module.more(LIMIT))"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


RUN = textwrap.dedent("""
    import json
    from vforward.jit import entries
    from test_entries import edge_of
    from plug_node import plain
    from numba.core import event

    compiled = []

    class Listen(event.Listener):
        def on_start(self, e): compiled.append(str(e.data.get("dispatcher", e.data)))
        def on_end(self, e): pass

    with event.install_listener("numba:compile", Listen()):
        entry = entries.build("plug", plain)
        n = len(compiled)
        print(json.dumps([edge_of(entry), n, entry.compiled]))
    """)


def run_plug_in(directory):
    """[edge, functions compiled, whether the entry was] of the plug-in, in a process of its own."""
    path = os.pathsep.join([str(directory), str(Path(__file__).parent), *sys.path])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "VFORWARD_CACHE_DIR": str(directory / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_second_process_compiles_nothing(plug_in):
    edge, functions, compiled = run_plug_in(plug_in)
    assert (edge, compiled) == (4, True)
    assert functions > 0
    assert run_plug_in(plug_in) == [4, 0, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "edge"),
    [
        ("plug_node.py", "edge[i] = ", "edge[i] = 1 + ", 5),
        ("plug_helper.py", ") + 1", ") + 3", 6),
        ("plug_deep.py", "x + 1", "x + 9", 12),
        ("plug_by_module.py", "x + 1", "x + 4", 7),
        ("plug_limits.py", "LIMIT = 1", "LIMIT = 5", 8),
    ],
)
def test_an_edit_anywhere_in_a_plug_in_is_noticed(plug_in, file, old, new, edge):
    assert run_plug_in(plug_in)[0] == 4
    text = (plug_in / file).read_text()
    assert old in text
    (plug_in / file).write_text(text.replace(old, new))
    assert run_plug_in(plug_in)[0] == edge


def test_an_interrupt_leaves_no_half_of_an_entry(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    kernel = make(5)
    with monkeypatch.context() as patched:
        patched.setattr(entries, "_compiled", interrupted)
        patched.setattr(entries.objects, "load", lambda _place: 0)  # nothing of an earlier run
        with pytest.raises(KeyboardInterrupt):
            entries.build("test-interrupted", kernel)
    assert edge_of(entries.build("test-interrupted", kernel)) == 5
