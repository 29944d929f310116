# SPDX-License-Identifier: Apache-2.0
"""Cases for rope_append and attention."""

import numpy as np

from attention import attention
from cases_linear import scalar
from cases_ties import head_rows, large_scores, probability_scales, query_rows
from fp32 import F32, is_power_of_two
from kv_cache import CacheRows, QkNorm, quantize_k, quantize_v, rope_append
from layer_ops import rope_inv_freq, rope_table
from safetensors_io import bf16, f32, i32, tensor

# rope_append


def _qkv_rows(rng, tokens, heads, kv_heads, head_dim):
    """Random rows [tokens, heads + 2 kv_heads, d], then rows of one difficulty each."""
    shape = (heads + 2 * kv_heads, head_dim)
    steps = rng.integers(0, 15, shape) + 0.5
    steps[..., 0], steps[..., 1] = 0, 15  # V: s = 1 and every code a tie
    low_steps = steps - 6.5
    edge = [
        np.zeros(shape),
        steps,
        low_steps,
        -np.abs(rng.standard_normal(shape)),
        np.full(shape, 2.5),
        np.full(shape, -2.5),
        rng.standard_normal(shape) * 1e-6,  # subnormal fp16 scale
        rng.standard_normal(shape) * 1e-8,  # fp16 scale rounds to 0 in V
        rng.standard_normal(shape) * 2.0**-135,
        np.clip(rng.standard_normal(shape), -2, 2) * 2e4,
        rng.standard_normal(shape) * np.where(np.arange(head_dim) % 32 == 7, 50, 1),
    ]
    return np.concatenate([rng.standard_normal((tokens, *shape)) * 3, np.array(edge)]).astype(F32)


def _append_inputs(rng, heads, kv_heads, head_dim, bits, rotate, tokens=1, first=0):
    rows = _qkv_rows(rng, tokens, heads, kv_heads, head_dim)
    positions = np.arange(first, first + len(rows))
    cos, sin = rope_table(positions, rope_inv_freq(head_dim, 1e4))
    return {
        "qkv": bf16(rows.reshape(len(rows), -1)),
        "cos": tensor(cos),
        "sin": tensor(sin),
        "num_heads": i32(heads),
        "num_kv_heads": i32(kv_heads),
        "rotate": i32(rotate),
        "bits": i32(bits),
    }


def rope_append_cases(rng, large):
    shapes = [(2, 1, 64), (1, 2, 80), (1, 1, 128), (1, 1, 256)] + ([(8, 2, 64), (14, 2, 128)] if large else [])
    for heads, kv_heads, head_dim in shapes:
        for bits in (4, 8):
            for rotate in (False, True):
                if rotate and not is_power_of_two(head_dim):
                    continue
                if head_dim > 80 and rotate != (bits == 4) and not large:
                    continue
                name = f"d{head_dim}_kv{bits}_{heads}_{kv_heads}{'_rotated' if rotate else ''}"
                first = int(rng.integers(0, 5000))
                yield name, _append_inputs(rng, heads, kv_heads, head_dim, bits, rotate, 16 if large else 1, first)
    unturned = _append_inputs(rng, 1, 1, 64, 4, False)
    for name, value in (("cos", 1), ("sin", 0)):
        unturned[name] = tensor(np.full_like(unturned[name].data, value))
    yield "unturned_ties", unturned
    for bits in (4, 8):
        yield f"near_ties_kv{bits}", _near_tie_heads(rng, bits, 100 if large else 8)
    normed = _append_inputs(rng, 2, 1, 64, 4, True)
    gains = {f"{n}_gain": tensor(rng.uniform(0.5, 2, 64).astype(F32)) for n in "qk"}
    yield "qk_norm_d64", {**normed, **gains, "eps": f32(1e-6)}


def _near_tie_heads(rng, bits, tokens):
    """K = 1 * cos with sin = 0: the table carries the values, so that K is not limited to bf16."""
    qkv = np.ones((tokens, 3 * 64), F32)
    cos = head_rows(rng, bits, tokens)
    return {
        "qkv": bf16(qkv),
        "cos": tensor(cos),
        "sin": tensor(np.zeros_like(cos)),
        "num_heads": i32(1),
        "num_kv_heads": i32(1),
        "rotate": i32(False),
        "bits": i32(bits),
    }


