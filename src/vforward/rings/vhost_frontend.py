# SPDX-License-Identifier: Apache-2.0
"""vhost-user, the frontend's side: how a driver of ours sets a backend up.

Source: QEMU, docs/interop/vhost-user.rst. The backend only answers; whatever else it says, or answers
wrongly, breaks the protocol.

    SET_OWNER, GET_FEATURES, SET_FEATURES   what both can; with PROTOCOL_FEATURES also those
    GET_QUEUE_NUM                           with several pairs of queues: how many it has
    SET_MEM_TABLE                           one region: all that is shared (io.virtio_memory)
    SET_VRING_...                           for each queue; kicked once at the end, which starts it
    SET_VRING_ENABLE                        with PROTOCOL_FEATURES only, else they begin enabled
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NamedTuple

from vforward.rings import net_features as net
from vforward.rings import vhost_message
from vforward.rings.position import START
from vforward.rings.vhost_message import (
    ADDRESS,
    NEED_REPLY,
    REGION,
    REPLY,
    STATE,
    TABLE,
    U64,
    VERSION,
    BadPeer,
    Message,
    Region,
    Request,
)
from vforward.rings.vhost_user import (
    PROTOCOL_FEATURES,
    PROTOCOL_MQ,
    PROTOCOL_REPLY_ACK,
    VERSION_1,
)
from vforward.rings.virtqueue import EVENT_IDX, IN_ORDER, RING_PACKED

FEATURES = VERSION_1 | PROTOCOL_FEATURES | net.MRG_RXBUF | EVENT_IDX | IN_ORDER
"""What is taken of every backend that offers it."""
NEEDS = (
    (net.GUEST_TSO4, net.GUEST_CSUM | net.MRG_RXBUF),
    (net.GUEST_TSO6, net.GUEST_CSUM | net.MRG_RXBUF),
    (net.GUEST_ECN, net.GUEST_TSO4 | net.GUEST_TSO6),
    (net.HOST_TSO4, net.CSUM),
    (net.HOST_TSO6, net.CSUM),
    (net.HOST_ECN, net.HOST_TSO4 | net.HOST_TSO6),
)
"""Features, and those without all of which they are not taken (section 5.1.3.1 of VIRTIO 1.2).
GUEST_TSO4 and 6 without mergeable buffers would need buffers of 64 KB; the ECN ones both of TSO's."""


class Ring(NamedTuple):
    """A queue as the backend is told of it: addresses of its own view, and two eventfds."""

    size: int
    desc: int
    avail: int
    used: int
    kick: int
    call: int


def agree(offered: int, wanted: int) -> int:
    """The features that both can. Raises BadPeer when there is no VERSION_1, which we need."""
    features = offered & wanted
    if not features & VERSION_1:
        raise BadPeer("features", f"it offers no VERSION_1 (VIRTIO 1.0 and later): {offered:#x}")
    for feature, needed in NEEDS:
        if features & needed != needed:
            features &= ~feature
    return features


class Talk:
    """What is said on a connection. wait: wait for the backend to say something; whether it has."""

    def __init__(self, peer: socket.socket, wait: Callable[[], bool]) -> None:
        self._peer = peer
        self._wait = wait
        self.acknowledged = False
        """Whether the backend answers whatever is told with NEED_REPLY."""

    def say(self, request: Request, payload: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        """Say something that has no answer. Raises OSError."""
        vhost_message.send(self._peer, Message(request, VERSION, payload, list(fds)))

    def ask(self, request: Request, payload: bytes = b"") -> int:
        """Ask for a number. Raises BadPeer, OSError."""
        self.say(request, payload)
        return self._answer(request)

    def tell(self, request: Request, payload: bytes, fds: tuple[int, ...] = ()) -> None:
        """Say something that may fail. Raises BadPeer, OSError."""
        flags = VERSION | (NEED_REPLY if self.acknowledged else 0)
        vhost_message.send(self._peer, Message(request, flags, payload, list(fds)))
        if self.acknowledged and (error := self._answer(request)):
            raise BadPeer("refused", f"{request.name}: it answers {error}")

    def _answer(self, request: Request) -> int:
        if not self._wait():
            raise BadPeer("answer", f"{request.name}: no answer in time")
        message = vhost_message.receive(self._peer)
        if message is None:
            raise ConnectionResetError("it has left")
        with vhost_message.closing(message):
            if message.request != request or not message.flags & REPLY or message.fds:
                raise BadPeer("answer", f"{message.name} is no answer to {request.name}")
            return message.unpack(U64)[0]


def negotiate(talk: Talk, wanted: int, pairs: int = 1) -> int:
    """Agree on features. Raises BadPeer (it has fewer pairs of queues, for example), OSError."""
    talk.say(Request.SET_OWNER)
    features = agree(talk.ask(Request.GET_FEATURES), wanted | (net.MQ if pairs > 1 else 0))
    protocol, has = 0, 1
    if features & PROTOCOL_FEATURES:
        known = PROTOCOL_REPLY_ACK | (PROTOCOL_MQ if pairs > 1 else 0)
        protocol = talk.ask(Request.GET_PROTOCOL_FEATURES) & known
        talk.say(Request.SET_PROTOCOL_FEATURES, U64.pack(protocol))
        talk.acknowledged = bool(protocol & PROTOCOL_REPLY_ACK)
    if features & net.MQ and protocol & PROTOCOL_MQ:
        has = talk.ask(Request.GET_QUEUE_NUM)
    if has < pairs:
        raise BadPeer("queues", f"it has {has} of {pairs} pairs of queues: let both have as many")
    talk.say(Request.SET_FEATURES, U64.pack(features))
    return features


def share(talk: Talk, features: int, region: Region, fd: int, rings: list[Ring]) -> None:
    """Share memory that is laid out for these features, and start its queues.

    The kicks have to be written once already: the first one starts a queue. Raises BadPeer, OSError.
    """
    talk.tell(Request.SET_MEM_TABLE, TABLE.pack(1, 0) + REGION.pack(*region), (fd,))
    base = START << 16 | START if features & RING_PACKED else 0
    for index, ring in enumerate(rings):
        talk.say(Request.SET_VRING_NUM, STATE.pack(index, ring.size))
        talk.say(Request.SET_VRING_BASE, STATE.pack(index, base))
        where = ADDRESS.pack(index, 0, ring.desc, ring.used, ring.avail, 0)
        talk.say(Request.SET_VRING_ADDR, where)
        talk.say(Request.SET_VRING_CALL, U64.pack(index), (ring.call,))
        talk.say(Request.SET_VRING_KICK, U64.pack(index), (ring.kick,))
    if features & PROTOCOL_FEATURES:
        for index in range(len(rings)):
            talk.tell(Request.SET_VRING_ENABLE, STATE.pack(index, 1))
