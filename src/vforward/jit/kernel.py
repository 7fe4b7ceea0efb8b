# SPDX-License-Identifier: Apache-2.0
"""@kernel: the one decorator under which packet code is compiled.

nogil, NumPy's error model (no ZeroDivisionError), no fastmath, no parallel, cached (jit.cache).
With NUMBA_BOUNDSCHECK=1 in the environment every array access is checked, the ones of jit.be too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

from vforward.jit import cache
from vforward.jit.intrinsics import pointer

P = ParamSpec("P")
R = TypeVar("R")

BOUNDSCHECK = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel, or a helper of kernels, on its first use (see the module)."""
    return cast("Callable[P, R]", _compiled(function))


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """As kernel, for small helpers in the inner loop: always merged into the caller."""
    return cast("Callable[P, R]", _compiled(function, forceinline=True))


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    with cache.in_use():
        return numba.njit(nogil=True, error_model="numpy", cache=True, **options)(function)


@inline
def view(where: Any, n: Any, dtype: Any) -> Any:
    """The n items of a dtype at an address, as an array. Compiled code only."""
    return numba.carray(pointer(where), (n,), dtype)
