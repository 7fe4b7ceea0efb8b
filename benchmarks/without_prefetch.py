# SPDX-License-Identifier: Apache-2.0
"""A node whose kernel asks for nothing ahead: the same code, its prefetches replaced by nothing.

The functions are made anew over globals in which the prefetching intrinsics of vforward.jit.intrinsics
do nothing; so are the helpers that reach one, in whatever module of the package. All else is the same
object as before, and nothing of the package is changed.
"""

from __future__ import annotations

from dataclasses import replace
from types import FunctionType, ModuleType
from typing import Any

from vforward.graph.node import Node
from vforward.jit import intrinsics
from vforward.jit.kernel import inline, kernel
from vforward.jit.sources import python_function

ASKERS = tuple(
    getattr(intrinsics, name)
    for name in ("prefetch", "prefetch2", "prefetch_write", "ask_read", "ask_write")
)


@inline
def of_two(array: Any, index: Any) -> None:
    """Stands for the prefetches of array[index]."""


@inline
def of_one(where: Any) -> None:
    """Stands for those of an address."""


def without_prefetch(node: Node) -> Node:
    """The node, its name with "-no-prefetch" behind it. Raises ValueError if it prefetches nothing."""
    made = _remade(node.kernel, {})
    if made is node.kernel:
        msg = f"{node.name} prefetches nothing"
        raise ValueError(msg)
    return replace(node, name=f"{node.name}-no-prefetch", kernel=made)


def _remade(jitted: Any, seen: dict[int, Any]) -> Any:
    """The function without prefetches, merged into its callers or not as it was; or the very same if it
    has none."""
    if jitted in ASKERS:
        return of_one if jitted in (intrinsics.ask_read, intrinsics.ask_write) else of_two
    function = python_function(jitted)
    if jitted is function or not isinstance(function, FunctionType) or hasattr(jitted, "_defn"):
        return jitted
    if id(jitted) not in seen:
        seen[id(jitted)] = jitted  # while it is looked into: a function may call itself
        changed = _changes(function, seen)
        if changed:
            decorator = inline if jitted.targetoptions.get("forceinline") else kernel
            seen[id(jitted)] = decorator(_over(function, {**function.__globals__, **changed}))
    return seen[id(jitted)]


def _changes(function: FunctionType, seen: dict[int, Any]) -> dict[str, Any]:
    """What a function has to see instead of its globals."""
    changed = {}
    names = function.__code__.co_names
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType) and value.__name__.startswith("vforward."):
            inner = {n: vars(value)[n] for n in names if n in vars(value)}
            other = {n: made for n, old in inner.items() if (made := _remade(old, seen)) is not old}
            if other:
                changed[name] = _module(value, other)
        elif value is not None and (made := _remade(value, seen)) is not value:
            changed[name] = made
    return changed


def _module(module: ModuleType, other: dict[str, Any]) -> ModuleType:
    copied = ModuleType(module.__name__)
    copied.__dict__.update({**vars(module), **other})
    return copied


def _over(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    made = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    for attribute in ("__annotations__", "__module__", "__qualname__", "__doc__", "__kwdefaults__"):
        setattr(made, attribute, getattr(function, attribute))
    return made
