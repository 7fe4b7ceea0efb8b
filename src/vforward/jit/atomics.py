# SPDX-License-Identifier: Apache-2.0
"""Loads and stores that another thread or process sees in order. The only way to read what it writes.

Acquire, release and compare-and-swap on naturally aligned 16-, 32- and 64-bit words given by address;
LLVM neither hoists nor merges them. Values are u64 (or less widened to u64). load_once orders nothing:
it is for what a peer may change at any time, which is to be read once and then believed.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from vforward.jit.intrinsics import intrinsic

I16 = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)


def _load(width: ir.IntType, order: str = "acquire") -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], width.as_pointer())
        value = builder.load_atomic(where, order, width.width // 8)
        return builder.zext(value, I64) if width.width < 64 else value

    return codegen


def _store(width: ir.IntType) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], width.as_pointer())
        value = builder.trunc(args[1], width) if width.width < 64 else args[1]
        builder.store_atomic(value, where, "release", width.width // 8)
        return context.get_dummy_value()

    return codegen


def _swap(width: ir.IntType) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], width.as_pointer())
        expected, new = (
            builder.trunc(v, width) if width.width < 64 else v for v in (args[1], args[2])
        )
        pair = builder.cmpxchg(where, expected, new, "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return codegen


@intrinsic
def load_acquire16(typingctx: Any, where: Any) -> Any:
    """The u16 at an address; nothing that follows is done before it."""
    return types.uint64(types.int64), _load(I16)


@intrinsic
def load_once16(typingctx: Any, where: Any) -> Any:
    """The u16 at an address, in no order with anything else."""
    return types.uint64(types.int64), _load(I16, "monotonic")


@intrinsic
def load_once64(typingctx: Any, where: Any) -> Any:
    """The u64 at an address, in no order with anything else."""
    return types.uint64(types.int64), _load(I64, "monotonic")


@intrinsic
def load_acquire32(typingctx: Any, where: Any) -> Any:
    """The u32 at an address; nothing that follows is done before it."""
    return types.uint64(types.int64), _load(I32)


@intrinsic
def load_acquire64(typingctx: Any, where: Any) -> Any:
    """The u64 at an address; nothing that follows is done before it."""
    return types.uint64(types.int64), _load(I64)


@intrinsic
def store_release16(typingctx: Any, where: Any, value: Any) -> Any:
    """Store the value's low 16 bits; everything before it is seen by who reads the new value."""
    return types.void(types.int64, types.uint64), _store(I16)


@intrinsic
def store_release32(typingctx: Any, where: Any, value: Any) -> Any:
    """Store the value's low 32 bits; everything before it is seen by who reads the new value."""
    return types.void(types.int64, types.uint64), _store(I32)


@intrinsic
def store_release64(typingctx: Any, where: Any, value: Any) -> Any:
    """Store a u64; everything before it is seen by who reads the new value."""
    return types.void(types.int64, types.uint64), _store(I64)


@intrinsic
def compare_swap32(typingctx: Any, where: Any, expected: Any, new: Any) -> Any:
    """Store new if the u32 there is still expected. Returns whether it was."""
    return types.boolean(types.int64, types.uint64, types.uint64), _swap(I32)


@intrinsic
def compare_swap64(typingctx: Any, where: Any, expected: Any, new: Any) -> Any:
    """Store new if the u64 there is still expected. Returns whether it was."""
    return types.boolean(types.int64, types.uint64, types.uint64), _swap(I64)


@intrinsic
def fetch_add64(typingctx: Any, where: Any, amount: Any) -> Any:
    """Add to the u64 at an address. Returns what was there before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        there = builder.inttoptr(args[0], I64.as_pointer())
        return builder.atomic_rmw("add", there, args[1], "acq_rel")

    return types.uint64(types.int64, types.uint64), codegen


@intrinsic
def fence(typingctx: Any) -> Any:
    """A full barrier: no load passes an earlier store."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen
