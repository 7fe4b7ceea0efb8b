# SPDX-License-Identifier: Apache-2.0
"""Cut off what follows a packet: Ethernet padding."""

from __future__ import annotations

from typing import Any

from vforward.jit.kernel import i64, kernel
from vforward.layout import CHAINED


@kernel
def trim(meta: Any, row: int, length: int) -> None:
    """Leave length bytes from l3 on; buffers beyond stay linked, with no bytes in them."""
    here = min(length, i64(meta[row].end) - i64(meta[row].l3))
    meta[row].end = i64(meta[row].l3) + here
    left = length - here
    meta[row].rest = left
    for _ in range(meta.size):  # a chain longer than the pool would be a loop
        if not meta[row].flags & CHAINED:
            return
        row = i64(meta[row].next)
        here = min(left, i64(meta[row].end) - i64(meta[row].off))
        meta[row].end = i64(meta[row].off) + here
        left -= here
