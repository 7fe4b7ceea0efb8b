# SPDX-License-Identifier: Apache-2.0
"""What messages make of queues: against a device that only notes what it is asked to do."""

import itertools
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from fuzzing import cases, open_fds
from vforward.rings import virtqueue as vq
from vforward.rings.net_features import OFFLOADS
from vforward.rings.vhost_device import Mapped
from vforward.rings.vhost_message import BadPeer, Message, Request
from vforward.rings.vhost_user import FEATURES, Session

R = Request
USER = 0x7000_0000_0000
REASONS = ("request", "features", "length", "queue", "descriptor", "memory")
CASES = cases(1_000_000)  # 20 seconds


class Device:
    def __init__(self):
        self.features = FEATURES | OFFLOADS
        self.queues = vq.new(2)
        self.memory = np.zeros(1 << 16, np.uint8)
        self.here = (self.memory.ctypes.data + 4095) // 4096 * 4096
        self.mapped = False
        self.watched = set()
        self.quiet_points = 0
        self.seen = []  # states of the queues at each of them
        self.signals = []  # (descriptor, state of queue 1, quiet points so far)
        self.refuse = self.lost = False

    def map(self, wanted, fds):
        assert not any(int(queue[vq.STATE]) for queue in self.queues), "mapped under a queue"
        if self.refuse:
            raise BadPeer("memory", "refused")
        self.mapped = True
        return [Mapped(region, self.here) for region in wanted]

    def unmap(self):
        assert not any(int(queue[vq.STATE]) for queue in self.queues), "unmapped under a queue"
        self.mapped = False

    def gone(self):
        return self.lost

    def agreed(self, features):
        pass

    def watch(self, fd):
        self.watched.add(fd)

    def unwatch(self, fd):
        self.watched.discard(fd)

    def signal(self, fd):
        assert str(Path(f"/proc/self/fd/{fd}").readlink()) == "anon_inode:[eventfd]"
        self.signals.append((fd, state(self), self.quiet_points))

    def quiesce(self):
        self.quiet_points += 1
        self.seen.append([int(queue[vq.STATE]) for queue in self.queues])


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def session(device):
    before = open_fds()
    made = Session(device)
    yield made
    made.close()
    assert not device.mapped
    assert not device.watched
    assert open_fds() <= before


def say(session, request, payload=b"", fds=(), flags=1):
    """Handle a message as the port does. Returns the reply's payload."""
    message = Message(request, flags, payload, [os.dup(fd) for fd in fds])
    try:
        reply = session.handle(message)
    finally:
        message.close()
    if reply is None:
        return None
    assert (reply.request, reply.flags) == (request, 1 | 4)
    return reply.payload


def u64(value):
    return struct.pack("=Q", value)


def pair(index, value):
    return struct.pack("=II", index, value)


def event(session, request, index):
    fd = os.eventfd(0)
    try:
        return say(session, request, u64(index), [fd])
    finally:
        os.close(fd)


def table(size=1 << 15, user=USER):
    return struct.pack("=IIQQQQ", 1, 0, 0x1000, size, user, 0)


def share(session, **more):
    fd = os.memfd_create("x")
    try:
        return say(session, R.SET_MEM_TABLE, table(**more), [fd])
    finally:
        os.close(fd)


def place(session, index, desc=0, avail=4096, used=8192):
    where = struct.pack("=IIQQQQ", index, 0, USER + desc, USER + used, USER + avail, 0)
    return say(session, R.SET_VRING_ADDR, where)


STEPS = {
    "memory": share,
    "size": lambda session: say(session, R.SET_VRING_NUM, pair(1, 64)),
    "addresses": lambda session: place(session, 1),
    "kick": lambda session: event(session, R.SET_VRING_KICK, 1),
    "enable": lambda session: say(session, R.SET_VRING_ENABLE, pair(1, 1)),
}


def state(device, index=1):
    return int(device.queues[index][vq.STATE])


@pytest.mark.parametrize("order", list(itertools.permutations(STEPS)), ids="-".join)
def test_a_queue_runs_when_all_is_there_in_whatever_order_it_came(session, device, order):
    say(session, R.SET_FEATURES, u64(FEATURES))
    for name in order:
        assert state(device) == vq.OFF
        STEPS[name](session)
    assert state(device) == vq.READY
    assert state(device, 0) == vq.OFF
    queue = device.queues[1]
    assert queue[[vq.DESC, vq.AVAIL, vq.USED]].tolist() == [
        device.here + off for off in (0, 4096, 8192)
    ]
    assert (int(queue[vq.SIZE]), int(queue[vq.HEADER])) == (64, 12)
    assert len(device.watched) == 1


def start(session):
    for step in STEPS.values():
        step(session)


