# SPDX-License-Identifier: Apache-2.0
"""Linear layers on quantized activations: one int32 accumulator per output, then two fp32 multiplies and the bias."""

import numpy as np

from fp32 import F32
from weights import GROUP, expand_w8


def require_int32(values, what):
    """The contract promises that accumulators stay in int32; a breach is an error of the contract."""
    if values.size and (values.max() > 2**31 - 1 or values.min() < -(2**31)):
        raise OverflowError(f"{what} left int32")


def accumulate(acts, w8, n8):
    """acc[t, n] = r[t] * acc1 + acc2 as int32 [m, N]; w8 int64 [N, K]."""
    k1 = n8 * GROUP
    multipliers = np.repeat(acts.multipliers.astype(np.int64), GROUP, axis=1)
    a = acts.codes.astype(np.int64)
    acc1 = a[:, :k1] @ w8[:, :k1].T
    acc2 = (a * multipliers)[:, k1:] @ w8[:, k1:].T
    scaled = acts.r.astype(np.int64)[:, None] * acc1
    acc = scaled + acc2
    for values, what in ((acc1, "acc1"), (acc2, "acc2"), (scaled, "r * acc1"), (acc, "acc")):
        require_int32(values, what)
    return acc.astype(np.int32)


def scale_output(acc, sx, channel_scale, bias=None):
    """y = (float(acc) * sx) * s0 (+ bias), fp32."""
    y = (acc.astype(F32) * sx[:, None]) * channel_scale[None, :]
    return y if bias is None else y + bias[None, :]


def linear_w4ax(acts, weights, n8, bias=None):
    """fp32 [m, N] from Activations and W4Weights; bias fp32 [N] or None."""
    acc = accumulate(acts, expand_w8(weights), n8)
    return scale_output(acc, acts.sx, weights.channel_scale, bias)


def linear_w8a8(acts, weight, channel_scale):
    """lm_head: fp32 [m, N] from Activations made with n8 = 0, bits2 = 8, and s8 weights [N, K]."""
    acc = accumulate(acts, weight.astype(np.int64), 0)
    return scale_output(acc, acts.sx, channel_scale)
