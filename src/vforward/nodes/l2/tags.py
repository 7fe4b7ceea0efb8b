# SPDX-License-Identifier: Apache-2.0
"""Tags taken off a frame and put on it, in place: IEEE 802.1Q-2018 sections 6.9 and 9.6.

A port says how many come off and which go on, when a frame comes in and when it goes out
(tables.ports). New tags take PCP and DEI from the tag that was the outermost before; 0 if none was.
"""

from __future__ import annotations

from typing import Any

from vforward.jit.be import load16, load32, load64, store32, store64
from vforward.jit.kernel import i64, inline, kernel
from vforward.layout import GSO
from vforward.packet import ethernet as eth

PRIORITY = 0xF000
"""PCP and DEI in a tag's second half."""


@inline
def _is_tag(kind: Any) -> Any:
    return (kind == eth.VLAN) | (kind == eth.QINQ)


@inline
def changes_in(port: Any) -> Any:
    """Whether tags change on frames that come in by the port."""
    return (port.in_pop | port.in_push) != 0


@inline
def changes_out(port: Any) -> Any:
    """Whether tags change on frames that go out by the port."""
    return (port.out_pop | port.out_push) != 0


@kernel
def fits(data: Any, meta: Any, row: Any, pop: Any, push: Any) -> Any:
    """Whether so many tags are there to be taken off, and there is room for those to be put on."""
    off, end = i64(meta[row].off), i64(meta[row].end)
    if end - off < eth.HEADER + i64(pop) * eth.TAG:
        return False
    for k in range(i64(pop)):
        if not _is_tag(load16(data, row, off + eth.TYPE + k * eth.TAG)):
            return False
    return off + (i64(pop) - i64(push)) * eth.TAG >= 0


@kernel
def _rewrite(data: Any, meta: Any, row: Any, pop: Any, push: Any, tags: Any) -> Any:
    if not fits(data, meta, row, pop, push):
        return False
    off, end = i64(meta[row].off), i64(meta[row].end)
    priority = i64(0)
    if end - off >= eth.HEADER + 2 and _is_tag(load16(data, row, off + eth.TYPE)):
        priority = load16(data, row, off + eth.HEADER) & PRIORITY
    shift = (i64(pop) - i64(push)) * eth.TAG
    first, last = load64(data, row, off), load32(data, row, off + 8)
    store64(data, row, off + shift, first)
    store32(data, row, off + shift + 8, last)
    for k in range(i64(push)):
        store32(data, row, off + shift + eth.TYPE + k * eth.TAG, i64(tags[k]) | priority)
    meta[row].off = off + shift
    if meta[row].flags & GSO:
        meta[row].hdr_len = i64(meta[row].hdr_len) - shift
    return True


@inline
def come_in(data: Any, meta: Any, row: Any, port: Any) -> Any:
    """Change the tags of a frame that has come in by a port. False: it does not fit, see fits."""
    return _rewrite(data, meta, row, port.in_pop, port.in_push, port.in_tags)


@inline
def go_out(data: Any, meta: Any, row: Any, port: Any) -> Any:
    """Change the tags of a frame that is to go out by a port. False: it does not fit, see fits."""
    return _rewrite(data, meta, row, port.out_pop, port.out_push, port.out_tags)
