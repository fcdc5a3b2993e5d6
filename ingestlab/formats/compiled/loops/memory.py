"""Memory by address, eight and sixty-four bytes at once, for loops that hold no interpreter lock.

All memory is reached by address, so that one compiled function serves every schema, and costs little to call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

i64: Any = np.int64
u64: Any = np.uint64
LF, CR = ord("\n"), ord("\r")
ONES = u64(0x0101010101010101)
TOPS = u64(0x8080808080808080)


def _loads(bits: int, result: Any, real: Any = None) -> Any:
    """Make a function that loads from an address. 16 and 32 bits have a sign."""

    @intrinsic
    def load(_context: Any, address: Any) -> Any:  # noqa: ARG001 - named for numba
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = real or ir.IntType(bits)
            value = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), typ=kind, align=1)
            if bits == 64:
                return value
            return builder.zext(value, ir.IntType(64)) if bits == 8 else builder.sext(value, ir.IntType(64))

        return result(types.int64), code

    return load


def _stores(bits: int, argument: Any, real: Any = None) -> Any:
    """Make a function that stores at an address."""

    @intrinsic
    def store(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001 - named for numba
        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = real or ir.IntType(bits)
            value = arguments[1] if real or bits == 64 else builder.trunc(arguments[1], kind)
            builder.store(value, builder.inttoptr(arguments[0], kind.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, argument), code

    return store


def _computes(result: Any, arguments: tuple[Any, ...], make: Callable[..., Any]) -> Any:
    """Make a function of one or two arguments from instructions."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return make(builder, *values)

    if len(arguments) == 1:

        @intrinsic
        def one(_context: Any, value: Any) -> Any:  # noqa: ARG001 - named for numba
            return result(*arguments), code

        return one

    @intrinsic
    def two(_context: Any, first: Any, second: Any) -> Any:  # noqa: ARG001 - named for numba
        return result(*arguments), code

    return two


def _upper(builder: Any, first: Any, second: Any) -> Any:
    wide = ir.IntType(128)
    product = builder.mul(builder.zext(first, wide), builder.zext(second, wide))
    return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))


@intrinsic
def specials(_context: Any, address: Any, delimiter: Any, quote: Any) -> Any:  # noqa: ARG001 - named for numba
    """Find delimiters, quotes and line ends among 64 bytes."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(ir.IntType(8), 64)
        text = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), typ=kind, align=1)
        mask = None
        for character in (LF, CR, *arguments[1:]):
            if isinstance(character, int):
                wanted: Any = ir.Constant(kind, [character] * 64)
            else:
                vector = builder.insert_element(
                    ir.Constant(kind, ir.Undefined),
                    builder.trunc(character, ir.IntType(8)),
                    ir.Constant(ir.IntType(32), 0),
                )
                lanes = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
                wanted = builder.shuffle_vector(vector, ir.Constant(kind, ir.Undefined), lanes)
            same = builder.icmp_unsigned("==", text, wanted)
            mask = same if mask is None else builder.or_(mask, same)
        return builder.bitcast(mask, ir.IntType(64))

    return types.uint64(types.int64, types.int64, types.int64), code


byte, int16, int32, int64 = (_loads(bits, types.int64) for bits in (8, 16, 32, 64))
load, double = _loads(64, types.uint64), _loads(64, types.float64, ir.DoubleType())
set8, set16, set32, set64 = (_stores(bits, types.int64) for bits in (8, 16, 32, 64))
set_word = _stores(64, types.uint64)
set_double, set_float = _stores(64, types.float64, ir.DoubleType()), _stores(32, types.float32, ir.FloatType())
_no = ir.Constant(ir.IntType(1), 0)
lowest = _computes(types.int64, (types.uint64,), lambda b, word: b.cttz(word, _no))  # zero bits below the lowest one
highest = _computes(types.int64, (types.uint64,), lambda b, word: b.ctlz(word, _no))  # those above the highest one
ones = _computes(types.int64, (types.uint64,), lambda b, word: b.ctpop(word))
bits_of = _computes(types.uint64, (types.float64,), lambda b, real: b.bitcast(real, ir.IntType(64)))
real_of = _computes(types.float64, (types.uint64,), lambda b, bits: b.bitcast(bits, ir.DoubleType()))
high_product = _computes(types.uint64, (types.uint64, types.uint64), _upper)


inner = numba.njit(nogil=True, error_model="numpy", boundscheck=False)
