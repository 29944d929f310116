# SPDX-License-Identifier: Apache-2.0
"""The KV cache's codec (kv4 and kv8) and the path from qkv GEMM outputs to q, K codes and V codes."""

from typing import NamedTuple

import numpy as np

from fp32 import F32, hadamard, require_finite, rne, rne_clamp
from layer_ops import apply_rope, rms_norm

K_GROUP = 64


class CacheRows(NamedTuple):
    """K or V of a run of tokens; d_pad = head_dim padded to a multiple of 64."""

    codes: np.ndarray  # [tokens, kv_heads, d_pad]: u8 0..15 (kv4) or i8 (kv8)
    scale: np.ndarray  # f16 [tokens, kv_heads, groups]
    zero: np.ndarray | None  # u8 [tokens, kv_heads, groups]; None for kv8


def padded_dim(head_dim):
    return -(-head_dim // K_GROUP) * K_GROUP


def pad_head(x):
    """Appends zeros along the last axis up to a multiple of 64."""
    extra = padded_dim(x.shape[-1]) - x.shape[-1]
    return np.concatenate([x, np.zeros((*x.shape[:-1], extra), F32)], axis=-1)


def quantize_kv(x, bits, group, where="KV cache"):
    """fp32 [tokens, kv_heads, head_dim] -> CacheRows in groups of `group` along the padded head_dim."""
    require_finite(x, where)
    x = pad_head(np.asarray(x, F32))
    shape = x.shape
    x = x.reshape(*shape[:-1], shape[-1] // group, group)
    if bits == 8:
        return _quantize_kv8(x, shape, where)
    low = np.minimum(F32(0), x.min(axis=-1))
    high = np.maximum(F32(0), x.max(axis=-1))
    scale = ((high - low) / F32(15)).astype(np.float16)
    require_finite(scale, where + " scale")
    live = scale > 0
    s = np.where(live, scale, np.float16(1)).astype(F32)
    zero = np.where(live, rne_clamp(-low / s, 0, 15), 0)
    codes = np.clip(rne(x / s[..., None]).astype(np.int64) + zero[..., None], 0, 15)
    codes = np.where(live[..., None], codes, 0)
    return CacheRows(codes.astype(np.uint8).reshape(shape), scale, zero.astype(np.uint8))


def _quantize_kv8(x, shape, where):
    scale = (np.abs(x).max(axis=-1) / F32(127)).astype(np.float16)
    require_finite(scale, where + " scale")
    live = scale > 0
    s = np.where(live, scale, np.float16(1)).astype(F32)
    codes = np.where(live[..., None], rne_clamp(x / s[..., None], -127, 127), 0)
    return CacheRows(codes.astype(np.int8).reshape(shape), scale, None)


def centered_codes(rows):
    """code - z as int64 [tokens, kv_heads, d_pad]."""
    codes = rows.codes.astype(np.int64)
    if rows.zero is None:
        return codes
    group = codes.shape[-1] // rows.zero.shape[-1]
    return codes - np.repeat(rows.zero.astype(np.int64), group, axis=-1)


def quantize_k(k, bits, where="K"):
    return quantize_kv(k, bits, K_GROUP, where)


def quantize_v(v, bits, where="V"):
    return quantize_kv(v, bits, padded_dim(v.shape[-1]), where)


class QkNorm(NamedTuple):
    """Qwen3: RMSNorm over head_dim of q and k before RoPE."""

    q_gain: np.ndarray  # f32 [head_dim]
    k_gain: np.ndarray
    eps: np.float32


def rope_append(qkv, num_heads, num_kv_heads, cos, sin, rotate, bits, qk_norm=None, where="layer"):
    """(q fp32 [tokens, heads, d], K CacheRows, V CacheRows) from the qkv output widened to fp32.

    qkv is [tokens, (heads + 2 * kv_heads) * d], q then k then v; `rotate` is the Hadamard over head_dim of q and K.
    V gets nothing: its rotation is in the weights.
    """
    tokens = qkv.shape[0]
    heads = qkv.reshape(tokens, num_heads + 2 * num_kv_heads, -1)
    q, k, v = np.split(heads, [num_heads, num_heads + num_kv_heads], axis=1)
    if qk_norm is not None:
        q = rms_norm(q, qk_norm.q_gain, qk_norm.eps)
        k = rms_norm(k, qk_norm.k_gain, qk_norm.eps)
    q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
    if rotate:
        q, k = hadamard(q), hadamard(k)
    require_finite(q, where + " q")
    return q, quantize_k(k, bits, where + " K"), quantize_v(v, bits, where + " V")
