# SPDX-License-Identifier: Apache-2.0
"""The system-call shim, csrc/vf_shim.h: the only user of cffi.

Importing this module always works; the compiled extension is loaded on first use, which raises
`ShimMissing` where it was not built.

From Python:        fd = shim.check(shim.lib.vf_packet_socket(0), "packet socket")
From a kernel:      pass shim.address("vf_sendmmsg") as data and call through it; every argument
                    and the result are 64 bits wide, and a result below 0 is -errno.
"""

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vforward.errors import ShimMissing


@cache
def _module() -> ModuleType:
    try:
        return importlib.import_module("vforward.io._shim")
    except ImportError as error:
        msg = (
            f"the system-call shim vforward.io._shim cannot be loaded ({error}). "
            "run: pip install . in the checkout; needs a C compiler "
            "(Debian: apt-get install gcc libc6-dev python3-dev). "
            "pcap and memory ports work without it"
        )
        raise ShimMissing(msg) from error


class _Lib:
    """The functions of vf_shim.h as attributes, loaded on first use."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_module().lib, name)


lib = _Lib()


def built() -> bool:
    """Whether the compiled extension is there."""
    try:
        _module()
    except ShimMissing:
        return False
    return True


def address(name: str) -> int:
    """Return the address of the C function `name`, for compiled code to call."""
    module = _module()
    return int(module.ffi.cast("uintptr_t", module.ffi.addressof(module.lib, name)))


def pointer(buffer: NDArray[Any] | bytes) -> Any:
    """Return `buffer` (an array, bytes) as a pointer argument of a `lib` function.

    It keeps the buffer alive. A uint64 array also fits a `uint64_t *`.
    """
    words = isinstance(buffer, np.ndarray) and buffer.dtype == np.uint64
    return _module().ffi.from_buffer("uint64_t[]" if words else "char[]", buffer)


def check(result: int, what: str) -> int:
    """Return `result`; raise OSError(errno, text that names `what`) when it is -errno."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


@cache
def constants() -> dict[str, int]:
    """Return C's view of the kernel's interface.

    Keys are like "TP_STATUS_USER", "sizeof(iovec)" and "offsetof(iovec, iov_len)".
    """
    module = _module()
    table = module.lib.vf_constants
    found: dict[str, int] = {}
    while table[len(found)].name:
        row = table[len(found)]
        found[module.ffi.string(row.name).decode()] = int(row.value)
    return found
