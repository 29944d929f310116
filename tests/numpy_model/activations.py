# SPDX-License-Identifier: Apache-2.0
"""quantize_act: permute, rotate, and quantize the rows of a linear's input to 8-bit and 4-bit codes."""

from typing import NamedTuple

import numpy as np

from fp32 import F32, hadamard, require_finite, rne_clamp
from weights import GROUP

TINY = F32(2.0**-100)


class Site(NamedTuple):
    """How the input of one or more linears is quantized."""

    act_perm: np.ndarray  # i32 [K]: position -> input channel, -1 = padding
    n8: int  # groups in region 1
    bits2: int  # 4 or 8
    rotate: bool  # region 2 only
    clip1: np.float32 = F32(1)
    clip2: np.float32 = F32(1)


class Activations(NamedTuple):
    """m rows of K channels in G = K / 128 groups."""

    codes: np.ndarray  # i8 [m, K]
    multipliers: np.ndarray  # u8 [m, G]: m[t, g]; 1 in 8-bit groups
    r: np.ndarray  # i32 [m]
    sx: np.ndarray  # f32 [m]
    asum: np.ndarray  # i32 [m, G]: sum of a group's codes (fits int16)
    osum: np.ndarray  # i32 [m]: modulo 2^32


def region_limit(bits2):
    """L: the largest integer magnitude in region 2."""
    return 127 if bits2 == 8 else 17 * 7


def max_ratio(k1, k2, bits2):
    """rmax, the largest r for which acc cannot leave int32; k1 and k2 count channels with padding."""
    if k1 == 0:
        return 1
    return (2**31 - 1 - region_limit(bits2) * 128 * k2) // (127 * 128 * k1)


def permute(x, act_perm):
    """x[:, act_perm] with 0 at padding."""
    return np.where(act_perm < 0, F32(0), np.asarray(x, F32)[:, np.maximum(act_perm, 0)])


def quantize_act(x, site, where="activation"):
    """fp32 rows [m, C] -> Activations; raises NonFiniteError when a permuted, rotated value is not finite."""
    k = len(site.act_perm)
    k1 = site.n8 * GROUP
    k2 = k - k1
    m_rows = x.shape[0]
    x = permute(x, site.act_perm).reshape(m_rows, k // GROUP, GROUP)
    x1, x2 = x[:, : site.n8], x[:, site.n8 :]
    if site.rotate and k2:
        x2 = hadamard(x2)
    require_finite(x1, where)
    require_finite(x2, where)

    amax1 = np.abs(x1).max(axis=(1, 2), initial=F32(0))
    amax_g = np.abs(x2).max(axis=2, initial=F32(0))
    amax2 = amax_g.max(axis=1, initial=F32(0))
    live1, live2 = amax1 >= TINY, amax2 >= TINY
    amax1 = np.where(live1, amax1, F32(0))
    amax2 = np.where(live2, amax2, F32(0))
    amax_g = np.where(live2[:, None], amax_g, F32(0))

    rmax = max_ratio(k1, k2, site.bits2)
    d1 = (site.clip1 * amax1) / F32(127)
    d2 = (site.clip2 * amax2) / F32(region_limit(site.bits2))
    sx = np.maximum(d2, d1 / F32(rmax))
    some = sx > 0
    divisor = np.where(some, sx, F32(1))  # a row without a scale has only zero codes; any divisor will do
    r = np.clip(np.ceil(d1 / divisor), F32(1), F32(rmax))

    inv1 = F32(1) / (r * divisor)
    codes1 = rne_clamp(x1 * inv1[:, None, None], -127, 127)
    if site.bits2 == 8:
        m = np.ones_like(amax_g)
        codes2 = rne_clamp(x2 * (F32(1) / divisor)[:, None, None], -127, 127)
    else:
        m = np.clip(np.ceil((site.clip2 * amax_g) / (F32(7) * divisor)[:, None]), F32(1), F32(17))
        inv_g = F32(1) / (m * divisor[:, None])
        codes2 = rne_clamp(x2 * inv_g[:, :, None], -7, 7)
    codes1 = np.where((some & live1)[:, None, None], codes1, 0)
    codes2 = np.where((some & live2)[:, None, None], codes2, 0)
    return pack_activations(codes1, codes2, m, np.where(some, r, F32(1)), sx)


def pack_activations(codes1, codes2, m, r, sx):
    """Activations from codes [rows, groups, 128] of both regions, m of region 2, r and sx; sums are made here."""
    codes = np.concatenate([codes1, codes2], axis=1)
    rows, groups, _ = codes.shape
    multipliers = np.ones((rows, groups), np.int64)
    multipliers[:, codes1.shape[1] :] = m
    asum = codes.sum(axis=2)
    if np.abs(asum).max(initial=0) > 32767:
        raise ArithmeticError("asum left int16")
    r = np.asarray(r).astype(np.int64)
    osum = r * codes1.sum(axis=(1, 2)) + (multipliers * asum)[:, codes1.shape[1] :].sum(axis=1)
    return Activations(
        codes.reshape(rows, groups * GROUP).astype(np.int8),
        multipliers.astype(np.uint8),
        r.astype(np.int32),
        np.asarray(sx, F32),
        asum.astype(np.int32),
        (osum & 0xFFFFFFFF).astype(np.uint32).view(np.int32),
    )
