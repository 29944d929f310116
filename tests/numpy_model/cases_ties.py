# SPDX-License-Identifier: Apache-2.0
"""Inputs within two ulps of a rounding boundary: they tell a division from a multiply by the reciprocal."""

import numpy as np

from activations import GROUP, max_ratio, region_limit
from fp32 import F32
from kv_cache import CacheRows


def jitter(rng, values):
    """fp32 values moved by -2 .. 2 ulps."""
    bits = np.ascontiguousarray(values, F32).view(np.int32)
    return (bits + rng.integers(-2, 3, bits.shape).astype(np.int32)).view(F32)


def half_steps(rng, bound, step, shape):
    """Values near (k + 1/2) * step with |k + 1/2| < bound, of both signs."""
    return jitter(rng, (rng.integers(-bound, bound, shape) + 0.5).astype(F32) * F32(step))


def activation_rows(rng, site, rows):
    """Rows [rows, K] in position order: r, m and every code of both regions near a boundary."""
    groups = len(site.act_perm) // GROUP
    rmax = max_ratio(site.n8 * GROUP, (groups - site.n8) * GROUP, site.bits2)
    limit = region_limit(site.bits2)
    x = np.zeros((rows, groups, GROUP), F32)
    for row in x:
        amax2 = F32(10.0 ** rng.uniform(-3, 3))
        sx = site.clip2 * amax2 / F32(limit)
        for g in range(groups):
            if g < site.n8:
                ratio = rng.integers(1, min(rmax, 40))
                top, bound, step = F32(127) * F32(ratio) * sx / site.clip1, 127, F32(ratio) * sx
            elif g == groups - 1:
                top, bound, step = (
                    amax2,
                    limit // (127 if site.bits2 == 8 else 17),
                    sx * F32(1 if site.bits2 == 8 else 17),
                )
            else:
                m = rng.integers(1, 17)
                top, bound, step = F32(7) * F32(m) * sx / site.clip2, 7, F32(m) * sx
            row[g] = half_steps(rng, bound, step, GROUP)
            row[g, g] = F32(top) if g == groups - 1 else jitter(rng, [top])[0]
    return x.reshape(rows, -1)


def head_rows(rng, bits, rows):
    """K heads [rows, 32], to be used for both halves of head_dim 64: codes near a boundary of a random fp16 scale."""
    levels = 15 if bits == 4 else 127
    x = np.zeros((rows, 32), F32)
    for row in x:
        scale = F32(np.float16(10.0 ** rng.uniform(-2, 1)))
        row[:] = np.clip(
            half_steps(rng, levels, scale, 32), 0 if bits == 4 else -F32(levels) * scale, F32(levels) * scale
        )
        row[5] = F32(levels) * scale
    return x


def query_rows(rng, rows):
    """q [rows, 1, 64] whose codes are near a boundary."""
    q = np.zeros((rows, 1, 64), F32)
    for row in q:
        amax = F32(10.0 ** rng.uniform(-1, 1))
        row[0] = half_steps(rng, 127, amax / F32(127), 64)
        row[0, 9] = amax
    return q


def probability_scales(rng, keys):
    """V scales f16 [keys, 1, 1] for p = 1: 255 * scale / (the block's largest) is halfway for all but the first key."""
    scale = np.zeros((keys, 1, 1), np.float16)
    for start in range(0, keys, 64):
        part = scale[start : start + 64]
        odd = rng.choice([3, 5, 7])
        part[:] = (odd * (2 * rng.integers(0, 255, part.shape) + 1)) / 2048
        part[0] = 510 * odd / 2048
    return scale


def large_scores(rng, keys, head_dim):
    """(q [1, 1, d], K rows): scores near 450 within a few units of each other, where one ulp moves the rounded p."""
    sign = rng.choice([-1, 1], head_dim)
    codes = np.broadcast_to(8 + 7 * sign, (keys, 1, head_dim)).astype(np.uint8)
    groups = head_dim // 64
    scale = (0.5 + 0.005 * rng.random((keys, 1, groups))).astype(np.float16)
    q = sign * rng.uniform(0.9, 1, head_dim) * 8 * np.sqrt(128 / head_dim)
    return q[None, None].astype(F32), CacheRows(codes.copy(), scale, np.full((keys, 1, groups), 8, np.uint8))
