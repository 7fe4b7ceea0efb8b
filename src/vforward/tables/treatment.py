# SPDX-License-Identifier: Apache-2.0
"""treatment: what is done to a packet after it was let through: mark it (RFC 2474), police it.

    treatments  TREATMENT[n]   by meta.treatment; record 0: nothing      (control)

Owner       The control plane. A record does not change once its number is used by a rule or a session.
Limits      TREATMENTS_MAX, as many as pairs of a DSCP and one of some thousand policers.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vforward.jit.kernel import i64, kernel
from vforward.layout import ArrayOf
from vforward.memory.arena import Arena
from vforward.tables import TableFull
from vforward.tables.policer import DROP, PASS, police

TREATMENTS_MAX = 1 << 16
KEEP = PASS
"""Instead of a DSCP: it stays as it is."""

TREATMENT = np.dtype([("dscp", np.uint8), ("spare", np.uint8), ("policer", np.uint16)])
assert TREATMENT.itemsize == 4

TreatmentTable = Annotated[NDArray[Any], ArrayOf(TREATMENT)]


@kernel
def treat(treatments: Any, policers: Any, number: Any, n: Any, now: Any) -> Any:
    """What becomes of a packet of n bytes with a treatment: a DSCP to set, KEEP or DROP; i64.

    What the policer says of its colour goes before the mark of all. A number that is none: KEEP.
    """
    if number >= treatments.size:
        return i64(KEEP)
    record = treatments[number]
    mark = i64(record.dscp)
    if record.policer:
        action = police(policers, i64(record.policer), n, now)
        if action != PASS:
            return i64(action)
    return mark


class Treatments:
    """The treatments of a forwarder."""

    def __init__(self, arena: Arena, n: int = TREATMENTS_MAX) -> None:
        self.table: NDArray[Any] = arena.make("treatments", n, TREATMENT)
        self.table[0]["dscp"] = KEEP
        self._known: dict[tuple[int, int], int] = {(KEEP, 0): 0}

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """What nodes take, with those of the policers."""
        return {"treatments": self.table}

    def policers_of(self, numbers: NDArray[np.integer[Any]]) -> set[int]:
        """The policers that treatments ask, by their numbers."""
        return set(self.table["policer"][np.unique(numbers)].tolist())

    def number(self, dscp: int = KEEP, policer: int = 0) -> int:
        """The number of a treatment: always the same for the same. Raises TableFull."""
        assert 0 <= dscp <= KEEP != DROP
        found = self._known.get((dscp, policer))
        if found is None:
            found = len(self._known)
            if found >= self.table.size:
                raise TableFull(f"{self.table.size} treatments at most", 0)
            self.table[found]["dscp"], self.table[found]["policer"] = dscp, policer
            self._known[dscp, policer] = found
        return found
