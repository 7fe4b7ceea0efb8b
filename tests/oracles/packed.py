# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a packed virtqueue, from VIRTIO 1.2 section 2.8, for one device to be held to.

Plain Python over a guest's memory, which is anything that can be read and written by slices. A position
is a descriptor's number and, in bit 15, a wrap counter, as in the event suppression structures.
"""

import struct

NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15
ENABLE, DISABLE, AT_DESCRIPTOR = 0, 1, 2
WRAP = 1 << 15
FIRST = 0 | WRAP
"""Where both sides begin (section 2.8.1)."""


def step(position, n, size):
    """The position n descriptors on."""
    number, wrap = position % WRAP + n, position & WRAP
    while number >= size:
        number, wrap = number - size, wrap ^ WRAP
    return number | wrap


def passed(event, old, new, size):
    """Whether the event's position is among those from old on, before new, at most a lap (2.8.10)."""
    while old != new:
        if old == event:
            return True
        old = step(old, 1, size)
    return False


class Driver:
    """A queue of size descriptors. at: offset of its three parts in memory; base: memory's address.

    start: the position where both sides go on; what lies before it has been used in an earlier lap.
    Buffer ids are given in an order that is not that of the descriptors.
    """

    def __init__(self, memory, base, at, size, *, event_idx=False, start=FIRST):
        self.memory, self.base, self.size, self.event_idx = memory, base, size, event_idx
        self.desc = at
        self.avail = at + 16 * size  # driver event suppression
        self.used = self.avail + 4  # device event suppression
        self.end = self.used + 4
        self.free = [(7 * n + 3) % size if size % 7 else n for n in range(size)]
        self.chains = {}  # id -> how many descriptors
        self.added = self.seen = start
        self.room = size
        self.held = None  # what is to be written to show what is held
        self._store("<HH", self.avail, 0, ENABLE)
        self._store("<HH", self.used, 0, ENABLE)
        for number in range(size):
            lap = start & WRAP if number < start % WRAP else ~start & WRAP
            self._store("<QIHH", at + 16 * number, 0, 0, 0, AVAIL | USED if lap else 0)

    def addresses(self):
        """Guest addresses of descriptors, driver event suppression, device event suppression."""
        return self.base + self.desc, self.base + self.avail, self.base + self.used

    def add(self, pieces, *, write, indirect=None):
        """Make a buffer available: pieces (address, bytes). indirect: address of room for a table.

        Returns its id, or None: there are not enough free descriptors.
        """
        needed = 1 if indirect is not None else len(pieces)
        if needed > self.room:
            return None
        number = self.free.pop()
        kind = WRITE if write else 0
        if indirect is not None:
            for i, (where, length) in enumerate(pieces):
                self._store("<QIHH", indirect - self.base + 16 * i, where, length, 0, kind)
            listed = [(indirect, 16 * len(pieces), INDIRECT)]
        else:
            last = len(pieces) - 1
            listed = [(*one, kind | (NEXT if i < last else 0)) for i, one in enumerate(pieces)]
        self.put(listed, number)
        self.chains[number] = needed
        self.room -= needed
        return number

    def put(self, listed, number):
        """Write descriptors (address, bytes, flags) of one buffer, its first one's flags last."""
        position, flags = self.added, []
        for where, length, kind in listed:
            at = self.desc + 16 * (position % WRAP)
            self._store("<QIH", at, where, length, number)
            flags.append((at + 14, kind | (AVAIL if position & WRAP else USED)))
            position = step(position, 1, self.size)
        if self.held == []:
            self.held.append(flags.pop(0))
        for at, value in reversed(flags):
            self._store("<H", at, value)
        self.added = position

    def hold(self):
        """Let the device see none of the buffers that are added, until they are shown together."""
        self.held = []

    def show(self):
        held, self.held = self.held, None
        for at, value in held:
            self._store("<H", at, value)

    def take_used(self):
        """What the device has used since: (id, bytes written), in its order."""
        found = []
        while True:
            at = self.desc + 16 * (self.seen % WRAP)
            length, number, flags = self._load("<IHH", at + 8)
            if flags & (AVAIL | USED) != (AVAIL | USED if self.seen & WRAP else 0):
                return found
            if not flags & WRITE:
                length = 0  # section 2.8.3: it means nothing
            n = self.chains.pop(number)
            self.free.append(number)
            self.room += n
            self.seen = step(self.seen, n, self.size)
            found.append((number, length))

    def cell(self, k):
        """Where, in memory, the device writes 8 bytes to use the k-th of the buffers that it has."""
        before = list(self.chains.values())[:k]  # in the order in which they were added
        return self.desc + 16 * (step(self.seen, sum(before), self.size) % WRAP) + 8

    def interrupt_at(self, event):
        """Ask for an interrupt when the descriptor at this position has been used (EVENT_IDX)."""
        self._store("<HH", self.avail, event, AT_DESCRIPTOR)

    def no_interrupts(self, wish=DISABLE):
        """Ask for none."""
        self._store("<HH", self.avail, 0, wish)

    def must_kick(self, old):
        """Whether the device wants to hear of the buffers added since position old."""
        event, wish = self._load("<HH", self.used)
        if wish == AT_DESCRIPTOR:
            assert self.event_idx
            return passed(event, old, self.added, self.size)
        return wish == ENABLE

    def _store(self, layout, at, *values):
        packed = struct.pack(layout, *values)
        self.memory[at : at + len(packed)] = packed

    def _load(self, layout, at):
        return struct.unpack(layout, bytes(self.memory[at : at + struct.calcsize(layout)]))
