# SPDX-License-Identifier: Apache-2.0
"""How a packet becomes the router's answer to it: its buffer is the answer's."""

from __future__ import annotations

from typing import Any

import numpy as np

from vforward.jit.kernel import kernel
from vforward.layout import CHAINED, SELF_MADE, TRACED
from vforward.memory.pool import put_rest


@kernel
def become_answer(meta: Any, pool: Any, row: Any, l3: Any, end: Any) -> None:
    """Make of a packet's record that of an answer, which lies in its first buffer from l3 to end.

    Of what was known of the packet the trace mark and the port stay; its other buffers are freed.
    """
    record = meta[row]
    if record.flags & CHAINED:
        put_rest(pool, meta, row)
    record.off = l3
    record.l3 = l3
    record.end = end
    record.treatment = 0
    record.flags = (record.flags & np.uint32(TRACED)) | np.uint32(SELF_MADE)
