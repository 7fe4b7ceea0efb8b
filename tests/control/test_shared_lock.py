# SPDX-License-Identifier: Apache-2.0
"""Many share it, or one has it alone; who wants it alone does not wait for those who come after him."""

import random
import threading

import pytest

from vforward.control.shared_lock import SharedLock

SECONDS = 60


class Block(threading.Thread):
    """Takes a lock in a thread of its own, and has it until ``end``."""

    def __init__(self, lock):
        super().__init__(daemon=True)
        self._lock, self._end = lock, threading.Event()
        self.inside = threading.Event()
        self.start()

    def run(self):
        with self._lock:
            self.inside.set()
            self._end.wait(SECONDS)

    def end(self):
        assert self.inside.wait(SECONDS)
        self._end.set()
        self.join(SECONDS)
        assert not self.is_alive()


def test_several_share_it():
    lock = SharedLock()
    blocks = [Block(lock.shared()) for _ in range(3)]
    assert all(block.inside.wait(SECONDS) for block in blocks)
    for block in blocks:
        block.end()


def test_who_wants_it_alone_waits_for_those_who_share_it_and_the_next_for_him():
    lock = SharedLock()
    first = Block(lock.shared())
    assert first.inside.wait(SECONDS)
    alone = Block(lock.alone())
    while lock._door.acquire(blocking=False):  # until he waits
        lock._door.release()
    late = Block(lock.shared())
    assert not alone.inside.is_set()
    first.end()
    assert alone.inside.wait(SECONDS)
    assert not late.inside.wait(0.05)
    alone.end()
    late.end()


def test_who_has_it_alone_may_take_it_again():
    lock = SharedLock()
    with lock.alone(), lock.alone(), lock.shared():
        pass
    Block(lock.alone()).end()


@pytest.mark.parametrize("kind", ["shared", "alone"])
def test_an_error_inside_lets_it_go(kind):
    lock = SharedLock()
    with pytest.raises(ValueError, match="inside"), getattr(lock, kind)():
        raise ValueError("inside")
    Block(lock.alone()).end()


def test_never_both():
    """Threads at random: whoever has it alone finds nobody else."""
    lock, inside, wrong = SharedLock(), set(), []

    def work(seed):
        draw, me = random.Random(seed), object()
        for _ in range(300):
            alone = draw.random() < 0.3
            with lock.alone() if alone else lock.shared():
                inside.add(me)
                if alone and inside != {me}:
                    wrong.append(len(inside))
                inside.discard(me)

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert wrong == []
