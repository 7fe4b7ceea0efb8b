# SPDX-License-Identifier: Apache-2.0
"""A cache line compared at once: what LLVM does not make of a loop, which it unrolls first."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from vforward.jit.intrinsics import intrinsic

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
EIGHT, SIXTEEN = ir.VectorType(I64, 8), ir.VectorType(I32, 16)


def _all(builder: Any, value: Any, kind: ir.VectorType) -> Any:
    """A vector of the value in every place."""
    none = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(none, value, I32(0))
    places = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, none, places)


def _hits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Where the eight words begin, and a bit (of an i8) for each that is near. Arguments: see near."""
    view = context.make_array(signature.args[0])(context, builder, args[0])
    place = builder.gep(view.data, [args[1]])
    words = builder.load(builder.bitcast(place, EIGHT.as_pointer()), align=8)
    word, limit = (_all(builder, value, EIGHT) for value in args[2:4])
    near = builder.icmp_unsigned("<", builder.xor(words, word), limit)
    return place, builder.bitcast(near, I8)


@intrinsic
def any_near(typingctx: Any, array: Any, at: Any, word: Any, limit: Any) -> Any:
    """Whether one of the eight u64 from array[at] on differs from word by less than limit (xor)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.icmp_unsigned("!=", _hits(context, builder, signature, args)[1], I8(0))

    return types.boolean(array, types.uint64, types.uint64, types.uint64), codegen


@intrinsic
def near(typingctx: Any, array: Any, at: Any, word: Any, limit: Any) -> Any:
    """The first of the eight u64 from array[at] on that differs from word by less than limit (xor).

    If none does, whichever: the caller looks.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, hits = _hits(context, builder, signature, args)
        way = builder.cttz(builder.zext(hits, I64), ir.Constant(ir.IntType(1), 0))
        return builder.load(builder.gep(place, [builder.and_(way, I64(7))]))

    return types.uint64(array, types.uint64, types.uint64, types.uint64), codegen


@intrinsic
def near16(typingctx: Any, array: Any, at: Any, word: Any, limit: Any) -> Any:
    """A bit, of an i64, for each of the 16 u32 from array[at] on that is near: see any_near.

    at, word and limit are i64, of which the low 32 bits of word and limit count.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.gep(view.data, [args[1]])
        words = builder.load(builder.bitcast(place, SIXTEEN.as_pointer()), align=4)
        word, limit = (_all(builder, builder.trunc(v, I32), SIXTEEN) for v in args[2:4])
        near = builder.icmp_unsigned("<", builder.xor(words, word), limit)
        return builder.zext(builder.bitcast(near, I16), I64)

    return types.int64(array, types.int64, types.int64, types.int64), codegen
