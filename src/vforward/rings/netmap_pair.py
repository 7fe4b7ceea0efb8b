# SPDX-License-Identifier: Apache-2.0
"""A pipe as the server keeps it: its region, which ends are open, its spare buffers.

The server moves no packet: the ends do that between themselves (netmap_pipe). It lives as long as one
end is open; an end whose process has gone is repaired, and then free for the next.
"""

from __future__ import annotations

import contextlib
import socket

from vforward.errors import PortError, PortInUse
from vforward.rings.netmap_layout import (
    BUF_SIZE,
    EXTRA_MOST,
    bounded_slots,
    give_extra,
    link_at,
)
from vforward.rings.netmap_message import Reply
from vforward.rings.netmap_names import Kind, Name
from vforward.rings.netmap_pipe import forget_waits, reclaim
from vforward.rings.netmap_region import Region

SPARE = 256
"""Buffers of a pipe beyond those in its slots, for extra buffers and for repairs."""
BELL_ROOM = 1 << 20
"""Bytes: more than a socket holds."""


class Pair:
    """A pipe: master is end 0, slave end 1."""

    def __init__(self, name: Name, tx: int, rx: int, extra: int) -> None:
        """Made by whoever opens the first end: tx and rx are its slots. Raises PortError."""
        first, second = bounded_slots(tx, name), bounded_slots(rx, name)
        slots = ((first, second), (second, first))
        bufs = first + second + SPARE + min(extra, EXTRA_MOST)
        self.region = Region(str(name), slots if name.end == 0 else slots[::-1], bufs)
        self.open = [False, False]
        try:
            self.bells = socket.socketpair()
        except BaseException:
            self.region.close()
            raise
        self._broken = False
        for end in (0, 1):
            at, n = self.region.where.ends[end].tx, self.region.where.slots[end][0]
            self.region.format(end, str(Name(Kind.PIPE, name.group, "{}"[end])))
            self.region.give(at, n)

    def take(self, name: Name, extra: int) -> tuple[Reply, list[int]]:
        """Open an end: where its rings are, its descriptors. Raises PortError."""
        end = name.end
        if self.open[end]:
            raise PortInUse(f"netmap port {name} is in use")
        if self._broken:
            raise PortError(
                f"netmap port {name}: its last owner left more damage than there are spare "
                "buffers; close the other end, too"
            )
        region, where = self.region, self.region.where
        granted = [region.free.pop() for _ in range(min(extra, len(region.free)))]
        give_extra(region.memory, where, end, granted)
        with contextlib.suppress(BlockingIOError):  # what has woken its last owner, or was to
            self.bells[end].recv(BELL_ROOM, socket.MSG_DONTWAIT)
        self.open[end] = True
        mine, theirs = where.ends[end], where.ends[1 - end]
        reply = Reply(
            kind=Kind.PIPE.value, size=where.size, nifp=mine.nifp, tx=mine.tx, rx=mine.rx,
            tx_peer=theirs.rx, rx_peer=theirs.tx, tx_link=link_at(end), rx_link=link_at(1 - end),
            bufs=where.bufs, buf_size=BUF_SIZE, tx_slots=where.slots[end][0],
            rx_slots=where.slots[end][1], extra=len(granted), mem_id=region.mem_id,
        )  # fmt: skip
        return reply, [region.descriptor, self.bells[end].fileno()]

    def release(self, end: int) -> bool:
        """Its process has closed the end, or is dead. Returns whether the pipe has ended."""
        self.open[end] = False
        if not any(self.open):
            self.close()
            return True
        forget_waits(self.region.memory, end)
        if not reclaim(self.region.memory, self.region.where, end, self.region.free):
            self._broken = True
        return False

    def close(self) -> None:
        """Give back memory and descriptors."""
        self.region.close()
        for bell in self.bells:
            bell.close()
