# SPDX-License-Identifier: Apache-2.0
"""What Numba lacks, one LLVM instruction each: prefetch, cycle counter, bit scan, calls by address.

Addresses are u64 or i64 values. Nothing here checks anything: callers do.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.np.arrayobj import populate_array


def intrinsic(function: Callable[..., Any]) -> Any:
    """numba.extending.intrinsic, for a type checker a function of anything."""
    return extending.intrinsic(function)


I8P = ir.IntType(8).as_pointer()
I32 = ir.IntType(32)
I64 = ir.IntType(64)


def _declare(builder: Any, name: str, returns: ir.Type, arguments: list[ir.Type]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(returns, arguments), name)


@intrinsic
def cycles(typingctx: Any) -> Any:
    """The time stamp counter, u64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(_declare(builder, "llvm.readcyclecounter", I64, []), [])

    return types.uint64(), codegen


@intrinsic
def relax(typingctx: Any) -> Any:
    """One PAUSE, where the processor has it (x86): for loops that wait."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            builder.call(_declare(builder, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def ctz(typingctx: Any, value: Any) -> Any:
    """Number of the lowest bit set in a u64 (64 when there is none), i64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def popcount(typingctx: Any, value: Any) -> Any:
    """How many bits of a u64 are set, i64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@intrinsic
def fold_multiply(typingctx: Any, a: Any, b: Any) -> Any:
    """The two halves of the 128 bits of a * b, xor-ed: a step of a hash. All u64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(arg, wide) for arg in args))
        high = builder.trunc(builder.lshr(product, wide(64)), I64)
        return builder.xor(high, builder.trunc(product, I64))

    return types.uint64(types.uint64, types.uint64), codegen


def _prefetcher(level: int, text: str, *, write: bool = False) -> Any:
    def ask(typingctx: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            view = context.make_array(signature.args[0])(context, builder, args[0])
            base = builder.bitcast(view.data, I8P)
            stride = cgutils.unpack_tuple(builder, view.strides)[0]
            pointer = builder.gep(base, [builder.mul(args[1], stride)])
            function = _declare(builder, "llvm.prefetch.p0", ir.VoidType(), [I8P, I32, I32, I32])
            builder.call(function, [pointer, I32(int(write)), I32(4 - level), I32(1)])
            return context.get_dummy_value()

        return types.void(array, types.int64), codegen

    ask.__doc__ = text
    return intrinsic(ask)


prefetch = _prefetcher(
    1, "Ask for the cache line where array[index] begins (for two dimensions: that row)."
)
prefetch2 = _prefetcher(
    2, "The same, into the second level of cache, which waits for more lines at a time."
)
prefetch_write = _prefetcher(1, "As prefetch, for a line that is to be written.", write=True)


def _line_asker(write: int, text: str) -> Any:
    def ask(typingctx: Any, where: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = _declare(builder, "llvm.prefetch.p0", ir.VoidType(), [I8P, I32, I32, I32])
            arguments = [builder.inttoptr(args[0], I8P), I32(write), I32(3), I32(1)]
            builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    ask.__doc__ = text
    return intrinsic(ask)


ask_read = _line_asker(0, "Ask for the cache line at an address, to read it.")
ask_write = _line_asker(1, "The same to write it: other cores give up theirs now, and not then.")


@intrinsic
def address(typingctx: Any, array: Any) -> Any:
    """Where the array's first element lies, i64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(view.data, I64)

    return types.int64(array), codegen


def _array(context: Any, builder: Any, kind: Any, where: Any, shape: list[Any]) -> Any:
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [I64(size)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    view = context.make_array(kind)(context, builder)
    data = builder.inttoptr(where, view.data.type)
    populate_array(view, data, shape, strides, I64(size), meminfo=None)
    return view._getvalue()


def _array_type(dtype: Any, dimensions: int) -> Any:
    kind = dtype.dtype if isinstance(dtype, types.DType) else dtype.instance_type
    return types.Array(kind, dimensions, "C", aligned=not isinstance(kind, types.Record))


@intrinsic
def view(typingctx: Any, where: Any, n: Any, dtype: Any) -> Any:
    """The n items of a dtype at an address, as an array. It owns nothing."""
    kind = _array_type(dtype, 1)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array(context, builder, kind, args[0], [args[1]])

    return kind(types.int64, types.int64, dtype), codegen


@intrinsic
def view2(typingctx: Any, where: Any, n: Any, inner: Any, dtype: Any) -> Any:
    """The n rows of inner items of a dtype at an address, as an array. It owns nothing."""
    kind = _array_type(dtype, 2)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array(context, builder, kind, args[0], [args[1], args[2]])

    return kind(types.int64, types.int64, types.int64, dtype), codegen


@intrinsic
def copy(typingctx: Any, to: Any, source: Any, n: Any) -> Any:
    """memcpy(to, source, n): addresses and bytes. The ranges must not overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = _declare(
            builder, "llvm.memcpy.p0.p0.i64", ir.VoidType(), [I8P, I8P, I64, ir.IntType(1)]
        )
        pointers = [builder.inttoptr(a, I8P) for a in args[:2]]
        builder.call(function, [*pointers, args[2], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = ir.FunctionType(I64, [I64] * (len(args) - 1))
    return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])


@intrinsic
def call2(typingctx: Any, function: Any, a: Any, b: Any) -> Any:
    """Call a C function ``int64_t f(int64_t, int64_t)`` by its address."""
    return types.int64(*[types.int64] * 3), _call


@intrinsic
def call3(typingctx: Any, function: Any, a: Any, b: Any, c: Any) -> Any:
    """Call a C function of three 64-bit integers by its address."""
    return types.int64(*[types.int64] * 4), _call


@intrinsic
def call4(typingctx: Any, function: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Call a C function of four 64-bit integers by its address."""
    return types.int64(*[types.int64] * 5), _call