def test_the_index_is_the_one_in_memory(session, device):
    view = device.memory[device.here - device.memory.ctypes.data :]
    view[8192 + 2 : 8192 + 4] = (0x34, 0x12)
    say(session, R.SET_VRING_BASE, pair(1, 7))
    start(session)
    assert int(device.queues[1][vq.NEXT]) == 0x1234
    assert say(session, R.GET_VRING_BASE, pair(1, 0)) == pair(1, 0x1234)
    assert state(device) == vq.OFF


@pytest.mark.parametrize(
    ("said", "goes_on"),
    [
        (0x8000_8000, 0x8000),  # a queue that nobody has used
        (0x8000, 0x8000),  # DPDK's driver and SPDK's say so
        (0x8003_8003, 0x8003),
        (0x0003_0003, 0x0003),
        (0x8005_8009, 0x8005),  # four were taken, and not given back: they are taken again
        (0x8005_0002, 0x8005),  # the same, beyond the end
        (0x0000_0009, 0x0000),  # nine of them, from the beginning of a lap on
        (0x0000_8009, 0x8009),  # a ring of 64 and nine more: there is no such thing
        (0x8000_0000, 0x8000),
        (0x0000_0000, 0x0000),
    ],
)
def test_where_a_packed_queue_goes_on(session, device, said, goes_on):
    """vhost-user.rst: bits 0 to 15 what is looked at next, 16 to 31 where what is given back goes."""
    say(session, R.SET_FEATURES, u64(FEATURES))
    say(session, R.SET_VRING_BASE, pair(1, said))
    start(session)
    assert int(device.queues[1][vq.NEXT]) == goes_on
    assert say(session, R.GET_VRING_BASE, pair(1, 0)) == pair(1, goes_on << 16 | goes_on)


def test_of_a_split_queue_no_bit_of_it_counts(session, device):
    say(session, R.SET_FEATURES, u64(FEATURES & ~vq.RING_PACKED))
    say(session, R.SET_VRING_BASE, pair(1, 0xFFFF_FFFF))
    start(session)
    assert int(device.queues[1][vq.NEXT]) == 0
    assert say(session, R.GET_VRING_BASE, pair(1, 0)) == pair(1, 0)


@pytest.mark.parametrize(
    ("layout", "said", "answer"),
    [
        (0, None, 0),
        (0, 7, 7),
        (0, 0x8000, 0x8000),
        (0, 0x0005_FFFF, 0xFFFF),
        (vq.RING_PACKED, None, 0x8000_8000),
        (vq.RING_PACKED, 0x0003_0003, 0x0003_0003),
    ],
)
def test_where_a_queue_goes_on_that_has_not_run(device, layout, said, answer):
    """What the peer has said of it; nothing of what the last peer's did."""
    device.queues[1][vq.NEXT] = 99
    session = Session(device)
    say(session, R.SET_FEATURES, u64(FEATURES & ~vq.RING_PACKED | layout))
    if said is not None:
        say(session, R.SET_VRING_BASE, pair(1, said))
    for _ in range(2):
        assert say(session, R.GET_VRING_BASE, pair(1, 0)) == pair(1, answer)
    session.close()


RESTARTS = {
    "enable": lambda session: [say(session, R.SET_VRING_ENABLE, pair(1, on)) for on in (0, 1)],
    "memory": share,
    "features": lambda session: say(session, R.SET_FEATURES, u64(FEATURES & ~vq.EVENT_IDX)),
    "kick": lambda session: event(session, R.SET_VRING_KICK, 1),
}


@pytest.mark.parametrize("how", RESTARTS)
def test_a_sleeping_worker_looks_at_a_queue_that_starts(session, device, how):
    """By EVENT_IDX no kick comes for what was made available before it ran."""
    start(session)
    assert device.seen == [[vq.OFF, vq.READY]]
    device.seen.clear()
    RESTARTS[how](session)
    assert device.seen == [[vq.OFF, vq.OFF], [vq.OFF, vq.READY]]


@pytest.mark.parametrize("how", RESTARTS)
def test_the_driver_is_called_when_a_queue_starts(session, device, how):
    """For what a device before gave back, and died before it called (as libvhost-user does)."""
    event(session, R.SET_VRING_CALL, 1)
    device.signals.clear()
    start(session)
    fd = int(device.queues[1][vq.CALL])
    assert device.signals == [(fd, vq.READY, 0)]
    device.signals.clear()
    RESTARTS[how](session)
    assert [one[:2] for one in device.signals] == [(fd, vq.READY)]


