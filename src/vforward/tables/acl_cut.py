# SPDX-License-Identifier: Apache-2.0
"""Where to cut a node of a tree of rows (tables.acl_build): which bits of which field.

A *region* is what packets of a node have in common: bits of their fields, as values and masks. A cut
takes up to BITS_MAX neighboring bits of one word, anywhere in it; a row goes to all children that a
packet of its may go to. For a range of ports those are the children from its least to its greatest.

A cut is good when a packet finds few rows left. Packets are taken to be spread over rows evenly, and
over a row's children evenly; so with ``share`` of them in each child, what is left is the mean of
log2(1 + rows), and the gain is what it was before less that, less PER_BIT for each bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.jit.intrinsics import popcount
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.tables.acl_image import PORTS4, PORTS6

BITS_MAX = 14
BITS_MORE = 3
"""A node of n rows is cut by at most log2(n) + BITS_MORE bits."""
PER_BIT = 0.1
LEAST_GAIN = 0.3
SPEND = 32
"""Bytes that a cut may take for each row of its node: 8 for a child, 4 for a row in a child."""
SAMPLE = 2048
"""A node's rows beyond that many are looked at in steps."""
LOGS = 1 << 16

# A node's words in Plan.nodes
START, SIZE, CLOSED, DEPTH, WORD, CUT, NODE_WORDS = range(7)
# Words of Plan.state
NODES, SLOTS, POOL, NODES_END, SLOTS_END, POOL_END = range(6)


class Plan(NamedTuple):
    """A tree under construction."""

    rows: NDArray[np.uint32]
    """[n + 1, 2 * words]; the last one matches everything."""
    nodes: NDArray[np.int64]
    """A node's rows are pool[START : START + SIZE]; CLOSED: the last of them matches all packets."""
    regions: NDArray[np.uint32]
    """Of each node; as rows are, but the ports are bits too."""
    slots: NDArray[np.uint64]
    """The numbers of nodes' children."""
    pool: NDArray[np.uint32]
    state: NDArray[np.int64]
    counts: NDArray[np.int64]
    """Of a cut's children, and how many rows of each are written (fill), and their weights."""
    fill: NDArray[np.int64]
    weights: NDArray[np.float64]
    logs: NDArray[np.float64]
    known: NDArray[np.int64]
    """[2**k, 2]: node, and for the cut of which node that was written: equal children are one."""


@inline
def is_ports(plan: Any, word: Any) -> Any:
    """Whether the word holds the ports, which are ranges."""
    return word == (PORTS4 if plan.rows.shape[1] == 16 else PORTS6)


@inline
def ends(plan: Any, node: Any, row: Any, word: Any, half: Any) -> Any:
    """Least and greatest port of a row in a node's region; half: 0 destination, 16 source."""
    words = plan.rows.shape[1] >> 1
    value = i64(plan.regions[node, word]) >> half & 0xFFFF
    mask = i64(plan.regions[node, words + word]) >> half & 0xFFFF
    low = i64(plan.rows[row, word]) >> half & 0xFFFF
    high = i64(plan.rows[row, words + word]) >> half & 0xFFFF
    return max(low, value), min(high, value | (mask ^ 0xFFFF))


@inline
def reach(plan: Any, node: Any, row: Any, word: Any, shift: Any, mask: Any) -> Any:
    """The children that a row goes to: the first; the bits that vary (see after); how many."""
    words = plan.rows.shape[1] >> 1
    if is_ports(plan, word):
        low, high = ends(plan, node, row, word, shift & 16)
        first = low >> (shift & 15)
        span = (high >> (shift & 15)) - first
        number = min(span, mask) + 1 if low <= high else 0
        return first & mask, mask, number
    varying = ~(i64(plan.rows[row, words + word]) >> shift) & mask
    first = i64(plan.rows[row, word]) >> shift & mask
    return first, varying, i64(1) << popcount(u64(varying))


@inline
def after(step: Any, varying: Any) -> Any:
    """The next of the numbers within the bits that vary. A child is first + step, modulo children."""
    return (step - varying) & varying


