# SPDX-License-Identifier: Apache-2.0
"""vhost-user, the backend's side: what a peer's messages make of its queues.

Source: QEMU, docs/interop/vhost-user.rst. Plain Python: messages set queues up and take them down;
packets are others' work (rings.virtqueue).

Queue 2k is the guest's k-th receive queue, 2k + 1 its k-th transmit queue. A queue runs from when all
that it needs is there: memory, size, addresses, a kick, and that it is enabled. It is stopped, and
a quiet point waited for, before anything of that changes. What the guest has sent by a queue before it
disables it is taken first; what it puts there later waits until it enables it again.

Where a split queue goes on is read in its own memory (virtqueue.resume): the index that the peer sends
is what this would say, or it is wrong, as it is after some reconnections. A packed queue's memory does
not say it: the peer does, or the region that it keeps for us (rings.vhost_inflight).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vforward.rings import position, vhost_inflight, vring
from vforward.rings import virtqueue as vq
from vforward.rings.eventfd import is_eventfd, what_is
from vforward.rings.net_features import HEADER_BYTES, HEADER_LEGACY, MRG_RXBUF
from vforward.rings.vhost_device import Device, Mapped
from vforward.rings.vhost_message import (
    ADDRESS,
    INDEX,
    NEED_REPLY,
    NO_FD,
    REPLY,
    STATE,
    U64,
    VERSION,
    BadPeer,
    Message,
    Request,
    broken,
    regions,
)

VERSION_1, PROTOCOL_FEATURES = 1 << 32, 1 << 30
FEATURES = (
    VERSION_1
    | PROTOCOL_FEATURES
    | MRG_RXBUF
    | vq.INDIRECT_DESC
    | vq.EVENT_IDX
    | vq.RING_PACKED
    | vq.IN_ORDER
)
"""What is done here for every peer. VERSION_1 always: without it DPDK's driver sends no features."""
PROTOCOL_MQ, PROTOCOL_REPLY_ACK, PROTOCOL_INFLIGHT_SHMFD = 1 << 0, 1 << 3, 1 << 12
PROTOCOL = PROTOCOL_MQ | PROTOCOL_REPLY_ACK | PROTOCOL_INFLIGHT_SHMFD
ALIGNED = {vq.DESC: 16, vq.AVAIL: 2, vq.USED: 4}
ALIGNED_PACKED = {vq.DESC: 16, vq.AVAIL: 4, vq.USED: 4}
FINISH_POINTS = 64
"""Quiet points at most that are awaited for what a guest has sent by a queue that it disables."""


@dataclass(eq=False)
class Queue:
    """What a peer has said of one queue."""

    index: int
    words: NDArray[np.uint64]
    size: int = 0
    addresses: dict[int, int] = field(default_factory=dict)  # DESC, AVAIL, USED: the peer's own
    base: int | None = None  # where it goes on, as SET_VRING_BASE says it, if that was said
    known: bool = False  # whether base is newer than what the peer keeps
    kicked: bool = False
    enabled: bool = False
    fds: dict[int, int] = field(default_factory=dict)  # by the request that brought them

    @property
    def running(self) -> bool:
        """Whether the worker may be in it."""
        return int(self.words[vq.STATE]) != vq.OFF


