# SPDX-License-Identifier: Apache-2.0
"""What a plug-in says of itself: its node, where that goes, and what it takes. A declaration.

    PLUGIN = Plugin(NODE, arc="ip4-input", after="urpf", before="session")

A file that a running forwarder loads has one under this name, and so has what an entry point of the group
``vforward.nodes`` names (docs/add-a-node.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.control.plugin_words import raised
from vforward.errors import KernelError, WiringError
from vforward.graph.node import Kind, Node
from vforward.jit import entries

Tables = dict[str, NDArray[Any]]
GIVEN = ("pool", "emitted", "work", "ports")
"""The forwarder's own tables that a plug-in's kernel may take."""
TABLE_MAX = 1 << 30
"""Bytes of a plug-in's tables together."""
DROP = "drop"


@dataclass(frozen=True)
class Table:
    """A table of a plug-in's own: zeros to begin with. each: every worker has one for itself."""

    shape: int | tuple[int, ...]
    dtype: Any
    each: bool = False

    @property
    def layout(self) -> tuple[tuple[int, ...], str, bool]:
        """What must not change if what is in it is to stay when the plug-in is replaced."""
        shape = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)
        return shape, repr(np.lib.format.dtype_to_descr(np.dtype(self.dtype))), self.each

    @property
    def nbytes(self) -> int:
        """How long it is."""
        return math.prod(self.layout[0]) * np.dtype(self.dtype).itemsize

    def make(self) -> NDArray[Any]:
        """A new one, in cache lines of its own."""
        room = np.zeros(self.nbytes + 128, np.uint8)
        first = -room.ctypes.data % 64
        made = room[first : first + self.nbytes]
        return made.view(np.dtype(self.dtype)).reshape(self.layout[0])


@dataclass(frozen=True)
class Plugin:
    """A node on a feature arc, for a running forwarder.

    node: what goes on answers arcs.proceed(meta, row). arc: "ip4-input", "ip6-input", "ip4-output" or
    "ip6-output". after, before: features between which it stands, as "session" or "ip4-session"; with one
    of them right behind it, or right before; with none at the arc's end. ways: where its edges lead, by
    name; "drop" leads to drop by itself. ports: whose packets visit it, by name; none: all ports'.

    tables: by name what its kernel takes besides GIVEN. fill: called with those that begin anew, before
    a packet comes: where a plug-in is replaced maybe with some only. check: called with a function
    (control.plugin_trial.Trial), in a process of its own before it is loaded; what it raises refuses it.
    """

    node: Node
    arc: str
    after: str = ""
    before: str = ""
    ways: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    fill: Callable[[Tables], None] | None = None
    check: Callable[[Any], None] | None = None

    def __post_init__(self) -> None:
        where = f"plug-in {self.node.name}"
        if self.node.kind is not Kind.INNER or self.node.edges is None:
            raise WiringError(
                f"{where}: its node must have edges of its own, and be no input, no queue"
            )
        edges = self.node.edge_labels
        for edge in self.ways:
            if edge not in edges:
                raise WiringError(f"{where}: ways: no edge {edge!r}; it has: {', '.join(edges)}")
        for edge in edges:
            if edge != DROP and edge not in self.ways:
                raise WiringError(
                    f"{where}: where does edge {edge!r} lead? Say ways={{{edge!r}: NODE}}"
                )
        for name in self.tables:
            if name in GIVEN or name not in self.node.tables:
                raise WiringError(
                    f"{where}: table {name!r} is the forwarder's, or its kernel does not take it"
                )
        kinds = entries.parameters(self.node.kernel)
        for name in self.node.tables:
            if name in self.tables:
                _check_table(where, name, self.tables[name], kinds[name])
            elif name not in GIVEN:
                known = ", ".join(GIVEN)
                raise WiringError(
                    f"{where}: its kernel takes {name!r}: declare it in tables (of the forwarder's own "
                    f"a plug-in may take: {known})"
                )
        if sum(table.nbytes for table in self.tables.values()) > TABLE_MAX:
            raise WiringError(f"{where}: its tables have more than {TABLE_MAX} bytes")

    def begin(self, tables: Tables) -> Tables:
        """Have fill write to tables that begin anew; return them. Raises KernelError: what it raises."""
        if self.fill is None or not tables:
            return tables
        try:
            self.fill(tables)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            given, code = ", ".join(tables), getattr(self.fill, "__code__", None)
            said = raised(error, "" if code is None else code.co_filename)
            hint = (
                "; where a plug-in is replaced others stay as they are: ask which are there"
                if isinstance(error, KeyError)
                else ""
            )
            raise KernelError(
                f"plug-in {self.node.name}: fill, of what begins anew ({given}): {said}{hint}"
            ) from error
        return tables


def _check_table(where: str, name: str, table: Table, kind: Any) -> None:
    shape, dtype = table.layout[0], np.dtype(table.dtype)
    wanted = (kind.inner,) if kind.inner else ()
    if (
        dtype.hasobject
        or dtype != np.dtype(kind.dtype)
        or not shape
        or shape[1:] != wanted
        or not shape[0]
    ):
        raise WiringError(
            f"{where}: table {name!r} is {dtype}{list(shape)}, its kernel takes {np.dtype(kind.dtype)} "
            f"with inner dimension {kind.inner or 'none'}"
        )
