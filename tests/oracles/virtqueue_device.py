# SPDX-License-Identifier: Apache-2.0
"""The device's side of a split virtqueue, from VIRTIO 1.2 section 2.7, for one driver to be held to.

Plain Python over the driver's memory, which is anything that can be read and written by slices.
"""

import struct

NEXT, WRITE, INDIRECT = 1, 2, 4


class Device:
    """A queue of size descriptors; addresses as the driver names them, of memory that begins at base."""

    def __init__(self, memory, base, size, desc, avail, used, *, event_idx=False):
        self.memory, self.base, self.size, self.event_idx = memory, base, size, event_idx
        self.desc, self.avail, self.used = desc, avail, used
        self.taken = self.given = 0  # buffers, modulo 2**16

    def take(self):
        """The buffers made available since: (head, [(address, bytes, to be written)]), in order."""
        found = []
        (index,) = self._load("<H", self.avail + 2)
        assert (index - self.given) % 65536 <= self.size
        while self.taken != index:
            (head,) = self._load("<H", self.avail + 4 + 2 * (self.taken % self.size))
            found.append((head, self._chain(head)))
            self.taken = (self.taken + 1) % 65536
        return found

    def use(self, head, length, batch=1):
        """Give a buffer back. batch: and those before it, by this one entry (IN_ORDER, 2.6.9)."""
        self._store("<II", self.used + 4 + 8 * (self.given % self.size), head, length)
        self.given = (self.given + batch) % 65536
        self._store("<H", self.used + 2, self.given)

    def kick_after(self, n):
        """Ask for a kick when the n-th buffer from here is made available (EVENT_IDX)."""
        self._store("<H", self.used + 4 + 8 * self.size, (self.taken + n) % 65536)

    def no_kicks(self, wish=1):
        """Ask for none (without EVENT_IDX)."""
        self._store("<H", self.used, wish)

    def must_call(self, old):
        """Whether the driver wants to hear of the buffers given back since index old."""
        if not self.event_idx:
            return not self._load("<H", self.avail)[0] & 1
        (event,) = self._load("<H", self.avail + 4 + 2 * self.size)
        return (self.given - event - 1) % 65536 < (self.given - old) % 65536

    def read(self, pieces):
        """The bytes of a buffer."""
        return b"".join(
            bytes(self.memory[where - self.base : where - self.base + length])
            for where, length, _ in pieces
        )

    def write(self, pieces, data):
        """Fill a buffer from its start. Returns how many bytes of data it has taken."""
        done = 0
        for where, length, writable in pieces:
            assert writable
            part = data[done : done + length]
            at = where - self.base
            self.memory[at : at + len(part)] = part
            done += len(part)
        return done

    def _chain(self, number):
        pieces, seen = [], set()
        while True:
            assert number not in seen, "a loop"
            seen.add(number)
            where, length, flags, following = self._load("<QIHH", self.desc + 16 * number)
            assert not flags & INDIRECT
            pieces.append((where, length, bool(flags & WRITE)))
            if not flags & NEXT:
                return pieces
            number = following

    def _store(self, layout, at, *values):
        packed = struct.pack(layout, *values)
        at -= self.base
        self.memory[at : at + len(packed)] = packed

    def _load(self, layout, at):
        at -= self.base
        return struct.unpack(layout, bytes(self.memory[at : at + struct.calcsize(layout)]))