class Session:
    """One connection's state. handle is given each message; close ends it. One thread."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.queues = [Queue(i, words) for i, words in enumerate(device.queues)]
        self.features = device.features & ~vq.RING_PACKED  # until the peer says
        self.protocol_features = 0
        self._mapped: list[Mapped] = []
        self._kept, self._kept_here = vhost_inflight.NOTHING, 0

    def handle(self, message: Message) -> Message | None:
        """Do what the message asks. Returns the reply, if there is one. Raises BadPeer."""
        do = _HANDLERS.get(message.request)
        if do is None:
            raise BadPeer("request", f"{message.name} is not known here, nor was it offered")
        answer = do(self, message)
        if isinstance(answer, Message):
            return answer
        if answer is None:
            if not (message.flags & NEED_REPLY and self.protocol_features & PROTOCOL_REPLY_ACK):
                return None
            answer = U64.pack(0)
        return Message(message.request, VERSION | REPLY, answer)

    def check(self) -> None:
        """Raise BadPeer if memory has gone, or the worker has given up a queue."""
        given_up = [q for q in self.queues if int(q.words[vq.STATE]) == vq.BROKEN]
        if self._device.gone():  # asked last: it is why a queue was given up, then
            raise BadPeer("memory", vq.FAULTS[vq.Fault.MEMORY])
        for queue in given_up:
            fault = vq.Fault(int(queue.words[vq.FAULT]))
            raise broken(queue.index, fault, vq.FAULTS[fault])

    def close(self) -> None:
        """Stop all queues, forget the memory, close what the peer has sent."""
        self._stop(self.queues)
        for queue in self.queues:  # one that the worker gave up meanwhile is not the next peer's
            queue.words[vq.STATE] = vq.OFF
        self._device.unmap()
        for queue in self.queues:
            for request in list(queue.fds):
                self._keep(queue, request, -1)

    # One method for each request.

    def _get_features(self, _: Message) -> bytes:
        return U64.pack(self._device.features)

    def _set_features(self, message: Message) -> None:
        (features,) = message.unpack(U64)
        self.features = _offered("features", features, self._device.features)
        self._device.agreed(self.features)
        running = [queue for queue in self.queues if queue.running]
        self._stop(running)  # a change under way, between one pair of queues and the next
        self._update()

    def _nothing(self, _: Message) -> None:
        pass

    def _reset(self, _: Message) -> None:
        for queue in self.queues:
            queue.enabled = queue.kicked = False
        self._update()

    def _set_memory(self, message: Message) -> None:
        wanted = regions(message)
        self._stop(self.queues)
        self._mapped = []
        self._mapped = self._device.map(wanted, message.fds)
        self._update()

    def _set_size(self, message: Message) -> None:
        queue, size = self._numbered(message)
        self._check_size(size)
        self._stop([queue])
        queue.size = size
        self._update()

    def _set_addresses(self, message: Message) -> None:
        index, _, desc, used, avail, _ = message.unpack(ADDRESS)
        queue = self._queue(index)
        self._stop([queue])
        queue.addresses = {vq.DESC: desc, vq.AVAIL: avail, vq.USED: used}
        self._update()

    def _set_base(self, message: Message) -> None:
        queue, base = self._numbered(message)
        self._stop([queue])
        queue.base = base
        self._update()

    def _get_base(self, message: Message) -> bytes:
        queue, _ = self._numbered(message)
        self._stop([queue])
        queue.kicked = False
        base = _twice(_goes_on(queue.base)) if self._packed else (queue.base or 0) & 0xFFFF
        return STATE.pack(queue.index, base)

    def _set_enable(self, message: Message) -> None:
        queue, enabled = self._numbered(message)
        if not enabled and queue.index % 2 and queue.running:
            self._finish(queue.words)
        queue.enabled = bool(enabled)
        self._update()

    def _set_kick(self, message: Message) -> None:
        queue, fd = self._eventfd(message)
        self._stop([queue])
        self._keep(queue, message.request, fd)
        queue.kicked = True
        if fd >= 0 and queue.index % 2:
            self._device.watch(fd)
        self._update()

    def _set_call(self, message: Message) -> None:
        queue, fd = self._eventfd(message)
        if fd >= 0:
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
        queue.words[vq.CALL] = np.int64(fd).view(np.uint64)
        if queue.running:
            self._device.quiesce()
        self._keep(queue, message.request, fd)
        self._call(queue)  # nobody may have heard the last call by the one before: it was masked

    def _set_error(self, message: Message) -> None:
        queue, fd = self._eventfd(message)
        self._keep(queue, message.request, fd)

    def _get_protocol_features(self, _: Message) -> bytes:
        return U64.pack(PROTOCOL)

    def _set_protocol_features(self, message: Message) -> None:
        (features,) = message.unpack(U64)
        self.protocol_features = _offered("protocol features", features, PROTOCOL)

    def _get_queue_num(self, _: Message) -> bytes:
        return U64.pack(len(self.queues) // 2)

    def _get_inflight(self, message: Message) -> Message:
        wanted = vhost_inflight.unpack(message, len(self.queues))
        payload, fd = vhost_inflight.create(wanted, packed=self._packed)
        return Message(message.request, VERSION | REPLY, payload, [fd])

    def _set_inflight(self, message: Message) -> None:
        kept = vhost_inflight.unpack(message, len(self.queues))
        fd = message.take_fd()
        try:
            self._stop(self.queues)
            self._kept_here = 0
            self._kept_here = self._device.map_kept(kept.size, kept.offset, fd)
        finally:
            os.close(fd)
        self._kept = kept
        for queue in self.queues:
            queue.known = False
        self._update()

    # What they have in common.

    @property
    def _packed(self) -> bool:
        return bool(self.features & vq.RING_PACKED)

    def _check_size(self, size: int) -> None:
        if not 1 <= size <= vq.SIZE_MAX or (size & (size - 1) and not self._packed):
            of = "" if self._packed else ", a power of two"
            raise BadPeer("queue", f"a queue of {size} descriptors, not 1 to {vq.SIZE_MAX}{of}")

    def _queue(self, index: int) -> Queue:
        if index >= len(self.queues):
            raise BadPeer("queue", f"queue {index}: there are {len(self.queues)}")
        return self.queues[index]

    def _numbered(self, message: Message) -> tuple[Queue, int]:
        index, number = message.unpack(STATE)
        return self._queue(index), number

    def _eventfd(self, message: Message) -> tuple[Queue, int]:
        """The queue and the eventfd that is now ours, -1 if the peer has none."""
        (word,) = message.unpack(U64)
        queue = self._queue(word & INDEX)
        if word & NO_FD:
            return queue, -1
        fd = message.take_fd()
        if not is_eventfd(fd):
            text = f"{message.name}: {what_is(fd)} instead of an eventfd"
            os.close(fd)
            raise BadPeer("descriptor", text)
        return queue, fd

    def _keep(self, queue: Queue, request: int, fd: int) -> None:
        """Keep a descriptor in place of the one that was there. Nobody uses that one any more."""
        if request in queue.fds:
            before = queue.fds.pop(request)
            self._device.unwatch(before)
            os.close(before)
        if fd >= 0:
            queue.fds[request] = fd

    def _finish(self, words: NDArray[np.uint64]) -> None:
        """Wait until the worker has taken what is in a queue now, if that is soon."""
        left = int(vring.available(words))
        end = int(vring.number(words)) + left
        for _ in range(FINISH_POINTS):
            taken = left - ((end - int(vring.number(words))) & 0xFFFF)
            if not (vq.ready(words) and 0 <= taken < left):
                return
            self._device.quiesce()

    def _stop(self, queues: list[Queue]) -> None:
        running = [queue for queue in queues if queue.running]
        for queue in running:
            queue.words[vq.STATE] = vq.OFF
        if running:
            self._device.quiesce()
        for queue in running:
            queue.base = _twice(int(queue.words[vq.NEXT]))

    def _update(self) -> None:
        """Start and stop queues, as they now can or cannot run."""
        always = not self.features & PROTOCOL_FEATURES
        started = []
        for queue in self.queues:
            able = queue.kicked and queue.size and queue.addresses and self._mapped
            if not (able and (queue.enabled or always)):
                self._stop([queue])
            elif not queue.running:
                self._start(queue)
                started.append(queue)
        if any(queue.index % 2 for queue in started):
            self._device.quiesce()  # a worker that sleeps looks: no kick comes for what is there

    def _start(self, queue: Queue) -> None:
        self._check_size(queue.size)  # once more: there may be other features now
        words = queue.words
        for part, where in queue.addresses.items():
            words[part] = self._locate(where, part, queue.size)
        words[[vq.SIZE, vq.FEATURES]] = queue.size, self.features
        new = self.features & (VERSION_1 | MRG_RXBUF)
        words[vq.HEADER] = HEADER_BYTES if new else HEADER_LEGACY
        words[vq.CALL] = np.int64(queue.fds.get(Request.SET_VRING_CALL, -1)).view(np.uint64)
        region = self._kept.place(self._kept_here, queue.index, queue.size, packed=self._packed)
        vhost_inflight.resume(words, region, _goes_on(queue.base), known=queue.known)
        queue.known = True
        if queue.index % 2:  # what the peer sends: the worker may be asleep
            words[vq.IDLE] = vq.IDLE_POLLS
            vring.ask_for_kicks(words)
        vq.start(words)
        self._call(queue)  # the device before us may have died before it called for what it used

    def _call(self, queue: Queue) -> None:
        """Interrupt the driver, who looks then at what it has back. It may be for nothing."""
        if (fd := queue.fds.get(Request.SET_VRING_CALL, -1)) >= 0:
            self._device.signal(fd)

    def _locate(self, where: int, part: int, size: int) -> int:
        """Where a part of a queue lies here, by the peer's own address. Raises BadPeer."""
        n = vq.part_bytes(part, size, self.features)
        aligned = (ALIGNED_PACKED if self._packed else ALIGNED)[part]
        text = f"part of a queue, at {where:#x}, is not "
        for region, here in self._mapped:
            off = where - region.user
            if off >= 0 and off + n <= region.size:
                if (here + off) % aligned:
                    raise BadPeer("memory", f"{text}aligned to {aligned} bytes")
                return here + off
        raise BadPeer("memory", f"{text}in the shared memory")


