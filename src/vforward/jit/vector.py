# SPDX-License-Identifier: Apache-2.0
"""A cache line compared at once: what LLVM does not make of a loop, which it unrolls first."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vforward.jit.intrinsics import intrinsic
from vforward.jit.kernel import BOUNDSCHECK

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
EIGHT, SIXTEEN = ir.VectorType(I64, 8), ir.VectorType(I32, 16)
WORDS = ir.VectorType(I32, 8)


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


@intrinsic
def differs(
    typingctx: Any, values: Any, at: Any, apart: Any, fields: Any, where: Any, ranges: Any
) -> Any:
    """Whether eight u32 fields[where ...] are not as the u64[] values says from at on, i64 0 or 1.

    There are eight words of values and, ``apart`` u64 further on, eight masks: a field has to equal
    its value in the bits of its mask. The word number ``ranges`` (-1: none) is two ranges of 16 bits
    instead, least in values, greatest in masks.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        if BOUNDSCHECK:
            _check(context, builder, kinds[0], args[0], builder.add(args[1], args[2]), 4)
            _check(context, builder, kinds[3], args[3], args[4], 8)
        value = _words(context, builder, kinds[0], args[0], args[1])
        mask = _words(context, builder, kinds[0], args[0], builder.add(args[1], args[2]))
        field = _words(context, builder, kinds[3], args[3], args[4])
        lanes = ir.Constant(WORDS, list(range(8)))
        chosen = builder.icmp_signed("==", lanes, _all(builder, builder.trunc(args[5], I32), WORDS))
        ports = builder.sext(chosen, WORDS)
        others = builder.not_(ports)
        wrong = builder.and_(builder.and_(builder.xor(field, value), mask), others)
        low = _less(builder, builder.and_(value, ports), field)
        high = _less(builder, field, builder.or_(mask, others))
        wrong = builder.or_(wrong, builder.or_(low, high))
        whole = builder.bitcast(wrong, ir.IntType(256))
        return builder.zext(builder.icmp_unsigned("!=", whole, ir.IntType(256)(0)), I64)

    integer = types.int64
    return integer(values, integer, integer, fields, integer, integer), codegen


def _words(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Eight u32 from array[at] on."""
    view = context.make_array(kind)(context, builder, array)
    place = builder.gep(view.data, [at])
    return builder.load(builder.bitcast(place, WORDS.as_pointer()), align=4)


def _less(builder: Any, one: Any, other: Any) -> Any:
    """For each 16 bits, one - other where that is above 0, else 0."""
    halves = ir.VectorType(ir.IntType(16), 16)
    kind = ir.FunctionType(halves, [halves, halves])
    name = "llvm.usub.sat.v16i16"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    both = [builder.bitcast(value, halves) for value in (one, other)]
    return builder.bitcast(builder.call(function, both), WORDS)


def _check(context: Any, builder: Any, kind: Any, array: Any, at: Any, n: int) -> None:
    """With NUMBA_BOUNDSCHECK=1: raise IndexError unless array[at : at + n] is in the array."""
    view = context.make_array(kind)(context, builder, array)
    size = cgutils.unpack_tuple(builder, view.shape)[0]
    over = builder.icmp_signed(">", builder.add(at, I64(n)), size)
    bad = builder.or_(builder.icmp_signed("<", at, I64(0)), over)
    with builder.if_then(bad, likely=False):
        context.call_conv.return_user_exc(builder, IndexError, ("words outside of the array",))
