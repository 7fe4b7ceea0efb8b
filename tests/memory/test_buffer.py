# SPDX-License-Identifier: Apache-2.0
"""What a freshly taken buffer becomes, and where its bytes lie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vforward.jit.kernel import kernel
from vforward.layout import BUF_ROOM, BUF_STRIDE, HEADROOM, META, NIL
from vforward.memory.buffer import begin_packet, buffer_bytes, byte_address, packet_bytes

FREE = {"features", "hash", "adjacency", "spare", "trace", "scratch", "pad"}
"""What begin_packet leaves alone: written before it is read, by who needs it."""


@kernel
def begin(meta, row, length, port):
    begin_packet(meta, row, length, port)
    return buffer_bytes(meta, row), packet_bytes(meta, row)


@kernel
def place(base, row, off):
    return byte_address(base, row, off)


@given(length=st.sampled_from([0, 1, 60, BUF_ROOM]), port=st.sampled_from([0, 1, 65535]))
def test_nothing_of_an_earlier_packet_is_left(length, port):
    meta = np.full(3 * META.itemsize, 0xA5, np.uint8).view(META)
    other = meta[[0, 2]].copy()
    assert begin(meta, 1, length, port) == (length, length)
    record = meta[1]
    wanted = {name: 0 for name in META.names if name not in FREE} | {
        "off": HEADROOM,
        "end": HEADROOM + length,
        "l3": HEADROOM,
        "l4": HEADROOM,
        "next": NIL,
        "rx_port": port,
    }
    assert {name: int(record[name]) for name in wanted} == wanted
    assert (meta[[0, 2]] == other).all()


def test_addresses_are_those_of_the_array():
    data = np.zeros((4, BUF_STRIDE), np.uint8)
    base = data.ctypes.data
    assert place(base, np.uint32(3), np.uint16(7)) == data[3, 7:].ctypes.data
    assert place(base, 2**31, 0) == base + 2**31 * BUF_STRIDE
