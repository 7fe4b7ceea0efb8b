# SPDX-License-Identifier: Apache-2.0
"""reassembly_check: whether a table of datagrams makes sense. For tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.tables import pieces
from vforward.tables import reassembly as datagrams
from vforward.tables.held import buffers


def check(table: NDArray[Any], meta: NDArray[Any]) -> None:
    """Assert that the table makes sense. While no worker runs."""
    n = table.size - 1
    assert n & (n - 1) == 0
    used = [at for at in range(1, n + 1) if table[at]["word"]]
    free = _walk(table, int(table[0]["head"]), "chain")
    assert sorted(used + free) == list(range(1, n + 1)), "a record is lost, or used and free"
    assert sorted(_walk(table, int(table[0]["newer"]), "newer")) == used, "the order lacks one"
    assert (
        _walk(table, int(table[0]["older"]), "older")
        == _walk(table, datagrams.oldest(table), "newer")[::-1]
    )
    starts = table["started"][_walk(table, datagrams.oldest(table), "newer")]
    assert (np.diff(starts.astype(np.int64)) >= 0).all(), "the order is not that of their coming"
    chained = [at for k in range(1, n + 1) for at in _walk(table, int(table[k]["head"]), "chain")]
    assert sorted(chained) == used, "the chains lack one"
    for at in used:
        record = table[at]
        names = (*record["src"], *record["dst"], record["word"])
        assert datagrams.find(table, names) == at, "one is in another's chain, or there twice"
        assert not record["n_rows"] or not record["flags"], "packets wait for what is known"
        assert not pieces.is_whole(record), "one is whole and was not forgotten"
    rows = datagrams.held_rows(table[: n + 1])
    assert len(set(rows)) == len(rows), "a packet waits twice"
    assert not table["n_rows"][1:][table["word"][1:] == 0].any(), "a packet waits in a free record"
    total = sum(int(buffers(meta, row)) for row in rows)
    assert total == int(table[0]["total_held"]) <= int(table[0]["limit"])


def _walk(table: NDArray[Any], at: int, link: str) -> list[int]:
    found: list[int] = []
    while at:
        found.append(at)
        assert len(found) < table.size, f"the list by {link} is a loop"
        at = int(table[at][link])
    return found
