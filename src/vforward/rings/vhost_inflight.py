# SPDX-License-Identifier: Apache-2.0
"""GET_INFLIGHT_FD and SET_INFLIGHT_FD: regions that a vhost-user peer keeps for its queues.

Source: QEMU, docs/interop/vhost-user.rst, "Inflight description". The payload of both:

    mmap size u64, mmap offset u64, queues u16, their size u16    (QEMU and DPDK: and 4 bytes of padding)

A region for each queue (rings.inflight), one behind the other. Where a queue goes on: see resume.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vforward.memory.mapping import sealed_file
from vforward.rings import inflight, position
from vforward.rings import packed as pk
from vforward.rings import virtqueue as vq
from vforward.rings.vhost_message import BadPeer, Message

LAYOUT = struct.Struct("=QQHH4x")
UNPADDED = 20


class Inflight(NamedTuple):
    """What such a message says."""

    size: int
    offset: int
    queues: int
    queue_size: int

    def place(self, here: int, index: int, size: int, *, packed: bool) -> int:
        """Where the region of a queue lies, when all of them lie here; 0: there is none.

        Raises BadPeer: there is no room for it.
        """
        if not here or index >= self.queues:
            return 0
        each = inflight.region_bytes(self.queue_size, packed=packed)
        if size > self.queue_size or each * (index + 1) > self.size:
            text = f"queue {index}, of {size} descriptors, is larger than what it keeps of it"
            raise BadPeer("memory", text)
        return here + each * index


NOTHING = Inflight(0, 0, 0, 0)


def unpack(message: Message, queues: int) -> Inflight:
    """What it says. Raises BadPeer: it is no such message, or of more queues than there are."""
    if len(message.payload) not in (LAYOUT.size, UNPADDED):
        text = f"{message.name}: {len(message.payload)} bytes instead of {LAYOUT.size}"
        raise BadPeer("length", text)
    found = Inflight(*LAYOUT.unpack(message.payload.ljust(LAYOUT.size, b"\0")))
    if not 1 <= found.queues <= queues or not 1 <= found.queue_size <= vq.SIZE_MAX:
        text = f"{message.name}: {found.queues} queues of {found.queue_size} descriptors"
        raise BadPeer("queue", text)
    if found.offset % inflight.ALIGN:
        raise BadPeer("memory", f"{message.name}: at {found.offset}, which is not aligned")
    return found


def create(wanted: Inflight, *, packed: bool) -> tuple[bytes, int]:
    """New regions, unused. Returns the reply's payload and the file, the caller's. Raises OSError."""
    size = wanted.queues * inflight.region_bytes(wanted.queue_size, packed=packed)
    fd = sealed_file("vforward-inflight", size, sparse=True)  # the peer may keep it, and ask again
    return LAYOUT.pack(size, 0, wanted.queues, wanted.queue_size), fd


def resume(words: NDArray[np.uint64], region: int, base: int, *, known: bool) -> None:
    """Have a queue, all but started, go on where it was left, by this device or another.

    A split queue's used.idx says it. A packed one goes on where its region says (0: it has none), if a
    device has used that. If not, or where the queue was left is known, for it ran in this session: at
    base, a position. Raises BadPeer: the queue has no such position.
    """
    words[vq.REGION] = 0
    if not int(words[vq.FEATURES]) & vq.RING_PACKED:
        vq.resume(words)
        if region:
            inflight.prepare_split(words, region)
        return
    words[vq.REGION] = region
    recovered = bool(region) and not known and bool(inflight.prepared(region))
    if recovered:
        base = int(inflight.recover(words))
    if base < 0 or base & position.NUMBER >= int(words[vq.SIZE]):
        raise BadPeer("queue", "a packed queue cannot go on behind its end")
    if region and not recovered:
        inflight.prepare(words, region, base)
    pk.resume(words, base)