def _goes_on(base: int | None) -> int:
    """The position at which a packed queue goes on, of what SET_VRING_BASE says of it.

    Bits 0 to 15: what the device before had not looked at. Bits 16 to 31: what it had not given back,
    which is taken again. DPDK's driver says the first alone when it begins (START). As the specification
    has it, that device would hold a whole ring or more, having given nothing back: then the first counts.
    """
    if base is None:
        return position.START
    looked, given = base & 0xFFFF, base >> 16
    return looked if given == 0 and looked & position.WRAP else given


def _twice(place: int) -> int:
    """What says so of a device that has given back all that it has looked at, as ours has."""
    return place << 16 | place


def _offered(what: str, asked: int, ours: int) -> int:
    if asked & ~ours:
        raise BadPeer("features", f"{what} {asked & ~ours:#x} were not offered")
    return asked


_HANDLERS: dict[int, Callable[[Session, Message], bytes | Message | None]] = {
    Request.GET_FEATURES: Session._get_features,
    Request.SET_FEATURES: Session._set_features,
    Request.SET_OWNER: Session._nothing,
    Request.RESET_OWNER: Session._reset,
    Request.SET_MEM_TABLE: Session._set_memory,
    Request.SET_VRING_NUM: Session._set_size,
    Request.SET_VRING_ADDR: Session._set_addresses,
    Request.SET_VRING_BASE: Session._set_base,
    Request.GET_VRING_BASE: Session._get_base,
    Request.SET_VRING_KICK: Session._set_kick,
    Request.SET_VRING_CALL: Session._set_call,
    Request.SET_VRING_ERR: Session._set_error,
    Request.GET_PROTOCOL_FEATURES: Session._get_protocol_features,
    Request.SET_PROTOCOL_FEATURES: Session._set_protocol_features,
    Request.GET_QUEUE_NUM: Session._get_queue_num,
    Request.SET_VRING_ENABLE: Session._set_enable,
    Request.GET_INFLIGHT_FD: Session._get_inflight,
    Request.SET_INFLIGHT_FD: Session._set_inflight,
}
