# SPDX-License-Identifier: Apache-2.0
"""Progressive 4-bit weights: round-to-nearest quantization, the legal zero-point interval, nibble packing."""

from typing import NamedTuple

import numpy as np

from fp32 import F32, require_finite, rne_clamp

GROUP = 128
W8_RTN_MAX = 119


class W4Weights(NamedTuple):
    """One linear [N, K]; W ~ channel_scale * (q4 - group_zero) * group_scale."""

    qweight: np.ndarray  # u8 [N, K/2], low nibble = even k
    group_scale: np.ndarray  # u8 [N, K/128], 1..16
    group_zero: np.ndarray  # u8 [N, K/128], 0..15
    channel_scale: np.ndarray  # f32 [N], finite, > 0


def zero_interval(s1):
    """The smallest and the largest legal zero point for group scale s1: w8 of all 16 codes stays in -128..127."""
    return max(0, 15 - 127 // s1), min(15, 128 // s1)


_ZERO_LOW = np.array([0] + [zero_interval(s)[0] for s in range(1, 17)])
_ZERO_HIGH = np.array([15] + [zero_interval(s)[1] for s in range(1, 17)])


def group_parameters(low, high):
    """(s1, z before the legal interval, z) of groups of w1 whose minimum is `low` <= 0 and maximum `high` >= 0."""
    low, high = np.asarray(low, np.int64), np.asarray(high, np.int64)
    s1 = np.maximum(1, -((low - high) // 15))
    free = np.rint(-low / s1).astype(np.int64)
    return s1, free, np.clip(free, _ZERO_LOW[s1], _ZERO_HIGH[s1])


def group_codes(w1, s1, z):
    """q4 = clamp(rne(w1 / s1) + z, 0, 15); small integers, so a float64 quotient has the exact ties."""
    return np.clip(np.rint(w1 / s1).astype(np.int64) + z, 0, 15)


def pack_nibbles(codes):
    """Codes 0..15 [N, K] -> u8 [N, K/2]; even k in the low nibble."""
    codes = np.asarray(codes, np.uint8)
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def unpack_nibbles(packed):
    """u8 [N, K/2] -> codes 0..15 [N, K]."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(packed.shape[0], -1)


def quantize_weights_rtn(w):
    """Round-to-nearest of fp32 weights [N, K], K a multiple of 128."""
    w = np.asarray(w, F32)
    require_finite(w, "weight")
    n, k = w.shape
    s0 = np.abs(w).max(axis=1) / F32(W8_RTN_MAX)
    s0 = np.where(s0 > 0, s0, F32(1))
    w1 = rne_clamp(w / s0[:, None], -W8_RTN_MAX, W8_RTN_MAX).reshape(n, k // GROUP, GROUP)
    low = np.minimum(0, w1.min(axis=2))
    high = np.maximum(0, w1.max(axis=2))
    s1, _, z = group_parameters(low, high)
    q4 = group_codes(w1, s1[:, :, None], z[:, :, None])
    return W4Weights(pack_nibbles(q4.reshape(n, k)), s1.astype(np.uint8), z.astype(np.uint8), s0)


def check_weights(weights):
    """Raises ValueError unless the group parameters and scales obey the rule that makes all 16 codes legal."""
    s1, z, s0 = weights.group_scale, weights.group_zero, weights.channel_scale
    if not ((s1 >= 1) & (s1 <= 16)).all():
        raise ValueError("group_scale outside 1..16")
    if not ((z >= _ZERO_LOW[s1]) & (z <= _ZERO_HIGH[s1])).all():
        raise ValueError("group_zero outside the interval of its group_scale")
    if not (np.isfinite(s0) & (s0 > 0)).all():
        raise ValueError("channel_scale must be finite and positive")


def expand_w8(weights):
    """w8 = (q4 - z) * s1 as int64 [N, K]."""
    q4 = unpack_nibbles(weights.qweight).astype(np.int64)
    z = np.repeat(weights.group_zero.astype(np.int64), GROUP, axis=1)
    s1 = np.repeat(weights.group_scale.astype(np.int64), GROUP, axis=1)
    return (q4 - z) * s1


def quantize_head_rtn(w):
    """lm_head, 8-bit per channel: (weight s8 [N, K] in -127..127, channel_scale f32 [N])."""
    w = np.asarray(w, F32)
    require_finite(w, "lm_head.weight")
    s0 = np.abs(w).max(axis=1) / F32(127)
    s0 = np.where(s0 > 0, s0, F32(1))
    return rne_clamp(w / s0[:, None], -127, 127).astype(np.int8), s0