def rope_append_expected(inputs):
    qk_norm = None
    if "eps" in inputs:
        qk_norm = QkNorm(inputs["q_gain"].data, inputs["k_gain"].data, scalar(inputs, "eps"))
    heads, kv_heads, rotate, bits = (int(scalar(inputs, n)) for n in ("num_heads", "num_kv_heads", "rotate", "bits"))
    cos, sin = inputs["cos"].data, inputs["sin"].data
    q, k_rows, v_rows = rope_append(inputs["qkv"].f32(), heads, kv_heads, cos, sin, bool(rotate), bits, qk_norm)
    return {"q": tensor(q), **_cache_tensors("k", k_rows), **_cache_tensors("v", v_rows)}


def _cache_tensors(prefix, rows):
    """V has one group, so its scales and zeros lose the group axis."""
    squeeze = (lambda a: a[..., 0]) if prefix == "v" else (lambda a: a)
    tensors = {f"{prefix}_codes": tensor(rows.codes), f"{prefix}_scale": tensor(squeeze(rows.scale))}
    if rows.zero is not None:
        tensors[f"{prefix}_zero"] = tensor(squeeze(rows.zero))
    return tensors


# attention


def _random_cache(rng, keys, kv_heads, head_dim, bits):
    k = rng.standard_normal((keys, kv_heads, head_dim)).astype(F32)
    v = (rng.standard_normal((keys, kv_heads, head_dim)) * 10.0 ** rng.uniform(-1, 1, (keys, 1, 1))).astype(F32)
    return quantize_k(k, bits), quantize_v(v, bits)


def _attention_inputs(q, k_rows, v_rows, first_pos):
    cache = {**_cache_tensors("k", k_rows), **_cache_tensors("v", v_rows)}
    return {"q": tensor(np.asarray(q, F32)), **cache, "first_pos": i32(first_pos)}


def _random_case(rng, tokens, first_pos, heads, kv_heads, head_dim, bits=4, sharpness=2.0):
    q = rng.standard_normal((tokens, heads, head_dim)) * sharpness
    return _attention_inputs(q, *_random_cache(rng, first_pos + tokens, kv_heads, head_dim, bits), first_pos)


