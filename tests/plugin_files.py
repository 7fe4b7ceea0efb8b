"""Plug-ins for tests: files written from a template, good ones and bad ones."""

TEMPLATE = """
import numpy as np

from vforward import Labels, Node, Plugin, Table, kernel
from vforward.graph import arcs
from vforward.jit.kernel import i64, u64
from vforward.layout import EDGE_HELD, U8, U32, U64, Counts, Data, Edges, Meta, Rows

{before}

class Edge(Labels):
    DROP = 0, "refused"


class Count(Labels):
    REFUSED = 0, "its first byte"


@kernel
def probe(data: Data, meta: Meta, idx: Rows, edge: Edges, count: Counts, seen: U64{tables}) -> None:
    for i in range(idx.size):
        row = i64(idx[i])
        seen[0] += u64(1)
        edge[i] = arcs.proceed(meta, row)
        {body}


{after}
PLUGIN = Plugin(
    Node({name!r}, probe, Edge, Count),
    arc={arc!r},
    tables={{"seen": Table({shape}, np.uint64){more}}},
    {options}
)
"""

LARGE = "class Large:\n    pass\n\n\nLARGE = Large()"
"""To stand before it: what a module may hold."""


def text(
    body="pass", *, name="probe", arc="ip4-input", shape=4, before="", after="", options="",
    tables="", more="",
):  # fmt: skip
    return TEMPLATE.format(
        body=body, name=name, arc=arc, shape=shape, before=before, after=after, options=options,
        tables=tables, more=more,
    )  # fmt: skip


def write(path, body="pass", **options):
    """Write a plug-in whose kernel counts packets in seen[0], and does this with each. Returns the path."""
    path.write_text(text(body, **options))
    path.chmod(0o600)
    return str(path)
