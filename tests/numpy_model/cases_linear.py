# SPDX-License-Identifier: Apache-2.0
"""Cases for quantize_weights_rtn, quantize_act, linear_w4ax and linear_w8a8."""

import numpy as np

from activations import Activations, Site, max_ratio, pack_activations, quantize_act
from cases_ties import activation_rows
from fp32 import F32, round_bf16
from linear import accumulate, linear_w4ax, linear_w8a8, scale_output
from safetensors_io import bf16, f32, i32, tensor
from weights import (
    GROUP,
    W4Weights,
    expand_w8,
    group_parameters,
    pack_nibbles,
    quantize_head_rtn,
    quantize_weights_rtn,
    zero_interval,
)


def scalar(inputs, name):
    """The value of a shape-[1] tensor."""
    (value,) = inputs[name].data
    return value


# quantize_weights_rtn


def _grid_weights(rng, n, groups, moved_only):
    """Integer weights whose rows reach 119 (s0 = 1), so each group spans exactly [low, high] of its choice."""
    low, high = np.meshgrid(np.arange(-119, 1), np.arange(120), indexing="ij")
    _, free, z = group_parameters(low, high)
    pool = np.flatnonzero((free != z) | (not moved_only))
    picks = rng.choice(pool, n * groups)
    low, high = low.ravel()[picks], high.ravel()[picks]
    w = rng.integers(low[:, None], high[:, None] + 1, (n * groups, GROUP))
    w[:, 5], w[:, 77] = low, high
    w = w.reshape(n, groups * GROUP)
    extra = np.zeros((n, GROUP), w.dtype)
    extra[:, 3] = 119
    return np.concatenate([w, extra], axis=1).astype(F32)


