# SPDX-License-Identifier: Apache-2.0
"""Element-wise and row-wise operations of a decoder layer: RMSNorm, SiLU, RoPE."""

import math

import numpy as np

from fp32 import F32, LOG2_E_F32, exp2, fma

RMS_CHAINS = 128


def rms_norm(x, gain, eps):
    """y = (x * inv) * gain over the last axis; the sum of squares is 128 fma chains and a halving tree."""
    x = np.asarray(x, F32)
    width = x.shape[-1]
    chains = np.zeros((*x.shape[:-1], RMS_CHAINS), F32)
    for start in range(0, width, RMS_CHAINS):
        part = x[..., start : start + RMS_CHAINS]
        count = part.shape[-1]
        chains[..., :count] = fma(part, part, chains[..., :count])
    half = RMS_CHAINS // 2
    while half:
        chains = chains[..., :half] + chains[..., half : 2 * half]
        half //= 2
    inv = F32(1) / np.sqrt(chains / F32(width) + F32(eps))
    return (x * inv) * np.asarray(gain, F32)


def silu_mul(gate, up):
    """silu(gate) * up with silu(x) = x / (1 + exp2(-x * fp32(log2 e)))."""
    gate = np.asarray(gate, F32)
    return gate / (F32(1) + exp2(-gate * LOG2_E_F32)) * np.asarray(up, F32)


def rope_inv_freq(head_dim, theta, scaling=None):
    """Python floats (double) [head_dim / 2]; `scaling` is a config's rope_scaling: linear, llama3 or None."""
    freqs = [1.0 / math.pow(theta, (2 * i) / head_dim) for i in range(head_dim // 2)]
    kind = (scaling or {}).get("rope_type", "default")
    if kind == "default":
        return freqs
    factor = float(scaling["factor"])
    if kind == "linear":
        return [f / factor for f in freqs]
    if kind != "llama3":
        raise ValueError(f"rope_type {kind!r} is not in the contract")
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    old_context = float(scaling["original_max_position_embeddings"])
    return [_llama3_freq(f, factor, low, high, old_context) for f in freqs]


def _llama3_freq(freq, factor, low, high, old_context):
    wavelen = 2 * math.pi / freq
    if wavelen < old_context / high:
        return freq
    if wavelen > old_context / low:
        return freq / factor
    smooth = (old_context / wavelen - low) / (high - low)
    return (1 - smooth) * freq / factor + smooth * freq


def rope_table(positions, inv_freq):
    """(cos, sin) fp32 [positions, d/2]; angles in double through libm (NumPy's own vector cos may differ)."""
    angles = [[int(p) * f for f in inv_freq] for p in positions]
    cos = np.array([[math.cos(a) for a in row] for row in angles], np.float64).astype(F32)
    sin = np.array([[math.sin(a) for a in row] for row in angles], np.float64).astype(F32)
    return cos, sin


def apply_rope(x, cos, sin):
    """x fp32 [tokens, heads, d], tables [tokens, d/2]; pairs (i, i + d/2)."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    c, s = cos[:, None, :], sin[:, None, :]
    return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)
