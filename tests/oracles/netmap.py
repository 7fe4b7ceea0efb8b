# SPDX-License-Identifier: Apache-2.0
"""netmap's ring ownership and its pipes, from netmap(4): queues of slots, no arithmetic modulo n."""

from collections import deque


def owned(n, first, last):
    """The numbers of the slots that are the user's, in order: from first up to last."""
    found = []
    slot = first
    while slot != last:
        found.append(slot)
        slot = (slot + 1) % n
    return found


def accepts(n, first, last, head, cur):
    """Whether a sync accepts head and cur: both in [first, last], cur not before head."""
    allowed = [*owned(n, first, last), last]
    if head not in allowed or cur not in allowed:
        return False
    return allowed.index(head) <= allowed.index(cur)


class Slot:
    """A place in both rings, and what is in it."""

    def __init__(self, number, buf):
        self.number, self.buf, self.len, self.more = number, buf, 0, False
        self.changed = False

    def content(self):
        """What the receiver sees."""
        return self.buf, self.len, self.more


class Direction:
    """One direction of a pipe: every slot is in exactly one queue.

    sender: its own, the last of which it may not use; staged: sent, but their packet is not complete;
    way: sent; receiver: its own; back: returned.
    """

    def __init__(self, bufs):
        self.sender = deque(Slot(i, buf) for i, buf in enumerate(bufs))
        self.staged, self.way, self.receiver, self.back = deque(), deque(), deque(), deque()

    def visible_to_sender(self):
        """Slots that the sender may fill: all of its own but the last."""
        return list(self.sender)[:-1]

    def txsync(self, count):
        """The sender has filled its first count slots."""
        for _ in range(count):
            slot = self.sender.popleft()
            self.staged.append(slot)
            if not slot.more:
                self.way.extend(self.staged)
                self.staged.clear()
        while self.back:
            self.sender.append(self.back.popleft())

    def rxsync(self, count):
        """The receiver is done with its first count slots."""
        for _ in range(count):
            self.back.append(self.receiver.popleft())
        while self.way:
            self.receiver.append(self.way.popleft())