def rtn_cases(rng, large):
    n = 48 if large else 8
    k = 1024 if large else 256
    normal = rng.standard_normal((n, k)).astype(F32)
    yield "random", {"w": tensor(normal)}
    yield "random_bf16", {"w": tensor(round_bf16(normal * F32(0.02)))}
    yield (
        "group_magnitudes",
        {"w": tensor(normal * np.repeat(F32(10) ** rng.uniform(-3, 1, (n, k // 128)), 128, 1).astype(F32))},
    )
    yield "one_sided", {"w": tensor(np.where(np.arange(n)[:, None] % 2 == 0, -np.abs(normal), np.abs(normal)))}
    yield "moved_zero_points", {"w": tensor(_grid_weights(rng, n, 3, moved_only=True))}
    yield "integer_groups", {"w": tensor(_grid_weights(rng, n, 3, moved_only=False))}
    halves = rng.integers(-119, 119, (n, k)).astype(F32) + F32(0.5)
    halves[:, 0] = 119
    yield "ties", {"w": tensor(halves)}
    rows = [
        np.zeros(128),
        np.full(128, 0.3),
        np.full(128, -0.3),
        1e30 * normal[0, :128],
        1e-30 * normal[1, :128],
        2.0**-140 * np.clip(normal[2, :128], -1, 1),
        np.eye(1, 128, 9)[0] * -5.0,
        np.where(np.arange(128) % 2, 1.0, -1.0),
    ]
    yield "edge_rows", {"w": tensor(np.array(rows).astype(F32))}


def rtn_expected(inputs):
    return {name: tensor(value) for name, value in quantize_weights_rtn(inputs["w"].data)._asdict().items()}


# quantize_act


def edge_rows(rng, channels):
    """Rows [m, channels] in position order (before the inverse of act_perm), one difficulty each."""
    normal = rng.standard_normal((16, channels)).astype(F32)
    position = np.arange(channels)
    first, last = position < GROUP, position >= GROUP
    half_steps = rng.integers(-7, 7, channels) + 0.5
    spike = np.eye(1, channels, 3)[0]
    rows = [
        np.zeros(channels),
        normal[0],
        normal[1] * np.where(first, 40, 1),  # outliers in the first group
        normal[2] * 1e-3 + spike * 3e4,  # r = rmax
        normal[3] * 10.0 ** rng.uniform(-4, 2, channels),
        normal[4] * np.repeat(10.0 ** rng.uniform(-2, 0, -(-channels // 128)), 128)[:channels],  # all m
        np.full(channels, 1.25),
        np.full(channels, -7e-5),
        normal[5] * 1e30,
        normal[6] * 2.0**-140,
        np.full(channels, 2.0**-100),
        np.full(channels, np.nextafter(F32(2.0**-100), F32(0))),
        np.where(first, normal[7], normal[7] * 2.0**-110),  # region 2 below 2^-100
        np.where(last, normal[8], normal[8] * 2.0**-110),  # region 1 below 2^-100
        np.where(first, 0, normal[9]),
        np.where(last, 0, normal[10]),
        np.where(position % 128 == 0, 119, half_steps),  # ties with m = 17, sx = 1
        np.where(position == channels - 1, 119, np.where(position % 128 == 1, 7, half_steps)),  # ties with m = 1
        np.where(position % 128 == 2, -127, rng.integers(-127, 127, channels) + 0.5),  # ties in 8 bits
        -np.abs(normal[11]),
    ]
    return np.array(rows).astype(F32)


def _scatter(rows, perm):
    x = np.zeros_like(rows)
    x[:, perm] = rows
    return x


_ACT_CONFIGS = {
    # name: (channels, n8, bits2, rotate, clip1, clip2)
    "n8_0_bits8": (128, 0, 8, False, 1.0, 1.0),
    "n8_0_bits8_rotated": (256, 0, 8, True, 1.0, 1.0),
    "n8_0_bits4": (256, 0, 4, False, 1.0, 1.0),
    "n8_0_bits4_rotated": (256, 0, 4, True, 1.0, 0.95),
    "n8_all_bits4": (128, 1, 4, True, 0.9, 1.0),
    "n8_all_bits8": (128, 1, 8, False, 1.0, 1.0),
    "mixed_bits4": (384, 1, 4, False, 1.0, 1.0),
    "mixed_bits4_rotated": (384, 1, 4, True, 0.97, 0.95),
    "mixed_bits8": (256, 1, 8, False, 1.0, 0.8),
    "mixed_bits8_rotated": (384, 2, 8, True, 1.0, 1.0),
    "padded_bits4": (200, 1, 4, True, 1.0, 1.0),
    "padded_bits8": (64, 0, 8, True, 1.0, 1.0),
    "padded_one": (129, 1, 4, False, 1.0, 1.0),
    "smallest_clips": (256, 1, 4, True, 2.0**-8, 2.0**-8),
}


def random_site(rng, channels, n8, bits2, rotate, clip1=1.0, clip2=1.0):
    """(Site with a random bijection and -1 padding at the end, the bijection)."""
    perm = rng.permutation(channels)
    padded = np.full(-(-channels // GROUP) * GROUP, -1, np.int32)
    padded[:channels] = perm
    return Site(padded, n8, bits2, rotate, F32(clip1), F32(clip2)), perm


def site_tensors(site):
    return {
        "act_perm": tensor(site.act_perm),
        "n8": i32(site.n8),
        "bits2": i32(site.bits2),
        "rotate": i32(site.rotate),
        "clip1": f32(site.clip1),
        "clip2": f32(site.clip2),
    }


def act_cases(rng, large):
    for name, config in _ACT_CONFIGS.items():
        site, perm = random_site(rng, *config)
        yield name, {"x": tensor(_scatter(edge_rows(rng, config[0]), perm)), **site_tensors(site)}
    site, perm = random_site(rng, 1280, 1, 4, rotate=False)
    rows = activation_rows(rng, site, 40 if large else 3)
    yield "near_ties_many_groups", {"x": tensor(_scatter(rows, perm)), **site_tensors(site)}
    for bits2, clips in ((4, ()), (4, (0.97, 0.95)), (8, ())):
        site, perm = random_site(rng, 384, 1, bits2, False, *clips)
        rows = activation_rows(rng, site, 100 if large else 6)
        name = f"near_ties_bits{bits2}{'_clipped' if clips else ''}"
        yield name, {"x": tensor(_scatter(rows, perm)), **site_tensors(site)}
    for index in range(24 if large else 0):
        channels = int(rng.integers(1, 4096))
        n8 = int(rng.integers(0, -(-channels // GROUP) + 1))
        clips = rng.uniform(0.5, 1, 2)
        site, perm = random_site(rng, channels, n8, int(rng.choice([4, 8])), bool(rng.integers(2)), *clips)
        rows = edge_rows(rng, channels)
        yield f"random_{index}", {"x": tensor(_scatter(rows, perm)), **site_tensors(site)}


def act_expected(inputs):
    site = Site(
        inputs["act_perm"].data,
        *(int(scalar(inputs, name)) for name in ("n8", "bits2", "rotate")),
        *(scalar(inputs, name) for name in ("clip1", "clip2")),
    )
    acts = quantize_act(inputs["x"].data, site)
    k1 = site.n8 * GROUP
    rmax = max_ratio(k1, len(site.act_perm) - k1, site.bits2)
    return {**acts_tensors(acts), "rmax": i32(rmax)}


def acts_tensors(acts):
    return {name: tensor(value) for name, value in acts._asdict().items()}


# linear_w4ax


def random_weights(rng, n, k):
    """Any legal W4Weights: all codes, all group scales, zero points over their whole intervals."""
    s1 = rng.integers(1, 17, (n, k // GROUP))
    bounds = np.array([zero_interval(s) for s in s1.ravel()])
    z = rng.integers(bounds[:, 0], bounds[:, 1] + 1).reshape(s1.shape)
    q4 = rng.integers(0, 16, (n, k))
    s0 = 10.0 ** rng.uniform(-4, -1, n)
    return W4Weights(pack_nibbles(q4), s1.astype(np.uint8), z.astype(np.uint8), s0.astype(F32))


def extreme_weights(n, k, q4):
    """s1 = 16, z = 8: q4 = 0 gives w8 = -128 everywhere, 15 gives 112."""
    full = np.full((n, k // GROUP), 16, np.uint8), np.full((n, k // GROUP), 8, np.uint8)
    return W4Weights(pack_nibbles(np.full((n, k), q4)), *full, np.full(n, 1 / 512, F32))


def extreme_acts(k, n8, bits2, code_sign):
    """One row with every code at its bound, r = rmax and m = 17: |acc| as large as it can be."""
    groups = k // GROUP
    codes1 = np.full((1, n8, GROUP), 127 * code_sign)
    codes2 = np.full((1, groups - n8, GROUP), (127 if bits2 == 8 else 7) * code_sign)
    r = max_ratio(n8 * GROUP, (groups - n8) * GROUP, bits2)
    m = np.full((1, groups - n8), 1 if bits2 == 8 else 17)
    return pack_activations(codes1, codes2, m, np.array([r]), np.array([0.001], F32))


def _linear_inputs(acts, n8, weights, bias=None):
    inputs = {**acts_tensors(acts), "n8": i32(n8), **{k: tensor(v) for k, v in weights._asdict().items()}}
    if bias is not None:
        inputs["bias"] = bf16(bias)
    return inputs


_LINEAR_CONFIGS = {
    # name: (channels, n8, bits2, rows, N)
    "w4a4": (384, 0, 4, 3, 7),
    "w4a8": (384, 0, 8, 5, 16),
    "w4a8_mixed": (384, 1, 8, 1, 33),
    "w4ax_mixed": (640, 2, 4, 4, 24),
    "w4ax_all8": (256, 2, 4, 2, 17),
    "w4ax_padded": (200, 1, 4, 17, 8),
    "w4ax_one_group": (128, 0, 4, 2, 1),
}


def w4ax_cases(rng, large):
    for name, (channels, n8, bits2, rows, n) in _LINEAR_CONFIGS.items():
        site, _ = random_site(rng, channels, n8, bits2, rotate=True)
        acts = quantize_act(edge_rows(rng, channels)[1 : rows + 1], site)
        k = len(site.act_perm)
        yield name, _linear_inputs(acts, n8, random_weights(rng, n, k))
        w = rng.standard_normal((n, k)).astype(F32)
        yield name + "_rtn_bias", _linear_inputs(acts, n8, quantize_weights_rtn(w), rng.standard_normal(n).astype(F32))
    for k, n8, bits2 in ((128, 0, 4), (256, 1, 4), (512, 1, 8), (512, 4, 4), (2048, 2, 4)):
        for sign in (-1, 1):
            for q4 in (0, 15):
                name = f"extreme_k{k}_n8_{n8}_bits{bits2}_{'plus' if sign > 0 else 'minus'}_q{q4}"
                yield name, _linear_inputs(extreme_acts(k, n8, bits2, sign), n8, extreme_weights(2, k, q4))
    yield "extreme_k65536", _linear_inputs(extreme_acts(65536, 3, 4, -1), 3, extreme_weights(1, 65536, 0))
    if large:
        yield "extreme_k65536_all8", _linear_inputs(extreme_acts(65536, 512, 4, -1), 512, extreme_weights(1, 65536, 0))
    site, _ = random_site(rng, 256, 1, 4, rotate=False)
    tiny = rng.standard_normal((3, 256)).astype(F32) * F32(2.0**-90)
    weights = random_weights(rng, 9, 256)
    weights = weights._replace(channel_scale=(weights.channel_scale * F32(2.0**-60)).astype(F32))
    yield "subnormal_output", _linear_inputs(quantize_act(tiny, site), 1, weights)
    yield "zero_rows", _linear_inputs(quantize_act(tiny * F32(0), site), 1, weights, rng.standard_normal(9).astype(F32))
    for index in range(16 if large else 0):
        channels = int(rng.integers(1, 2048))
        n8 = int(rng.integers(0, -(-channels // GROUP) + 1))
        site, _ = random_site(rng, channels, n8, int(rng.choice([4, 8])), bool(rng.integers(2)))
        acts = quantize_act(edge_rows(rng, channels), site)
        weights = random_weights(rng, int(rng.integers(1, 130)), len(site.act_perm))
        yield f"random_{index}", _linear_inputs(acts, n8, weights)


def _acts_of(inputs):
    return Activations(*(inputs[name].data for name in Activations._fields))


def w4ax_expected(inputs):
    acts = _acts_of(inputs)
    weights = W4Weights(*(inputs[name].data for name in W4Weights._fields))
    n8 = int(scalar(inputs, "n8"))
    bias = inputs["bias"].f32() if "bias" in inputs else None
    y = linear_w4ax(acts, weights, n8, bias)
    return {"acc": tensor(accumulate(acts, expand_w8(weights), n8)), "y": tensor(y), "y_bf16": bf16(y)}


# linear_w8a8


def w8a8_cases(rng, large):
    configs = ((128, 2, 5), (256, 3, 33), (200, 4, 9)) + (((2048, 20, 300),) if large else ())
    for channels, rows, n in configs:
        site, _ = random_site(rng, channels, 0, 8, rotate=False)
        identity = np.where(site.act_perm < 0, -1, np.arange(len(site.act_perm))).astype(np.int32)
        acts = quantize_act(edge_rows(rng, channels)[1 : rows + 1], site._replace(act_perm=identity))
        w = np.zeros((n, len(identity)), F32)
        w[:, :channels] = rng.standard_normal((n, channels))
        weight, scale = quantize_head_rtn(w)
        yield f"k{channels}", {**acts_tensors(acts), "weight": tensor(weight), "channel_scale": tensor(scale)}
    for sign in (-1, 1):
        name = f"extreme_{'plus' if sign > 0 else 'minus'}"
        weight, scale = np.full((2, 4096), -127, np.int8), np.array([1e-3, 0.3], F32)
        acts = extreme_acts(4096, 0, 8, sign)
        yield name, {**acts_tensors(acts), "weight": tensor(weight), "channel_scale": tensor(scale)}


def w8a8_expected(inputs):
    acts, weight, scale = _acts_of(inputs), inputs["weight"].data, inputs["channel_scale"].data
    acc = accumulate(acts, weight.astype(np.int64), 0)
    y = linear_w8a8(acts, weight, scale)
    assert np.array_equal(y, scale_output(acc, acts.sx, scale))
    return {"acc": tensor(acc), "y": tensor(y)}
