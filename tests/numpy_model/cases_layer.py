# SPDX-License-Identifier: Apache-2.0
"""Cases for exp2, rms_norm, silu_mul and rope_table."""

import numpy as np

from cases_linear import scalar
from fp32 import F32, exp2
from layer_ops import rms_norm, rope_inv_freq, rope_table, silu_mul
from safetensors_io import bf16, f32, i32, tensor

ROPE_KINDS = ("default", "linear", "llama3")


def exp2_cases(rng, large):
    count = 20000 if large else 1000
    steps = np.arange(-130, 131).astype(F32)
    neighbours = [np.nextafter(steps, F32(np.inf)), np.nextafter(steps, F32(-np.inf))]
    extremes = [0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, 1e-8, -1e-8, 1e30, -1e30, 3.4e38, -3.4e38, np.inf, -np.inf]
    yield "extremes", {"x": tensor(np.array(extremes, F32))}
    yield "integers", {"x": tensor(np.concatenate([steps, *neighbours]))}
    halves = steps + F32(0.5)
    yield (
        "halves",
        {"x": tensor(np.concatenate([halves, np.nextafter(halves, F32(200)), np.nextafter(halves, F32(-200))]))},
    )
    yield "random", {"x": tensor(rng.uniform(-131, 131, count).astype(F32))}
    yield "scores", {"x": tensor(-np.abs(rng.standard_normal(count) * 8).astype(F32))}
    yield "near_zero", {"x": tensor((rng.choice([-1, 1], count) * 2.0 ** rng.uniform(-40, 0, count)).astype(F32))}


def exp2_expected(inputs):
    return {"y": tensor(exp2(inputs["x"].data))}


def rms_norm_cases(rng, large):
    for width in (64, 80, 128, 200, 256, 400) + ((2048, 4097) if large else ()):
        normal = rng.standard_normal((6, width))
        rows = [
            normal[0],
            normal[1] * 10.0 ** rng.uniform(-6, 6, width),
            np.zeros(width),
            normal[2] * 2.0**-140,
            normal[3] * 1e30,  # the sum of squares overflows: inv = 0
            normal[4] * 1e17,
            np.full(width, -3.7),
            normal[5] * 1e-4,
        ]
        gain = rng.standard_normal(width).astype(F32)
        x = np.array(rows).astype(F32)
        yield f"h{width}", {"x": tensor(x), "gain": tensor(gain), "eps": f32(1e-6 if width % 128 else 1e-5)}


def rms_norm_expected(inputs):
    return {"y": tensor(rms_norm(inputs["x"].data, inputs["gain"].data, scalar(inputs, "eps")))}


def silu_mul_cases(rng, large):
    width = 2000 if large else 256
    gate = rng.standard_normal((3, width)) * np.array([[1], [8], [40]])
    up = rng.standard_normal((3, width))
    yield "random", {"gate_up": bf16(np.concatenate([gate, up], axis=1).astype(F32))}
    edges = np.array(
        [0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, 3e38, -3e38, 87.5, -87.0, -87.5, -88.0, -88.5, -89.0, -90.0, -100.0]
        + [88.0, 128.0, -128.0, 1e-20, -1e-20, 16.0, -16.0, -1.0]
    )
    for name, factor in (("edges", 1.0), ("edges_negative_up", -0.75), ("edges_zero_up", 0.0)):
        gate_up = np.concatenate([edges, np.full_like(edges, factor)])[None, :]
        yield name, {"gate_up": bf16(gate_up.astype(F32))}


def silu_mul_expected(inputs):
    gate, up = np.split(inputs["gate_up"].f32(), 2, axis=1)
    return {"y": tensor(silu_mul(gate, up))}


_ROPE_CONFIGS = {
    # name: (head_dim, theta, kind, factor, low, high, original context)
    "default_d64": (64, 1e4, "default", 1, 1, 1, 1),
    "default_d80": (80, 1e4, "default", 1, 1, 1, 1),
    "default_d128": (128, 1e6, "default", 1, 1, 1, 1),
    "linear_d64": (64, 1e4, "linear", 4, 1, 1, 1),
    "linear_d128": (128, 1e4, "linear", 2.5, 1, 1, 1),
    "llama31_d128": (128, 5e5, "llama3", 8, 1, 4, 8192),
    "llama32_d64": (64, 5e5, "llama3", 32, 1, 4, 8192),
    "llama3_short_d256": (256, 1e4, "llama3", 8, 1, 4, 128),
}


def rope_table_cases(rng, large):
    for name, (head_dim, theta, kind, factor, low, high, context) in _ROPE_CONFIGS.items():
        positions = [
            0,
            1,
            2,
            3,
            63,
            64,
            65,
            255,
            1000,
            4096,
            8191,
            131071,
            *rng.integers(0, 1 << 17, 300 if large else 2),
        ]
        yield (
            name,
            {
                "positions": tensor(np.array(positions, np.int32)),
                "head_dim": i32(head_dim),
                "theta": f32(theta),
                "kind": i32(ROPE_KINDS.index(kind)),
                "factor": f32(factor),
                "low_freq_factor": f32(low),
                "high_freq_factor": f32(high),
                "original_context": i32(context),
            },
        )


def rope_table_expected(inputs):
    scaling = {
        "rope_type": ROPE_KINDS[scalar(inputs, "kind")],
        "factor": scalar(inputs, "factor"),
        "low_freq_factor": scalar(inputs, "low_freq_factor"),
        "high_freq_factor": scalar(inputs, "high_freq_factor"),
        "original_max_position_embeddings": scalar(inputs, "original_context"),
    }
    inv_freq = rope_inv_freq(int(scalar(inputs, "head_dim")), float(scalar(inputs, "theta")), scaling)
    cos, sin = rope_table(inputs["positions"].data, inv_freq)
    return {"cos": tensor(cos), "sin": tensor(sin)}
