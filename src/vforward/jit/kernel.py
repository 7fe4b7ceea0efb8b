# SPDX-License-Identifier: Apache-2.0
"""@kernel: the one decorator under which packet code is compiled.

nogil, NumPy's error model (no ZeroDivisionError), no fastmath, no parallel, no reference counts and so
no allocation, cached (jit.store). Numba's dispatcher is made when a function is first called, or compiled
into a caller: of 900 a forwarder that starts calls 20, and what its graph calls has been compiled before.
With NUMBA_BOUNDSCHECK=1 in the environment every array access is checked, the ones of jit.be too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np

from vforward.jit import sources
from vforward.jit.store import Store

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_cfunc_wrapper": True,
}
"""_nrt off: Numba then counts no references to arrays (in a loop that took more time than the packets)
and refuses to compile what would allocate. No C wrapper: it is for functions as values, and costs a
tenth of a compile."""
INNER: dict[str, Any] = {"no_cpython_wrapper": True}
"""Of what Python never calls."""

i64: Any = np.int64
"""In kernels: widen to a signed 64-bit integer, the kind that mixes with literals."""
u64: Any = np.uint64
"""In kernels: an unsigned 64-bit integer. It mixes with u64 alone: with i64 it becomes a float."""

P = ParamSpec("P")
R = TypeVar("R")

BOUNDSCHECK = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel, or a helper of kernels, on its first use (see the module).

    LLVM decides where it is merged into its callers. Numba would force that if the caller that happens to
    compile it first is an @inline one: machine code would differ from process to process, and what is
    seldom needed would cost the usual packet its registers (vhost-tx: 173 clocks instead of 104).
    """
    return cast("Callable[P, R]", Kernel(function, {"forceinline": False}))


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """As kernel, for helpers in the inner loop: always merged into the caller.

    A call of what is not merged hands over seven words for each array: 60 clocks for a table of many.
    """
    return cast("Callable[P, R]", Kernel(function, {"forceinline": True}))


def merged(function: Callable[..., Any]) -> Any:
    """As inline, not cached by itself and not to be called from Python: for a kernel in its C entry."""
    return numba.njit(forceinline=True, **OPTIONS, **INNER)(function)


class Kernel:
    """A decorated function: for all but its first use it is the dispatcher."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.py_func = function
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__, self.__doc__ = function.__module__, function.__doc__
        self._options = options
        self._store = Store(function) if sources.in_file(function) else None

    @cached_property
    def dispatcher(self) -> Any:
        """Numba's, made when it is first asked for."""
        made: Any = numba.njit(**OPTIONS, **self._options)(self.py_func)
        if self._store is not None:
            made._cache = self._store
        return made

    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self.dispatcher(*given, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python looks for in all objects
            raise AttributeError(name)
        return getattr(self.dispatcher, name)

    def __reduce__(self) -> str:
        """By its name, as a function: a copy of a kernel is the kernel."""
        return self.__qualname__