@pytest.mark.parametrize("how", ["base", "disable", "reset", "close", "memory"])
def test_a_queue_is_stopped_at_a_quiet_point(session, device, how):
    start(session)
    before = device.quiet_points
    if how == "base":
        say(session, R.GET_VRING_BASE, pair(1, 0))
    elif how == "disable":
        say(session, R.SET_VRING_ENABLE, pair(1, 0))
    elif how == "reset":
        say(session, R.RESET_OWNER)
    elif how == "close":
        session.close()
    else:
        device.refuse = True
        with pytest.raises(BadPeer):
            share(session)
    assert state(device) == vq.OFF
    assert device.quiet_points == before + 1


def test_a_stopped_queue_needs_a_kick(session, device):
    start(session)
    say(session, R.GET_VRING_BASE, pair(1, 0))
    say(session, R.SET_VRING_ENABLE, pair(1, 1))
    assert state(device) == vq.OFF
    event(session, R.SET_VRING_KICK, 1)
    assert state(device) == vq.READY


def test_new_memory_under_a_running_queue(session, device):
    start(session)
    device.here += 4096
    share(session)
    assert state(device) == vq.READY
    assert int(device.queues[1][vq.DESC]) == device.here


def test_features_between_two_queues_do_not_reset_any(session, device):
    start(session)
    device.queues[1][vq.NEXT] = 0
    say(session, R.SET_FEATURES, u64(FEATURES & ~vq.EVENT_IDX))
    assert state(device) == vq.READY
    assert not int(device.queues[1][vq.FEATURES]) & vq.EVENT_IDX


def test_without_protocol_features_a_queue_starts_enabled(session, device):
    say(session, R.SET_FEATURES, u64(1 << 32))
    for name in ("memory", "size", "addresses", "kick"):
        STEPS[name](session)
    assert state(device) == vq.READY


def test_a_legacy_guest_has_a_shorter_header(session, device):
    say(session, R.SET_FEATURES, u64(0))
    start(session)
    assert int(device.queues[1][vq.HEADER]) == 10


def test_a_new_call_descriptor_while_it_runs(session, device):
    start(session)
    event(session, R.SET_VRING_CALL, 1)
    first = int(device.queues[1][vq.CALL])
    event(session, R.SET_VRING_CALL, 1)
    second = int(device.queues[1][vq.CALL])
    assert str(Path(f"/proc/self/fd/{second}").readlink()) == "anon_inode:[eventfd]"
    assert first != second or not os.path.lexists(f"/proc/self/fd/{first}")
    assert not os.get_blocking(second)
    say(session, R.SET_VRING_CALL, u64(1 | 1 << 8))
    assert int(device.queues[1][vq.CALL].view(np.int64)) == -1
    event(session, R.SET_VRING_ERR, 1)


def test_a_new_call_descriptor_is_written_when_nobody_uses_the_old_one(session, device):
    """What called by the old one meanwhile may have been heard by nobody: QEMU had masked it."""
    for step in (lambda: None, lambda: start(session)):
        step()
        before = device.quiet_points
        device.signals.clear()
        event(session, R.SET_VRING_CALL, 1)
        fd, ran = int(device.queues[1][vq.CALL]), int(state(device) == vq.READY)
        assert device.signals == [(fd, state(device), before + ran)]
    device.signals.clear()
    say(session, R.SET_VRING_CALL, u64(1 | 1 << 8))
    assert device.signals == []


def test_a_queue_without_a_kick_descriptor_is_polled(session, device):
    for name in ("memory", "size", "addresses", "enable"):
        STEPS[name](session)
    say(session, R.SET_VRING_KICK, u64(1 | 1 << 8))
    assert state(device) == vq.READY
    assert not device.watched


def test_acknowledgements(session):
    assert say(session, R.SET_OWNER, flags=9) is None  # not agreed on
    say(session, R.SET_PROTOCOL_FEATURES, u64(8))
    assert say(session, R.SET_OWNER, flags=9) == u64(0)
    assert say(session, R.SET_OWNER) is None
    assert say(session, R.GET_FEATURES, flags=9) == u64(FEATURES | OFFLOADS)
    assert say(session, R.GET_PROTOCOL_FEATURES) == u64(9 | 1 << 12)
    assert say(session, R.GET_QUEUE_NUM) == u64(1)


@pytest.mark.parametrize(
    ("request_", "payload", "reason"),
    [
        (0, b"", "request"),
        (99, b"", "request"),
        (R.SET_FEATURES, u64(1 << 36), "features"),
        (R.SET_PROTOCOL_FEATURES, u64(1 << 1), "features"),
        (R.SET_FEATURES, b"1234", "length"),
        (R.SET_VRING_NUM, pair(2, 64), "queue"),
        (R.SET_VRING_NUM, pair(2**32 - 1, 64), "queue"),
        (R.SET_VRING_NUM, pair(0, 0), "queue"),
        (R.SET_VRING_NUM, pair(0, 65536), "queue"),
        (R.SET_VRING_NUM, pair(0, 100), "queue"),
        (R.SET_VRING_KICK, u64(0), "descriptor"),
        (R.SET_VRING_KICK, u64(9), "queue"),
        (R.SET_MEM_TABLE, table(), "memory"),
    ],
)
def test_what_is_refused(session, request_, payload, reason):
    with pytest.raises(BadPeer) as caught:
        say(session, request_, payload)
    assert caught.value.reason == reason


