"""Items through a ring between processes, at full speed: who pushes, who pops, and what has to come.

Each producer pushes 0, 1, 2 ... as u32 with its own number in the top bits, in batches of many
lengths. The consumer compares each item with the next of its producer: so what is lost, doubled or
out of order is wrong, and counted.

Run as a program, this is a producer: stress.py KIND PRODUCER ITEMS
"""

import os
import subprocess
import sys

import numpy as np

from vforward.jit.intrinsics import relax
from vforward.jit.kernel import kernel
from vforward.memory.arena import Arena
from vforward.rings import mpsc, spsc

ITEMS = int(os.environ.get("VFORWARD_STRESS_ITEMS", str(10**8)))
"""Of all producers together: a few seconds where each process has a CPU, minutes where they share one."""
SHIFT = 27
"""Bits of the number within a producer: 2**27 items are more than 10**8."""
SLOTS = 1024
BATCH = 256


def loops(push, pop):
    @kernel
    def produce(ring, scratch, first, n):
        sent = 0
        while sent < n:
            batch = min(1 + sent * 7 % scratch.size, n - sent)
            for i in range(batch):
                scratch[i] = first + sent + i
            done = 0
            while done < batch:
                pushed = push(ring, scratch[done:], batch - done)
                done += pushed
                if pushed == 0:
                    relax()
            sent += batch

    @kernel
    def consume(ring, scratch, following, n, patience):
        """How many of n items were the next of their producer, and how many came."""
        got, right, idle = 0, 0, 0
        while got < n and idle < patience:
            batch = pop(ring, scratch, 1 + got * 5 % scratch.size)
            for i in range(batch):
                producer = scratch[i] >> SHIFT
                number = scratch[i] & ((1 << SHIFT) - 1)
                right += number == following[producer]
                following[producer] = number + 1
            got += batch
            idle = 0 if batch else idle + 1
            if batch == 0:
                relax()
        return right, got

    return produce, consume


KINDS = {"spsc": loops(spsc.push, spsc.pop), "mpsc": loops(mpsc.push, mpsc.pop)}
NEW = {
    "spsc": lambda arena: arena.make("ring", spsc.items_for(SLOTS), np.uint32),
    "mpsc": lambda arena: arena.make("ring", mpsc.words_for(SLOTS), np.uint64),
}
PATIENCE = 2**33
"""Empty looks in a row, minutes of them, after which what has not come is lost."""


def run(kind, producers, items):
    """How many of the items came in order, and how many came at all."""
    _, consume = KINDS[kind]
    consume(np.zeros(32 + 8, np.uint32 if kind == "spsc" else np.uint64), np.zeros(BATCH, np.uint32),
            np.zeros(32, np.int64), 0, 1)  # fmt: skip
    with Arena.create(kind) as arena:
        ring = NEW[kind](arena)
        each = items // producers
        command = [sys.executable, __file__, kind]
        children = [
            subprocess.Popen([*command, str(number), str(each)]) for number in range(producers)
        ]
        try:
            scratch, following = np.zeros(BATCH, np.uint32), np.zeros(32, np.int64)
            right, got = consume(ring, scratch, following, each * producers, PATIENCE)
            assert [child.wait(60) for child in children] == [0] * producers
        finally:
            for child in children:
                child.kill()
                child.wait()
        {"spsc": spsc.Ring, "mpsc": mpsc.Ring}[kind](ring).check()
        assert following[:producers].tolist() == [each] * producers
    return int(right), int(got)


def main():
    kind, number, items = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ring = Arena.attach(kind).open("ring", writable=True)
    KINDS[kind][0](ring, np.zeros(BATCH, np.uint32), number << SHIFT, items)


if __name__ == "__main__":
    main()
