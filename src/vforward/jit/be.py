# SPDX-License-Identifier: Apache-2.0
"""Unaligned loads and stores of buffer bytes: the only crossing between network and host order.

``loadN(data, row, off)`` and ``storeN(data, row, off, value)`` read and write big-endian words at
data[row, off]; ``raw_`` twins keep the processor's order. 16 and 32 bit values are i64 (so that they
mix with literals), 64 bit values are u64. Callers have checked off against the packet's length;
with NUMBA_BOUNDSCHECK=1 each access is checked against the buffer.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vforward.jit.intrinsics import intrinsic
from vforward.jit.kernel import BOUNDSCHECK, inline

I64 = ir.IntType(64)


def _place(context: Any, builder: Any, signature: Any, args: Any, width: ir.IntType) -> Any:
    view = context.make_array(signature.args[0])(context, builder, args[0])
    stride = cgutils.unpack_tuple(builder, view.strides)[0]
    base = builder.bitcast(view.data, ir.IntType(8).as_pointer())
    byte = builder.gep(base, [builder.add(builder.mul(args[1], stride), args[2])])
    return builder.bitcast(byte, width.as_pointer())


def _loader(bits: int, swap: bool) -> Any:
    width = ir.IntType(bits)

    @intrinsic
    def load(typingctx: Any, data: Any, row: Any, off: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_place(context, builder, signature, args, width), align=1)
            value = builder.bswap(value) if swap else value
            return builder.zext(value, I64) if bits < 64 else value

        result = types.int64 if bits < 64 else types.uint64
        return result(data, types.int64, types.int64), codegen

    return load


def _storer(bits: int, swap: bool) -> Any:
    width = ir.IntType(bits)

    @intrinsic
    def store(typingctx: Any, data: Any, row: Any, off: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.trunc(args[3], width) if bits < 64 else args[3]
            value = builder.bswap(value) if swap else value
            builder.store(value, _place(context, builder, signature, args, width), align=1)
            return context.get_dummy_value()

        kind = types.int64 if bits < 64 else types.uint64
        return types.void(data, types.int64, types.int64, kind), codegen

    return store


_load16, _load32, _load64 = (_loader(bits, True) for bits in (16, 32, 64))
_raw_load16, _raw_load32, _raw_load64 = (_loader(bits, False) for bits in (16, 32, 64))
_store16, _store32, _store64 = (_storer(bits, True) for bits in (16, 32, 64))
_raw_store16, _raw_store32, _raw_store64 = (_storer(bits, False) for bits in (16, 32, 64))


@inline
def check(data: Any, row: Any, off: Any, n: Any) -> None:
    """With bounds checks on: raise IndexError unless the n bytes at data[row, off] exist."""
    if BOUNDSCHECK:
        if row < 0 or row >= data.shape[0] or off < 0 or off + n > data.shape[1]:
            raise IndexError("a load or store outside of the buffer")


@inline
def load16(data: Any, row: Any, off: Any) -> Any:
    check(data, row, off, 2)
    return _load16(data, row, off)


@inline
def load32(data: Any, row: Any, off: Any) -> Any:
    check(data, row, off, 4)
    return _load32(data, row, off)


@inline
def load64(data: Any, row: Any, off: Any) -> Any:
    check(data, row, off, 8)
    return _load64(data, row, off)


@inline
def raw_load16(data: Any, row: Any, off: Any) -> Any:
    check(data, row, off, 2)
    return _raw_load16(data, row, off)


@inline
def raw_load32(data: Any, row: Any, off: Any) -> Any:
    check(data, row, off, 4)
    return _raw_load32(data, row, off)


@inline
def raw_load64(data: Any, row: Any, off: Any) -> Any:
    check(data, row, off, 8)
    return _raw_load64(data, row, off)


@inline
def store16(data: Any, row: Any, off: Any, value: Any) -> None:
    check(data, row, off, 2)
    _store16(data, row, off, value)


@inline
def store32(data: Any, row: Any, off: Any, value: Any) -> None:
    check(data, row, off, 4)
    _store32(data, row, off, value)


@inline
def store64(data: Any, row: Any, off: Any, value: Any) -> None:
    check(data, row, off, 8)
    _store64(data, row, off, value)


@inline
def raw_store16(data: Any, row: Any, off: Any, value: Any) -> None:
    check(data, row, off, 2)
    _raw_store16(data, row, off, value)


@inline
def raw_store32(data: Any, row: Any, off: Any, value: Any) -> None:
    check(data, row, off, 4)
    _raw_store32(data, row, off, value)


@inline
def raw_store64(data: Any, row: Any, off: Any, value: Any) -> None:
    check(data, row, off, 8)
    _raw_store64(data, row, off, value)
