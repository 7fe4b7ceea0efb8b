# SPDX-License-Identifier: Apache-2.0
"""Functions of the C library for compiled code to call, where the shim need not be built."""

from __future__ import annotations

import ctypes


def libc_address(name: str) -> int:
    """The address of the C library's function ``name``."""
    address = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    assert address is not None
    return address
