# SPDX-License-Identifier: Apache-2.0
"""Eventfds of a peer's, signalled by the control plane; kernels call csrc/vf_bell.c themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vforward.io import shim


class Bell:
    """Writes eventfds that somebody else has, too, and is never made to wait by one (csrc/vf_bell.c).

    words: u64[3], of which one thread at a time makes use.
    """

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def open(self) -> bool:
        """Returns whether that is so: else it writes them as others do."""
        return int(shim.lib.vf_bell_open(shim.pointer(self._words))) >= 0

    def ring(self, fd: int) -> None:
        """Write one. That it is full, or no eventfd, does not matter."""
        shim.lib.vf_bell_ring(shim.pointer(self._words), fd)

    def close(self) -> None:
        """Harmless when repeated, or not open."""
        if self._words.any():
            shim.lib.vf_bell_close(shim.pointer(self._words))
