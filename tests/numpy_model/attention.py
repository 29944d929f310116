# SPDX-License-Identifier: Apache-2.0
"""Integer attention over quantized K and V: exact dot products, a stated fp32 sequence per row, a stated fold order."""

import math

import numpy as np

from fp32 import F32, LOG2_E, exp2, fma, require_finite, rne_clamp
from kv_cache import K_GROUP, centered_codes, pad_head

KV_BLOCK = 64
BLOCKS_PER_SPLIT = 4
TINY = F32(2.0**-100)


def quantize_query(q):
    """(q8 int64 [d_pad], c fp32) of one row of q [head_dim]."""
    amax = np.abs(q).max()
    if amax < TINY:
        return np.zeros(pad_head(q).shape, np.int64), F32(0)
    sq = amax / F32(127)
    q8 = rne_clamp(pad_head(q) * (F32(1) / sq), -127, 127)
    return q8, sq * F32(LOG2_E / math.sqrt(len(q)))


def scores(q8, c, k_centered, k_scale):
    """x fp32 [keys] from code - z [keys, d_pad] and fp16 scales [keys, groups] of one kv head."""
    keys, groups = k_scale.shape
    dots = (k_centered.reshape(keys, groups, K_GROUP) * q8.reshape(groups, K_GROUP)).sum(axis=2)
    dots = dots.astype(F32)
    scale = k_scale.astype(F32)
    total = scale[:, 0] * dots[:, 0]
    for j in range(1, groups):
        total = fma(scale[:, j], dots[:, j], total)
    return c * total


def attend_block(x, unmasked, v_centered, v_scale):
    """State (m, l, O [d_pad]) of one kv_block with at least one unmasked key; arrays over the block's keys."""
    x, v_centered, sv = x[unmasked], v_centered[unmasked], v_scale[unmasked].astype(F32)
    bm = x.max()
    p = (exp2(x - bm) + F32(64)) - F32(64)
    # Multiples of 2^-17 up to 64: exact in fp32 in any order, so also in float64.
    l_b = F32(p.astype(np.float64).sum())
    u = p * sv
    mu = u.max()
    if mu == 0:
        return bm, l_b, np.zeros(v_centered.shape[1], F32)
    p8 = rne_clamp(u * (F32(255) / mu), 0, 255)
    total = p8 @ v_centered
    return bm, l_b, total.astype(F32) * (mu / F32(255))


def merge(state, other):
    """Folds `other` into `state`."""
    m, l_sum, out = state
    m2, l2, out2 = other
    top = np.maximum(m, m2)
    keep, add = exp2(m - top), exp2(m2 - top)
    return top, fma(l2, add, l_sum * keep), fma(out2, add, out * keep)


def attend_row(q, k_centered, k_scale, v_centered, v_scale, mask):
    """fp32 [head_dim] of one (token, head); keys start at absolute position 0, mask bool [keys], one True at least."""
    head_dim = len(q)
    q8, c = quantize_query(q)
    x = scores(q8, c, k_centered, k_scale)
    row = None
    split_keys = KV_BLOCK * BLOCKS_PER_SPLIT
    for split_start in range(0, len(x), split_keys):
        split = None
        for start in range(split_start, min(split_start + split_keys, len(x)), KV_BLOCK):
            block = slice(start, start + KV_BLOCK)
            if not mask[block].any():
                continue
            state = attend_block(x[block], mask[block], v_centered[block], v_scale[block])
            split = state if split is None else merge(split, state)
        if split is not None:
            row = split if row is None else merge(row, split)
    _, l_sum, out = row
    return (out / l_sum)[:head_dim]


def visible_keys(position, keys, window):
    """bool [keys]: not behind the position and, with a window w, not at position - w or before."""
    key = np.arange(keys)
    return (key <= position) & ((key > position - window) if window else True)


def attention(q, k_rows, v_rows, first_pos, where="layer", window=0):
    """Causal attention, fp32 [tokens, heads, head_dim] before the rounding to bf16.

    q fp32 [tokens, heads, head_dim] of tokens at positions first_pos .. ; k_rows and v_rows are the CacheRows of all
    positions from 0; query head h reads kv head h / (heads / kv_heads).
    """
    require_finite(q, where + " q")
    tokens, heads, head_dim = q.shape
    k_centered, v_centered = centered_codes(k_rows), centered_codes(v_rows)
    keys, kv_heads, _ = k_centered.shape
    out = np.zeros((tokens, heads, head_dim), F32)
    for t in range(tokens):
        mask = visible_keys(first_pos + t, keys, window)
        for h in range(heads):
            g = h // (heads // kv_heads)
            out[t, h] = attend_row(
                q[t, h], k_centered[:, g], k_rows.scale[:, g], v_centered[:, g], v_rows.scale[:, g, 0], mask
            )
    return out