def _cancel_case(rng, blocks, last_keys):
    """V of the blocks: large, small, .., then the same large ones negated, so a wrong fold order shows in bf16."""
    keys = (blocks - 1) * 64 + last_keys
    k_rows, v_rows = _random_cache(rng, keys, 1, 64, 4)
    codes = rng.integers(0, 16, (64, 1, 64)).astype(np.uint8)
    scale = rng.uniform(0.5, 1.5, (64, 1, 1))
    for block in range(blocks):
        rows = slice(block * 64, min(keys, block * 64 + 64))
        count = rows.stop - rows.start
        big = block in (0, blocks // 2, blocks - 2)
        mirrored = block == blocks - 2
        v_rows.codes[rows] = (15 - codes if mirrored else codes)[:count] if big else v_rows.codes[rows]
        v_rows.zero[rows] = (8 if mirrored else 7) if big else 7
        factor = (20000.0 if mirrored else 10000.0) if big else rng.uniform(0.01, 0.1)
        v_rows.scale[rows] = (scale[:count] * factor).astype(np.float16)
    q = np.concatenate([np.zeros((1, 1, 64)), rng.standard_normal((2, 1, 64)) * 1e-3])
    return _attention_inputs(q, k_rows, v_rows, keys - 3)


def _edge_queries(rng):
    """Rows of q of one difficulty each, over 200 keys."""
    q = rng.standard_normal((12, 1, 64))
    q[0] = 0
    q[1] *= 2.0**-105
    q[2] = 2.0**-100
    q[3] *= 2.0**-95
    q[4] = rng.integers(-127, 127, 64) + 0.5
    q[4, 0, 0] = 127  # sq = 1, ties
    q[5] *= 1e4  # one-hot
    q[6] *= 100  # whole blocks vanish, exponents near -126
    q[7] = -q[5]
    q[8] = np.eye(1, 64, 11)
    q[9] *= 1e25
    q[10] *= 20
    return _attention_inputs(q, *_random_cache(rng, 200, 1, 64, 4), 188)


def attention_cases(rng, large):
    yield "prefill_one_block", _random_case(rng, 5, 0, 4, 2, 64)
    yield "prefill_over_a_block", _random_case(rng, 5, 61, 2, 1, 64)
    yield "prefill_over_a_split", _random_case(rng, 4, 254, 2, 1, 64)
    yield "decode_1101", _random_case(rng, 1, 1100, 2, 1, 64)
    yield "gqa7_d128_280", _random_case(rng, 2, 278, 7, 1, 128)
    yield "d80_130", _random_case(rng, 3, 127, 2, 1, 80)
    yield "d256_67", _random_case(rng, 2, 65, 2, 1, 256)
    yield "kv8_d64_150", _random_case(rng, 3, 147, 2, 1, 64, bits=8)
    yield "kv8_d80_70", _random_case(rng, 3, 67, 2, 2, 80, bits=8)
    yield "near_tie_queries", _attention_inputs(query_rows(rng, 12), *_random_cache(rng, 76, 1, 64, 4), 64)
    k_rows, v_rows = _random_cache(rng, 130, 1, 64, 4)
    v_rows = v_rows._replace(scale=probability_scales(rng, 130))
    yield "tie_probabilities", _attention_inputs(np.zeros((1, 1, 64)), k_rows, v_rows, 129)
    for head_dim in (128, 256) if large else (128,):
        q, k_rows = large_scores(rng, 70, head_dim)
        yield f"large_scores_d{head_dim}", _attention_inputs(q, k_rows, _random_cache(rng, 70, 1, head_dim, 4)[1], 69)
    yield "edge_queries", _edge_queries(rng)
    for blocks, last_keys in ((9, 3),) + (((6, 64), (33, 40), (70, 1)) if large else ()):
        yield f"cancel_{blocks}_blocks", _cancel_case(rng, blocks, last_keys)

    inputs = _random_case(rng, 2, 198, 2, 1, 64)
    inputs["v_scale"].data[64:128] = 0
    inputs["k_scale"].data[130:160] = 0
    yield "zero_scales", inputs
    k_rows, v_rows = _random_cache(rng, 140, 1, 64, 4)
    full = [rows._replace(codes=np.where(rows.codes > 7, 15, 0).astype(np.uint8)) for rows in (k_rows, v_rows)]
    full = [rows._replace(zero=np.where(rows.zero > 7, 15, 0).astype(np.uint8)) for rows in full]
    yield "extreme_codes", _attention_inputs(rng.choice([-1.0, 1.0], (2, 1, 64)), *full, 138)

    # Slots after the last position may hold anything.
    k_rows, v_rows = _random_cache(rng, 150, 1, 64, 4)
    for rows in (k_rows, v_rows):
        rows.scale[100:] = np.float16(np.nan)
        rows.codes[100:], rows.zero[100:] = 15, 0
    yield "garbage_after_the_end", _attention_inputs(rng.standard_normal((3, 2, 64)), k_rows, v_rows, 97)

    # Windows: inside a kv_block, at its edges, over splits; slots before the first window may hold anything, too.
    for window, first_pos, bits in ((1, 62, 4), (20, 80, 4), (64, 126, 8), (65, 190, 4), (300, 700, 4), (256, 510, 8)):
        inputs = _random_case(rng, 4, first_pos, 2, 1, 64, bits)
        end = first_pos - window + 1
        if end > 0:
            for name in ("k_scale", "v_scale"):
                inputs[name].data[:end] = np.nan
        yield f"window_{window}_kv{bits}", {**inputs, "window": i32(window)}

    for index in range(10 if large else 0):
        head_dim = int(rng.choice([64, 80, 96, 128, 256]))
        kv_heads, ratio = int(rng.integers(1, 3)), int(rng.integers(1, 5))
        tokens, first_pos = int(rng.integers(1, 20)), int(rng.integers(0, 4500))
        bits, sharpness = int(rng.choice([4, 8])), float(10.0 ** rng.uniform(-1, 1))
        yield (
            f"random_{index}",
            _random_case(rng, tokens, first_pos, kv_heads * ratio, kv_heads, head_dim, bits, sharpness),
        )


def _cache_rows(inputs, prefix):
    grouped = (lambda a: a[..., None]) if prefix == "v" else (lambda a: a)
    zero = inputs.get(f"{prefix}_zero")
    scale = grouped(inputs[f"{prefix}_scale"].data)
    return CacheRows(inputs[f"{prefix}_codes"].data, scale, None if zero is None else grouped(zero.data))


def attention_expected(inputs):
    first_pos = int(scalar(inputs, "first_pos"))
    window = int(scalar(inputs, "window")) if "window" in inputs else 0
    out = attention(inputs["q"].data, _cache_rows(inputs, "k"), _cache_rows(inputs, "v"), first_pos, window=window)
    return {"out_f32": tensor(out), "out": bf16(out)}
