"""The table of the TCP machine, cell by cell, and the classes of segments by their flags."""

from oracles import tcp as oracle
from vforward.tables import session as t
from vforward.tables import session_cells as cells


def test_the_table_is_the_oracles():
    """Cell by cell, whatever numbers a segment would need to get there."""
    named = {"note": cells.KEEP, "pass": cells.IGNORE, "drop": cells.DROP}
    named |= {"again": cells.REOPEN} | {name: i for i, name in enumerate(t.STATES)}
    for (state, d, kind), cell in oracle.CELLS.items():
        at = (t.STATES.index(state) * 2 + d) * 9 + oracle.CLASSES.index(kind)
        assert cells.CELLS[at] == named[cell], (state, d, kind)
    assert len(oracle.CELLS) == 13 * 2 * 9


def test_classes_by_flags():
    names = {
        cells.SYN: "syn", cells.SYN_ACK: "syn-ack", cells.PLAIN: "ack", cells.FIN: "fin",
        cells.RESET: "rst", cells.INVALID: "bad",
    }  # fmt: skip
    assert [names[kind] for kind in cells.CLASS.tolist()] == [
        oracle.kind_of(flags) for flags in range(64)
    ]
