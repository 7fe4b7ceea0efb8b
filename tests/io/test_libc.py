"""Addresses of the C library's functions are callable."""

import os

import numpy as np

from vforward.io.libc import libc_address
from vforward.jit.intrinsics import address, call3
from vforward.jit.kernel import kernel


@kernel
def call(function, descriptor, buffer):
    return call3(function, descriptor, address(buffer), buffer.size)


def test_read_by_address():
    reader, writer = os.pipe()
    buffer = np.zeros(8, np.uint8)
    os.write(writer, b"hello")
    assert call(libc_address("read"), reader, buffer) == 5
    assert buffer.tobytes() == b"hello\0\0\0"
    os.close(reader)
    os.close(writer)
