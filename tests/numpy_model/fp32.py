# SPDX-License-Identifier: Apache-2.0
"""The fp32 primitives of the number contract: every operation rounds once, to nearest even, and keeps subnormals."""

import ctypes
import ctypes.util
import math

import numpy as np

# Overflow to inf and inf - inf are defined results here; sites that must not see them call `require_finite`.
np.seterr(all="ignore")

F32 = np.float32

_libm = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
_libm.fmaf.argtypes = [ctypes.c_float, ctypes.c_float, ctypes.c_float]
_libm.fmaf.restype = ctypes.c_float
_fmaf = np.frompyfunc(_libm.fmaf, 3, 1)

LOG2_E = 1.4426950408889634
LOG2_E_F32 = F32(LOG2_E)

# c1 .. c5 of exp2, each exact in fp32.
EXP2_C = [
    F32(float.fromhex(c))
    for c in ("0x1.62e42ap-1", "0x1.ebf9aep-3", "0x1.c6b64ep-5", "0x1.3cee66p-7", "0x1.5c10d4p-10")
]


class NonFiniteError(ValueError):
    """A value that the contract requires to be finite is inf or NaN."""


def require_finite(values, where):
    """Raises NonFiniteError naming `where` (layer and site) unless all values are finite."""
    if not np.isfinite(values).all():
        raise NonFiniteError(f"non-finite value in {where}")


def fma(a, b, c):
    """round(a * b + c) with one rounding, through libm's fmaf; the arguments broadcast."""
    return np.asarray(_fmaf(F32(a), F32(b), F32(c))).astype(F32)


def rne(x):
    """Nearest integer, ties to even, still fp32."""
    return np.rint(F32(x))


def rne_clamp(x, low, high):
    """clamp(rne(x), low, high) as int64; the clamp comes before the conversion, so x may be huge."""
    return np.clip(rne(x), F32(low), F32(high)).astype(np.int64)


def exp2(x):
    """The contract's exp2 of fp32 values: a polynomial, equal everywhere, not libm's."""
    x = np.asarray(x, F32)
    inside = (x >= F32(-126)) & (x < F32(128))
    safe = np.where(inside, x, F32(0))
    n = np.rint(safe)
    f = safe - n
    c1, c2, c3, c4, c5 = EXP2_C
    p = fma(f, c5, c4)
    for c in (c3, c2, c1, F32(1)):
        p = fma(f, p, c)
    scaled = (p.view(np.int32) + (n.astype(np.int32) << np.int32(23))).view(F32)
    outside = np.where(x >= F32(128), F32(np.inf), np.where(x < F32(-126), F32(0), F32(np.nan)))
    return np.where(inside, scaled, outside)


def to_bf16_bits(x):
    """fp32 -> bf16 bit patterns (u16), nearest even, subnormals kept; NaN becomes a quiet NaN."""
    bits = np.ascontiguousarray(x, F32).view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), np.uint64(0x7FC0), rounded).astype(np.uint16)


def from_bf16_bits(bits):
    """bf16 bit patterns (u16) -> fp32, exact."""
    return (np.asarray(bits, np.uint16).astype(np.uint32) << np.uint32(16)).view(F32)


def round_bf16(x):
    """fp32 -> the nearest bf16 value, as fp32."""
    return from_bf16_bits(to_bf16_bits(x))


def hadamard(x):
    """Normalized Hadamard over the last axis (a power of two): strides 1, 2, .. n/2, then one multiply by n^-1/2."""
    n = x.shape[-1]
    y = np.array(x, F32)
    stride = 1
    while stride < n:
        pairs = y.reshape(*y.shape[:-1], n // (2 * stride), 2, stride)
        u, v = pairs[..., 0, :], pairs[..., 1, :]
        y = np.stack([u + v, u - v], axis=-2).reshape(x.shape)
        stride *= 2
    return y * F32(1 / math.sqrt(n))


def is_power_of_two(n):
    return n > 0 and n & (n - 1) == 0
