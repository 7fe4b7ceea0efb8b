# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a split virtqueue, from VIRTIO 1.2 section 2.7, for one device to be held to.

Plain Python over a guest's memory, which is anything that can be read and written by slices.
"""

import struct

NEXT, WRITE, INDIRECT = 1, 2, 4


class Driver:
    """A queue of size descriptors. at: offset of its three parts in memory; base: memory's address."""

    def __init__(self, memory, base, at, size, *, event_idx=False, start=0):
        self.memory, self.base, self.size, self.event_idx = memory, base, size, event_idx
        self.desc = at
        self.avail = at + 16 * size
        self.used = (self.avail + 6 + 2 * size + 3) // 4 * 4
        self.end = self.used + 6 + 8 * size
        self.free = list(range(size))
        self.chains = {}  # head -> its descriptors
        self.added = self.seen = start
        self.held = False
        self._store("<HH", self.avail, 0, start)
        self._store("<HH", self.used, 0, start)
        if event_idx:
            self.interrupt_at(start)

    def addresses(self):
        """Guest addresses of descriptors, available ring and used ring."""
        return self.base + self.desc, self.base + self.avail, self.base + self.used

    def add(self, pieces, *, write, indirect=None):
        """Make a buffer available: pieces (address, bytes). indirect: address of room for a table.

        Returns its head, or None: there are not enough free descriptors.
        """
        needed = 1 if indirect is not None else len(pieces)
        if needed > len(self.free):
            return None
        numbers = [self.free.pop() for _ in range(needed)]
        if indirect is None:
            self._chain(self.desc, numbers, pieces, write)
        else:
            self._chain(indirect - self.base, list(range(len(pieces))), pieces, write)
            self._descriptor(self.desc, numbers[0], indirect, 16 * len(pieces), INDIRECT, 0)
        self.chains[numbers[0]] = numbers
        self._store("<H", self.avail + 4 + 2 * (self.added % self.size), numbers[0])
        self.added = (self.added + 1) % 65536
        if not self.held:
            self.show()
        return numbers[0]

    def hold(self):
        """Let the device see none of the buffers that are added, until they are shown together."""
        self.held = True

    def show(self):
        self.held = False
        self._store("<H", self.avail + 2, self.added)

    def take_used(self):
        """What the device has used since: (head, bytes written), in its order."""
        found = []
        (index,) = self._load("<H", self.used + 2)
        while self.seen != index:
            head, length = self._load("<II", self.used + 4 + 8 * (self.seen % self.size))
            self.free += self.chains.pop(head)
            found.append((head, length))
            self.seen = (self.seen + 1) % 65536
        return found

    def cell(self, k):
        """Where, in memory, the device writes 8 bytes to use the k-th of the buffers that it has."""
        return self.used + 4 + 8 * ((self.seen + k) % self.size)

    def interrupt_at(self, event):
        """Ask for an interrupt when the buffer of this index has been used (EVENT_IDX)."""
        self._store("<H", self.avail + 4 + 2 * self.size, event % 65536)

    def no_interrupts(self, wish=1):
        """Ask for none (without EVENT_IDX)."""
        self._store("<H", self.avail, wish)

    def must_kick(self, old):
        """Whether the device wants to hear of the buffers added since index old."""
        if not self.event_idx:
            return not self._load("<H", self.used)[0] & 1
        (event,) = self._load("<H", self.used + 4 + 8 * self.size)
        return need_event(event, self.added, old)

    def _chain(self, table, numbers, pieces, write):
        for i, (number, (where, length)) in enumerate(zip(numbers, pieces)):
            last = i == len(pieces) - 1
            flags = (WRITE if write else 0) | (0 if last else NEXT)
            self._descriptor(table, number, where, length, flags, 0 if last else numbers[i + 1])

    def _descriptor(self, table, number, where, length, flags, following):
        self._store("<QIHH", table + 16 * number, where, length, flags, following)

    def _store(self, layout, at, *values):
        packed = struct.pack(layout, *values)
        self.memory[at : at + len(packed)] = packed

    def _load(self, layout, at):
        return struct.unpack(layout, bytes(self.memory[at : at + struct.calcsize(layout)]))


def need_event(event, new, old):
    """vring_need_event of section 2.7.7.1: whether event is in [old, new), modulo 2**16."""
    return (new - event - 1) % 65536 < (new - old) % 65536
