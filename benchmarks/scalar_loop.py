# SPDX-License-Identifier: Apache-2.0
"""The scalar baseline: one compiled function that takes a packet through the whole path, then the next.

It is generated from the same kernels as the graph runs, each called with a vector of one, all of them
merged into one function: no scheduler, no call by address, nothing that a program written packet by
packet would not have. What a compiler can do for the scalar program, LLVM may do here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.graphs import Bench
from vforward.jit import entries
from vforward.jit.intrinsics import cycles, view, view2
from vforward.jit.kernel import kernel, merged
from vforward.jit.sources import python_function
from vforward.layout import VECTOR_MAX

NONE = np.int64(0)


class ScalarLoop:
    """The measured nodes of a bench as one function. The path is that of the bench's packets."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        members = [bench.graph.members[name] for name in ["bench-rx", *bench.names]]
        self._blocks = np.array([member.blocks[0].ctypes.data for member in members], np.int64)
        self._edges, self._rows = np.zeros(VECTOR_MAX, np.uint8), np.zeros(VECTOR_MAX, np.uint32)
        self._loop = _compiled([member.node.kernel for member in members])
        self._wanted = np.array(self._learn(), np.int64)

    def fresh(self, n: int) -> NDArray[np.uint32]:
        """Rows of n new packets, at most a vector: bench-rx writes them."""
        rows = np.zeros(n, np.uint32)
        self._bench.state[0] = n
        self._call("bench-rx", rows, np.zeros(n, np.uint8))
        return rows

    def run(self, vectors: int) -> float:
        """Take so many vectors of new packets through, packet by packet. Returns clocks without bench-rx's.

        Raises AssertionError when one left by another edge than the first packet ever did.
        """
        self._bench.state[0] = vectors * VECTOR_MAX
        clocks, wrong = self._loop(
            self._blocks, self._rows, self._edges, self._wanted, np.int64(vectors)
        )
        if wrong:
            msg = f"{wrong} times a packet went another way"
            raise AssertionError(msg)
        return float(clocks)

    def one(self, rows: NDArray[np.uint32]) -> int:
        """The same for one packet, as cheap for the caller as a call of compiled code can be. Returns
        how often it went another way."""
        return self._loop(self._blocks, rows, self._edges, self._wanted, NONE)[1]

    def _learn(self) -> list[int]:
        """The edges by which a packet leaves; they have to lead where the path goes."""
        rows, edge, found = self.fresh(1), np.zeros(1, np.uint8), []
        members = self._bench.graph.members
        for name, following in itertools.pairwise([*self._bench.names, "bench-tx"]):
            self._call(name, rows, edge)
            found.append(int(edge[0]))
            to = int(self._bench.plan.following[members[name].number * 256 + found[-1]])
            if to != members[following].number:
                msg = f"{name}: a packet leaves by edge {found[-1]}, which does not lead to {following}"
                raise AssertionError(msg)
        return found

    def _call(self, name: str, rows: NDArray[np.uint32], edge: NDArray[np.uint8]) -> None:
        """Call a node's kernel from here."""
        graph, member = self._bench.graph, self._bench.graph.members[name]
        given = {"data": graph.pool.data, "meta": graph.pool.meta, "count": member.shares[0]}
        tables = {**graph.tables, **graph.own[0], **member.tables, **given}
        tables |= {"idx": rows, "edge": edge}
        called = member.node.kernel
        called(*(tables[parameter] for parameter in entries.parameters(called)))


def _compiled(kernels: Sequence[Any]) -> Any:
    """loop(blocks, rows, edges, wanted, vectors) -> (clocks, packets that took another edge).

    kernels: bench-rx's first, which is called vectors times; with 0 the rows are packets already.
    """
    names: dict[str, Any] = {"np": np, "view": view, "view2": view2, "cycles": cycles}
    begin, calls = [], []
    for k, each in enumerate(kernels):
        names[f"kernel{k}"] = merged(python_function(each))
        kinds = entries.parameters(each)
        listed = entries.block_names(each)
        begin.append(f"    words{k} = view(blocks[{k}], {2 * len(listed)}, np.int64)")
        arguments = []
        for name, kind in kinds.items():
            if name in entries.PER_CALL:
                one, several = ("row", "rows") if name == "idx" else ("edge", "edges")
                arguments.append(one if k else several)
                continue
            slot, made = 2 * listed.index(name), f"a{k}_{name}"
            names[f"D{k}_{name}"] = np.dtype(kind.dtype)
            where = f"words{k}[{slot}], words{k}[{slot + 1}]"
            call = f"view2({where}, {kind.inner}" if kind.inner else f"view({where}"
            begin.append(f"    {made} = {call}, D{k}_{name})")
            arguments.append(made)
        calls.append(f"kernel{k}({', '.join(arguments)})")
    receive, *path = calls
    body = [
        line
        for k, call in enumerate(path)
        for line in (call, f"wrong += np.int64(np.int64(edge[0]) != wanted[{k}])")
    ]
    source = "\n".join(
        [
            "def loop(blocks, rows, edges, wanted, vectors):", *begin,
            "    wrong, spent, edge = np.int64(0), np.uint64(0), edges[:1]",
            "    for _ in range(max(1, vectors)):", "        if vectors:", f"            {receive}",
            "        start = cycles()", "        for i in range(rows.size):",
            "            row = rows[i : i + 1]", *(f"            {line}" for line in body),
            "        spent += cycles() - start", "    return np.int64(spent), wrong", "",
        ]
    )  # fmt: skip
    exec(source, names)
    return kernel(names["loop"])
