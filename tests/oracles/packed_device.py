# SPDX-License-Identifier: Apache-2.0
"""The device's side of a packed virtqueue, from VIRTIO 1.2 section 2.8, for one driver to be held to.

It is asked the same as the device of a split queue (oracles.virtqueue_device); a buffer's name is its id,
and where that one has indices this one has positions (oracles.packed).
"""

from oracles import virtqueue_device
from oracles.packed import (
    AT_DESCRIPTOR,
    AVAIL,
    DISABLE,
    ENABLE,
    FIRST,
    INDIRECT,
    NEXT,
    USED,
    WRAP,
    WRITE,
    passed,
    step,
)


class Device(virtqueue_device.Device):
    """avail, used: where the driver's and the device's event suppression structures are."""

    def __init__(self, *where, event_idx=False):
        super().__init__(*where, event_idx=event_idx)
        self.taken = self.given = FIRST
        self.there = []  # (id, descriptors) of the buffers that it has, in the order in which they came

    def take(self):
        """The buffers made available since: (id, [(address, bytes, to be written)]), in order."""
        found = []
        while (buffer := self._available()) is not None:
            number, pieces = buffer
            assert number not in [one for one, _ in self.there], "an id that the device has"
            self.there.append((number, len(pieces)))
            assert sum(n for _, n in self.there) <= self.size
            self.taken = step(self.taken, len(pieces), self.size)
            found.append(buffer)
        return found

    def use(self, head, length, batch=1):
        """Give a buffer back. batch: and those before it, by this one descriptor (IN_ORDER, 2.8.8)."""
        flags = (AVAIL | USED if self.given & WRAP else 0) | (WRITE if length else 0)
        at = self.desc + 16 * (self.given % WRAP)
        self._store("<IHH", at + 8, length, head % 65536, flags)
        last = [one for one, _ in self.there].index(head) if head in dict(self.there) else 0
        first = max(0, last + 1 - batch)
        gone = self.there[first : last + 1]
        del self.there[first : last + 1]
        self.given = step(self.given, sum(n for _, n in gone), self.size)

    def kick_after(self, n):
        """Ask for a kick when the n-th descriptor from here is made available (EVENT_IDX)."""
        self._store("<HH", self.used, step(self.taken, n, self.size), AT_DESCRIPTOR)

    def no_kicks(self, wish=DISABLE):
        """Ask for none."""
        self._store("<HH", self.used, 0, wish)

    def must_call(self, old):
        """Whether the driver wants to hear of the buffers given back since position old."""
        event, wish = self._load("<HH", self.avail)
        if wish == AT_DESCRIPTOR:
            assert self.event_idx
            return passed(event, old, self.given, self.size)
        return wish == ENABLE

    def _available(self):
        """The buffer at the position that is looked at next: (id, pieces), or None."""
        position, pieces = self.taken, []
        while True:
            at = self.desc + 16 * (position % WRAP)
            where, length, number, flags = self._load("<QIHH", at)
            if flags & (AVAIL | USED) != (AVAIL if position & WRAP else USED):
                assert not pieces, "a chain whose end is not available"
                return None
            assert not flags & INDIRECT
            pieces.append((where, length, bool(flags & WRITE)))
            assert len(pieces) <= self.size
            position = step(position, 1, self.size)
            if not flags & NEXT:
                return number, pieces
