"""Messages as bytes that can hold nothing but data: numbers, text, lists, dictionaries and arrays.

MessagePack has no way to name code or objects. Its two extensions here are an array of booleans, integers or
floating-point numbers, and an integer of more than 64 bits; everything else is refused, and so are sizes that
do not fit what came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

_ARRAY, _INTEGER = 1, 2
_KINDS = "biuf"
_MAX_DIMENSIONS = 16
_MAX_DIGITS = 1000


def pack(content: Mapping[str, Any]) -> bytes:
    """Bytes of a message.

    Args:
        content: numbers, text, None, lists, dictionaries with text as keys, and NumPy arrays of the kinds
            ``b i u f``; tuples arrive as lists.

    Raises:
        TypeError: it holds something else.
    """
    packed: bytes = msgpack.packb(content, default=_extension)
    return packed


def unpack(packed: bytes) -> dict[str, Any]:
    """The message that :func:`pack` made; arrays are new and may be changed.

    Raises:
        ValueError: the bytes are no such message.
    """
    try:
        content = msgpack.unpackb(packed, ext_hook=_from_extension, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"no message: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError("no message: expected names and values")
    return content


def _extension(value: Any) -> msgpack.ExtType:
    if isinstance(value, int):  # of more than 64 bits
        return msgpack.ExtType(_INTEGER, str(value).encode())
    if not isinstance(value, np.ndarray) or value.dtype.kind not in _KINDS or value.dtype.itemsize > 8:
        raise TypeError(f"{_name(value)} cannot travel; expected plain data and arrays of numbers")
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    head = msgpack.packb([little.dtype.str, list(value.shape)])
    return msgpack.ExtType(_ARRAY, bytes([len(head)]) + head + little.tobytes())


def _name(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _from_extension(code: int, packed: bytes) -> Any:
    if code == _INTEGER and len(packed) <= _MAX_DIGITS:
        return int(packed)
    if code == _ARRAY and packed:
        return _array(packed[1 : 1 + packed[0]], memoryview(packed)[1 + packed[0] :])
    raise ValueError(f"unknown extension {code}")


def _array(head: bytes, values: memoryview) -> npt.NDArray[Any]:
    name, shape = msgpack.unpackb(head)
    if name not in _DTYPES or not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"no array: {name!r} of {shape!r}")
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"no shape of an array: {shape!r}")
    dtype = _DTYPES[name]
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"another number of bytes than an array of {shape!r} has: {len(values)}")
    flat: npt.NDArray[Any] = np.frombuffer(bytearray(values), dtype)
    if dtype == np.bool_:  # a byte that is neither 0 nor 1 is no truth value
        flat = flat.view(np.uint8) != 0
    return flat.reshape(shape)


_DTYPES = {
    dtype.str: dtype
    for dtype in (np.dtype(f"<{name}") for name in "b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())
}