@pytest.mark.parametrize("request_", [R.SET_VRING_KICK, R.SET_VRING_CALL, R.SET_VRING_ERR])
def test_only_eventfds_are_waited_for_and_written(session, request_):
    read, write = os.pipe()
    for fd in (read, write):
        with pytest.raises(BadPeer, match="instead of an eventfd"):
            say(session, request_, u64(1), [fd])
        os.close(fd)


@pytest.mark.parametrize(
    ("features", "size", "text"),
    [
        (FEATURES & ~vq.RING_PACKED, 100, "100 descriptors, not 1 to 32768, a power of two$"),
        (FEATURES & ~vq.RING_PACKED, 0, "0 descriptors, not 1 to 32768, a power of two$"),
        (FEATURES, 0, "0 descriptors, not 1 to 32768$"),
        (FEATURES, 32769, "32769 descriptors, not 1 to 32768$"),
    ],
)
def test_what_is_said_of_a_wrong_size(session, features, size, text):
    say(session, R.SET_FEATURES, u64(features))
    with pytest.raises(BadPeer, match=text):
        say(session, R.SET_VRING_NUM, pair(1, size))


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"desc": -16}, "is not in the shared memory"),
        ({"desc": 8}, "is not aligned to 16 bytes"),
        ({"avail": 1}, "is not aligned to 2 bytes"),
        ({"used": 2}, "is not aligned to 4 bytes"),
        ({"used": (1 << 15) - 4}, "is not in the shared memory"),
        ({"desc": 1 << 40}, "is not in the shared memory"),
    ],
)
def test_queues_outside_of_the_memory(session, device, where, text):
    for name in ("memory", "size", "kick", "enable"):
        STEPS[name](session)
    with pytest.raises(BadPeer, match=text) as caught:
        place(session, 1, **where)
    assert caught.value.reason == "memory"
    assert state(device) == vq.OFF


def test_a_queue_that_the_worker_gave_up(session, device):
    start(session)
    session.check()
    device.lost = True
    with pytest.raises(BadPeer) as caught:
        session.check()
    assert caught.value.reason == "memory"
    device.lost = False
    vq.give_up(device.queues[1], vq.Fault.ADDRESS)
    with pytest.raises(BadPeer, match="queue 1: an address outside"):
        session.check()


@pytest.mark.slow
def test_any_messages_at_all():
    """Random messages in random order: each is answered or refused, and nothing leaks."""
    source = random.Random(5)
    before = open_fds()
    event_fd, memory_fd = os.eventfd(0), os.memfd_create("x")
    numbers = (0, 1, 2, 64, 256, 1 << 8, 1 << 15, USER, USER + 4096, USER + 8192, FEATURES, 2**32)
    outcomes = {"done": 0}
    session, ran = Session(Device()), 0

    def number():
        picked = source.choice(numbers)
        return picked if source.random() < 0.9 else source.getrandbits(64)

    for _ in range(CASES):
        request = source.choice(list(R)) if source.random() < 0.97 else source.randrange(60)
        if request == R.SET_MEM_TABLE and source.random() < 0.8:
            payload, fds = table(), [memory_fd]
        elif request == R.SET_VRING_ADDR:
            index = source.randrange(3)
            payload = struct.pack("=IIQQQQ", index, 0, number(), number(), number(), 0)
            fds = []
        elif source.random() < 0.5:
            payload = pair(source.randrange(3), number() & 0xFFFFFFFF)
            fds = []
        else:
            payload, fds = u64(number()), [source.choice([event_fd, event_fd, memory_fd])]
        if source.random() < 0.02:
            payload = payload[: source.randrange(len(payload) + 1)]
        try:
            if source.random() < 0.4:
                source.choice(list(STEPS.values()))(session)
            else:
                say(session, request, payload, fds, source.choice([1, 9]))
            outcomes["done"] += 1
        except BadPeer as error:
            outcomes[error.reason] = outcomes.get(error.reason, 0) + 1
        ran += any(queue.running for queue in session.queues)
        if source.random() < 0.02:
            session.close()
            session = Session(Device())
    session.close()
    os.close(event_fd)
    os.close(memory_fd)
    assert open_fds() <= before
    assert outcomes.keys() == {"done", *REASONS}
    assert ran > CASES // 50
