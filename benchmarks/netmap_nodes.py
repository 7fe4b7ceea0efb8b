# SPDX-License-Identifier: Apache-2.0
"""Programs at netmap ports, compiled: one writes every byte of its frames, one reads every byte."""

from __future__ import annotations

import numpy as np

from vforward.jit.intrinsics import address, ask_read, ask_write, copy, relax, view
from vforward.jit.kernel import i64, inline, kernel, u64
from vforward.rings.netmap_layout import BUF_SIZE, CUR, HEAD, SLOTS, load, store
from vforward.rings.netmap_pipe import pipe_rxsync, pipe_txsync
from vforward.rings.netmap_sync import WAKE, distance, following, port_sync

SIZE = 60
BATCH = 256
AHEAD = 8
"""Slots between asking for a buffer and touching it."""


@inline
def fill(k, bufs, template, number, n):
    """Write frames into the next n tx slots: the template, but for a number in its last 8 bytes."""
    words = view(k.ring + SLOTS, 2 * k.n, np.uint64)
    at = load(k.ring + HEAD)
    source = address(template)
    for _ in range(n):
        ask_write(bufs + i64(words[2 * ((at + AHEAD) % k.n)] & u64(0xFFFFFFFF)) * BUF_SIZE)
        word = words[2 * at]
        to = bufs + i64(word & u64(0xFFFFFFFF)) * BUF_SIZE
        copy(to, source, SIZE - 8)
        view(to + SIZE - 8, 1, np.uint64)[0] = number
        words[2 * at] = (word & u64(0xFFFFFFFF)) | u64(SIZE << 32)
        number += u64(1)
        at = following(k.n, at)
    store(k.ring + CUR, at)
    store(k.ring + HEAD, at)
    return number


@inline
def take(k, bufs, total, number, n):
    """Read frames from the next n rx slots. total[0]: a sum of all their bytes as words; [1]: those
    whose number was not the expected one. Returns the next number.
    """
    words = view(k.ring + SLOTS, 2 * k.n, np.uint64)
    at = load(k.ring + HEAD)
    found, wrong = u64(0), u64(0)
    for _ in range(n):
        ask_read(bufs + i64(words[2 * ((at + AHEAD) % k.n)] & u64(0xFFFFFFFF)) * BUF_SIZE)
        word = words[2 * at]
        frame = bufs + i64(word & u64(0xFFFFFFFF)) * BUF_SIZE
        parts = view(frame, 6, np.uint64)
        for i in range(6):
            found += parts[i]
        found += u64(view(frame + 48, 1, np.uint32)[0])
        got = view(frame + SIZE - 8, 1, np.uint64)[0]
        wrong += u64(got != number) + u64(i64(word >> u64(32)) & 0xFFFF != SIZE)
        number += u64(1)
        at = following(k.n, at)
    store(k.ring + CUR, at)
    store(k.ring + HEAD, at)
    total[0] += found
    total[1] += wrong
    return number


@kernel
def pipe_sender(krings, bufs, template, count):
    """Send count frames into a pipe. Returns how often a sync asked for a wakeup, or failed."""
    k = krings[0]
    number, odd = u64(0), i64(0)
    while i64(number) < count:
        n = min(distance(k.n, k.first, k.last), min(BATCH, count - i64(number)))
        if n == 0:
            relax()
        number = fill(k, bufs, template, number, n)
        odd += pipe_txsync(krings) != 0
    return odd


@kernel
def pipe_receiver(krings, bufs, total, count):
    """Receive count frames from a pipe."""
    k = krings[1]
    number, odd = u64(0), i64(0)
    while i64(number) < count:
        odd += pipe_rxsync(krings) != 0
        n = min(distance(k.n, k.first, k.last), count - i64(number))
        if n == 0:
            relax()
        number = take(k, bufs, total, number, n)
    odd += pipe_rxsync(krings) != 0
    return odd


@kernel
def both_programs(one, one_bufs, two, two_bufs, template, total, count):
    """The programs at two VALE ports, in turn on one core: one sends, the other one receives."""
    k, q = one[0], two[1]
    sent, got = u64(0), u64(0)
    odd = i64(0)
    while i64(got) < count:
        left = count - i64(sent)
        room = q.n - 1 - (i64(sent) - i64(got))  # what the receiver has room for: none is dropped
        n = min(min(distance(k.n, k.first, k.last), room), min(BATCH, left))
        if n >= min(BATCH, left) and n > 0:
            sent = fill(k, one_bufs, template, sent, n)
        odd += port_sync(one, 0) & ~i64(WAKE) != 0
        n = distance(q.n, q.first, q.last)
        if n >= min(BATCH, i64(sent) - i64(got)) and n > 0:
            got = take(q, two_bufs, total, got, n)
        odd += port_sync(two, 1) & ~i64(WAKE) != 0
    return odd
