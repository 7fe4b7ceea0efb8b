# SPDX-License-Identifier: Apache-2.0
"""Unaligned loads and stores of buffer bytes: the only crossing between network and host order.

``loadN(data, row, off)`` and ``storeN(data, row, off, value)`` read and write big-endian words at
data[row, off]; their ``raw_`` twins keep the processor's order. 16 and 32 bit values are i64 (so that
they mix with literals), 64 bit values are u64. Callers have checked off against the packet's length;
with NUMBA_BOUNDSCHECK=1 each access is checked against the buffer too, and raises IndexError.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vforward.jit.intrinsics import intrinsic
from vforward.jit.kernel import BOUNDSCHECK

I64 = ir.IntType(64)


def _place(context: Any, builder: Any, signature: Any, args: Any, width: ir.IntType) -> Any:
    """Where the word begins. Arguments: array (of bytes, one or two dimensions), row, off."""
    view = context.make_array(signature.args[0])(context, builder, args[0])
    stride = cgutils.unpack_tuple(builder, view.strides)[0]
    if BOUNDSCHECK:
        _check(context, builder, view, args, width.width // 8)
    base = builder.bitcast(view.data, ir.IntType(8).as_pointer())
    byte = builder.gep(base, [builder.add(builder.mul(args[1], stride), args[2])])
    return builder.bitcast(byte, width.as_pointer())


def _check(context: Any, builder: Any, view: Any, args: Any, n: int) -> None:
    shape = cgutils.unpack_tuple(builder, view.shape)
    bad_row = builder.icmp_unsigned(">=", args[1], shape[0])
    room = shape[1] if len(shape) == 2 else builder.sub(shape[0], args[1])
    over = builder.icmp_signed(">", builder.add(args[2], I64(n)), room)
    bad_off = builder.or_(builder.icmp_signed("<", args[2], I64(0)), over)
    with builder.if_then(builder.or_(bad_row, bad_off), likely=False):
        message = ("a load or store outside of the buffer",)
        context.call_conv.return_user_exc(builder, IndexError, message)


def _loader(bits: int, *, swap: bool) -> Any:
    width = ir.IntType(bits)

    def load(typingctx: Any, data: Any, row: Any, off: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_place(context, builder, signature, args, width), align=1)
            value = builder.bswap(value) if swap else value
            return builder.zext(value, I64) if bits < 64 else value

        result = types.int64 if bits < 64 else types.uint64
        return result(data, types.int64, types.int64), codegen

    return intrinsic(load)


def _storer(bits: int, *, swap: bool) -> Any:
    width = ir.IntType(bits)

    def store(typingctx: Any, data: Any, row: Any, off: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.trunc(args[3], width) if bits < 64 else args[3]
            value = builder.bswap(value) if swap else value
            builder.store(value, _place(context, builder, signature, args, width), align=1)
            return context.get_dummy_value()

        kind = types.int64 if bits < 64 else types.uint64
        return types.void(data, types.int64, types.int64, kind), codegen

    return intrinsic(store)


load16, load32, load64 = (_loader(bits, swap=True) for bits in (16, 32, 64))
raw_load16, raw_load32, raw_load64 = (_loader(bits, swap=False) for bits in (16, 32, 64))
store16, store32, store64 = (_storer(bits, swap=True) for bits in (16, 32, 64))
raw_store16, raw_store32, raw_store64 = (_storer(bits, swap=False) for bits in (16, 32, 64))
