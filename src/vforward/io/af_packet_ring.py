# SPDX-License-Identifier: Apache-2.0
"""The receive ring of a packet socket, and the tables by which nodes receive and send through one.

Sources: packet_mmap.rst, packet(7).

Slots: as small as a frame of the interface's MTU allows (2 KiB at 1500), so that the ring holds many;
longer frames (64 KB super-frames) wait in the socket's queue, which takes as much again, or QUEUE_MIN.
Where the queue may not grow to QUEUE_MIN (it needs CAP_NET_ADMIN outside of any user namespace, or a
net.core.rmem_max of half as much), slots are big enough for 64 KB instead.
"""

from __future__ import annotations

import os
import socket as sockets

import numpy as np
from numpy.typing import NDArray

from vforward.io import af_packet_rx as rx
from vforward.io import af_packet_tx as tx
from vforward.io import linux, shim
from vforward.layout import VECTOR_MAX

Kept = list[NDArray[np.generic]]
"""Arrays that a table knows by address only: to be kept as long as it is."""

SMALLEST_SLOT = 2048
LARGEST_SLOT = 69632  # 64 KB and all headers, a multiple of the page
SLOT_EXTRA = 128  # ring header, vnet header, Ethernet and two VLAN tags
BLOCK = 1 << 20  # what the kernel allocates in one piece, if it can
QUEUE_MIN = 4 << 20

SO_RCVBUFFORCE = 33
PACKET_COPY_THRESH = 7


def make_ring(
    fd: int, number: int, ring_mib: int, interface_mtu: int
) -> tuple[NDArray[np.uint64], Kept]:
    """Give a socket a ring, mapped (words RING; SLOT times SLOTS bytes). Returns its table.

    Raises OSError: Linux refuses one, or so much memory.
    """
    shim.check(shim.lib.vf_packet_version2(fd), "TPACKET_V2")
    slot = LARGEST_SLOT
    if queue_room(fd, max(ring_mib << 20, QUEUE_MIN)) >= QUEUE_MIN:
        slot = slot_for(interface_mtu)
    block = BLOCK // slot * slot
    n_blocks = max(1, (ring_mib << 20) // block)
    n_slots = n_blocks * (block // slot)
    shim.check(shim.lib.vf_packet_rx_ring(fd, block, n_blocks, slot, n_slots), "receive ring")
    where = np.zeros(1, np.uint64)
    shim.check(
        shim.lib.vf_mmap_shared(fd, n_blocks * block, shim.pointer(where)), "mapping the ring"
    )
    message = np.zeros(1, linux.MMSGHDR)
    pieces = np.zeros(rx.PIECES_MAX, linux.IOVEC)
    chain = np.zeros(rx.CHAIN_MAX, np.uint32)
    vnet = np.zeros(1, linux.VIRTIO_NET_HDR)
    message["msg_hdr"]["msg_iov"] = pieces.ctypes.data
    words = np.zeros(rx.RING_WORDS, np.uint64)
    words[rx.RING], words[rx.SLOT], words[rx.SLOTS], words[rx.PORT] = (
        where[0],
        slot,
        n_slots,
        number,
    )
    words[rx.FD], words[rx.RECEIVE] = fd, shim.address("vf_recvmmsg")
    words[rx.MESSAGE], words[rx.PIECES] = message.ctypes.data, pieces.ctypes.data
    words[rx.CHAIN], words[rx.VNET] = chain.ctypes.data, vnet.ctypes.data
    return words, [message, pieces, chain, vnet]


def sender(fd: int) -> tuple[NDArray[np.uint64], Kept]:
    """The table by which af-packet-tx sends through a socket."""
    messages = np.zeros(VECTOR_MAX, linux.MMSGHDR)
    pieces = np.zeros(VECTOR_MAX * tx.PIECES_EACH, linux.IOVEC)
    places = np.zeros(VECTOR_MAX, np.uint32)
    words = np.zeros(tx.SOCKET_WORDS, np.uint64)
    words[tx.FD], words[tx.SEND] = fd, shim.address("vf_sendmmsg")
    words[tx.MESSAGES], words[tx.PIECES] = messages.ctypes.data, pieces.ctypes.data
    words[tx.PLACES] = places.ctypes.data
    return words, [messages, pieces, places]


def slot_for(mtu: int) -> int:
    """Bytes of a slot for frames of that MTU: a power of two, or LARGEST_SLOT."""
    slot = SMALLEST_SLOT
    while slot < mtu + SLOT_EXTRA:
        slot *= 2
    return min(slot, LARGEST_SLOT)


def queue_room(fd: int, wanted: int) -> int:
    """Let long frames wait in the socket's queue; returns how many bytes of them may."""
    with sockets.socket(fileno=os.dup(fd)) as packet:
        packet.setsockopt(linux.SOL_PACKET, PACKET_COPY_THRESH, 1)
        try:
            packet.setsockopt(sockets.SOL_SOCKET, SO_RCVBUFFORCE, wanted)
        except PermissionError:
            packet.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, wanted)
        return packet.getsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF)