@kernel
def tally(plan: Any, node: Any, word: Any, shift: Any, bits: Any, step: Any) -> Any:
    """counts, weights: of the rows that go to some children only. Returns how many go to all."""
    mask = (i64(1) << bits) - 1
    plan.counts[: mask + 1] = 0
    plan.weights[: mask + 1] = 0
    start = plan.nodes[node, START]
    everywhere = 0
    for k in range(start, start + plan.nodes[node, SIZE], step):
        first, varying, number = reach(plan, node, i64(plan.pool[k]), word, shift, mask)
        if number > mask:
            everywhere += 1
            continue
        way = i64(0)
        for _ in range(number):
            child = (first + way) & mask
            plan.counts[child] += 1
            plan.weights[child] += 1.0 / number
            way = after(way, varying)
    return i64(everywhere)


@kernel
def judge(plan: Any, node: Any, word: Any, shift: Any, bits: Any) -> Any:
    """The gain of a cut, and its bytes for each row of the node."""
    n = plan.nodes[node, SIZE]
    step = (n + SAMPLE - 1) // SAMPLE
    everywhere = tally(plan, node, word, shift, bits, step)
    children = i64(1) << bits
    spread = everywhere / children
    left = 0.0
    total = everywhere
    taken = everywhere
    for child in range(children):
        count = plan.counts[child]
        rows = min((count + everywhere) * step, LOGS - 1)
        left += (plan.weights[child] + spread) * plan.logs[rows]
        taken += i64(count > 0) * (count + everywhere)
    total = (n + step - 1) // step
    gain = plan.logs[min(n, LOGS - 1)] - left / total
    return gain, (4.0 * taken * step + 8.0 * children) / n


@kernel
def useful(plan: Any, node: Any, word: Any) -> Any:
    """The bits of a word that tell rows of a node apart."""
    words = plan.rows.shape[1] >> 1
    start, n = plan.nodes[node, START], plan.nodes[node, SIZE]
    free = ~i64(plan.regions[node, words + word]) & 0xFFFFFFFF
    first = i64(plan.pool[start])
    bits = i64(0)
    for k in range(start + 1, start + n):
        row = i64(plan.pool[k])
        if not is_ports(plan, word):
            bits |= i64(plan.rows[row, word]) ^ i64(plan.rows[first, word])
            bits |= i64(plan.rows[row, words + word]) ^ i64(plan.rows[first, words + word])
            continue
        for half in range(0, 32, 16):
            if ends(plan, node, row, word, half) != ends(plan, node, first, word, half):
                bits |= i64(0xFFFF) << half
    return bits & free


@kernel
def _widen(plan: Any, node: Any, word: Any, shift: Any, width: Any, most: Any, bits: Any) -> Any:
    """The best cut that has the given one in it: worth, shift, bits. Bit by bit, up or down."""
    best, best_shift, best_width = 0.0, shift, i64(0)
    while True:
        gain, bytes_each = judge(plan, node, word, shift, width)
        worth = gain - PER_BIT * width
        if bytes_each > SPEND:
            break
        if gain >= LEAST_GAIN and worth > best:
            best, best_shift, best_width = worth, shift, width
        if width >= most:
            break
        up, down = -1.0, -1.0
        edge = 16 if is_ports(plan, word) else 32
        if (shift + width) % edge and bits >> (shift + width):
            up = judge(plan, node, word, shift, width + 1)[0]
        if shift % edge and bits & ((i64(1) << shift) - 1):
            down = judge(plan, node, word, shift - 1, width + 1)[0]
        if up < 0 and down < 0:
            break
        shift -= i64(down >= up)
        width += 1
    return best, best_shift, best_width


@kernel
def choose(plan: Any, node: Any) -> Any:
    """The best cut of a node: word, shift, bits; no bits: there is none that is worth it."""
    most = i64(0)
    while 1 << most < plan.nodes[node, SIZE]:
        most += 1
    most = min(most + BITS_MORE, BITS_MAX)
    best = 0.0
    chosen = (i64(0), i64(0), i64(0))
    for word in range(plan.rows.shape[1] >> 1):
        bits = useful(plan, node, word)
        first, seed = 0.0, i64(-1)
        for shift in range(32 if bits else 0):
            if bits >> shift & 1:
                gain = judge(plan, node, i64(word), i64(shift), i64(1))[0]
                if gain > first:
                    first, seed = gain, i64(shift)
        if seed >= 0:
            worth, shift, width = _widen(plan, node, i64(word), seed, i64(1), most, bits)
            if width and worth > best:
                best, chosen = worth, (i64(word), shift, width)
    return chosen
