# SPDX-License-Identifier: Apache-2.0
"""What a packet costs in an image of rows (tables.acl): how many nodes and rows it visits.

To choose between images, to find the packets that cost most, and as a second, slow look-up that the
fast one is held against.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.tables.acl_image import (
    COUNT,
    PORTS4,
    PORTS6,
    ROOT,
    ROW_MASK,
    ROWS_AT,
    RULES_AT,
    SURE,
    TREE,
    TREE_WORDS,
    TREES,
    WORDS,
)  # fmt: skip


@inline
def _matches(small: Any, at: Any, fields: Any, words: Any) -> Any:
    """Whether fields match the row at small[at]."""
    for word in range(words):
        value, mask, field = i64(small[at + word]), i64(small[at + words + word]), i64(fields[word])
        if word == (PORTS4 if words == 8 else PORTS6):
            if not value >> 16 <= field >> 16 <= mask >> 16:
                return False
            if not value & 0xFFFF <= field & 0xFFFF <= mask & 0xFFFF:
                return False
        elif (value ^ field) & mask:
            return False
    return True


@kernel
def _one(image: Any, fields: Any, visits: Any) -> Any:
    """The rule of one packet, fields u32[words]; visits: nodes, rows."""
    small = image.view(np.uint32)
    words = i64(image[WORDS])
    best = i64(image[COUNT])
    for tree in range(i64(image[TREES])):
        word = image[TREE + tree * TREE_WORDS + ROOT]
        while i64(word) >= 0:
            field = u64(fields[i64(word >> u64(8)) & 15]) >> (word & u64(63))
            way = i64(field & (word >> u64(16) & u64(0xFFFF)))
            word = image[i64(word >> u64(32)) + way]
            visits[0] += np.uint32(1)
        entry = i64(word >> u64(32)) & 0x7FFFFFFF
        at = i64(word & u64(0xFFFFFFFF))
        while not entry & SURE and entry < best:
            visits[1] += np.uint32(1)
            if _matches(small, 2 * (i64(image[ROWS_AT]) + entry * words), fields, words):
                break
            entry = i64(small[at])
            at += 1
        best = min(best, entry & ROW_MASK)
    return small[i64(image[RULES_AT]) + best]


@kernel
def effort(image: Any, fields: Any, visits: Any) -> Any:
    """Adds to visits u32[n, 2] the nodes and rows of packets, fields u32[n, words]."""
    for i in range(fields.shape[0]):
        _one(image, fields[i], visits[i])


@kernel
def slowly(image: Any, fields: Any, found: Any, visits: Any) -> None:
    """The rules of packets; visits u32[2]."""
    for i in range(fields.shape[0]):
        found[i] = _one(image, fields[i], visits)
