# SPDX-License-Identifier: Apache-2.0
"""Self checks of the model: layer operations, KV codec, attention, the whole decoder, and the kept case files."""

import math
import os
import pathlib
import unittest
from unittest import mock

import numpy as np

import make_cases
from attention import attention
from cases_attention import attention_cases, attention_expected
from cases_model import LLAMA, MISTRAL, QWEN2, QWEN3, W4A8_SITES, W4AX_SITES, WINDOW_SITES, kv_options
from fp32 import F32, NonFiniteError, exp2, hadamard
from kv_cache import CacheRows, centered_codes, quantize_k, quantize_v
from layer_ops import rms_norm, rope_inv_freq, rope_table, silu_mul
from model import Checkpoint, forward, read_linear, read_site
from safetensors_io import read_safetensors
from tiny_model import FloatModel, fold_columns, quantize_rtn, random_float_model
from weights import expand_w8

SITE_LINEARS = {
    "attn_in": "self_attn.q self_attn.k self_attn.v",
    "o_in": "self_attn.o",
    "mlp_in": "mlp.gate mlp.up",
    "down_in": "mlp.down",
}
GOLDENS = pathlib.Path(__file__).parent.parent / "goldens" / "numpy"


def dequantize_rows(rows):
    group = rows.codes.shape[-1] // rows.scale.shape[-1]
    return centered_codes(rows) * np.repeat(rows.scale.astype(np.float64), group, axis=-1)


def softmax_attention(q, k, v, first_pos, window=0):
    """float64 causal attention; q [tokens, heads, d], k and v [keys, kv_heads, d]."""
    repeat = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, repeat, axis=1), np.repeat(v, repeat, axis=1)
    s = np.einsum("thd,shd->hts", q.astype(np.float64), k) / math.sqrt(q.shape[-1])
    key, position = np.arange(len(k))[None, :], first_pos + np.arange(len(q))[:, None]
    mask = (key <= position) & (key > position - (window or len(k)))
    p = np.where(mask, np.exp(s - s.max(axis=2, where=mask[None], initial=-1e300, keepdims=True)), 0)
    return np.einsum("hts,shd->thd", p / p.sum(axis=2, keepdims=True), v)


class LayerOps(unittest.TestCase):
    def test_rms_norm(self):
        x = np.random.default_rng(0).standard_normal((3, 200)).astype(F32)
        expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(rms_norm(x, np.ones(200, F32), 1e-5), expected, rtol=1e-6)

    def test_silu(self):
        x = np.linspace(-80, 80, 999).astype(F32)
        expected = x / (1 + np.exp(-x.astype(np.float64)))
        np.testing.assert_allclose(silu_mul(x, np.ones_like(x)), expected, rtol=1e-5)
        self.assertEqual(silu_mul(F32(-1e30), F32(1)), 0)

    def test_rope(self):
        cos, sin = rope_table([0, 7], rope_inv_freq(64, 1e4))
        np.testing.assert_array_equal((cos[0], sin[0]), (np.ones(32), np.zeros(32)))
        self.assertEqual(cos[1, 16], F32(math.cos(0.07)))
        plain = rope_inv_freq(128, 5e5)
        scaled = rope_inv_freq(128, 5e5, LLAMA["rope_scaling"] | {"original_max_position_embeddings": 8192})
        ratios = np.array(plain) / scaled
        self.assertTrue(ratios[0] == 1 and ratios[-1] == 8 and (np.diff(ratios) >= -1e-12).all())
        self.assertTrue(((ratios > 1.001) & (ratios < 7.999)).sum() > 3)


class KvCodec(unittest.TestCase):
    def test_error_is_below_a_step(self):
        x = np.random.default_rng(1).standard_normal((50, 2, 80)).astype(F32)
        for bits in (4, 8):
            for rows in (quantize_k(x, bits), quantize_v(x, bits)):
                self.assertEqual(rows.codes.shape, (50, 2, 128))
                values = dequantize_rows(rows)
                self.assertFalse(values[..., 80:].any())
                step = np.repeat(rows.scale.astype(np.float64), 128 // rows.scale.shape[-1], axis=-1)[..., :80]
                # Half a step for the code, half a step more in kv4 because the zero point is rounded too.
                self.assertTrue((np.abs(values[..., :80] - x) <= (1.1 if bits == 4 else 0.6) * step).all())

    def test_edges(self):
        rows = quantize_k(np.full((1, 1, 64), 1e-9, F32), 4)
        self.assertFalse(rows.codes.any() or rows.zero.any() or rows.scale.any())
        rows = quantize_k(np.full((1, 1, 64), -3.0, F32), 4)
        self.assertTrue((rows.zero == 15).all() and (rows.codes == 0).all())
        for bits, bad in ((4, 1e6), (8, 1e7), (4, np.nan), (8, np.inf)):
            with self.assertRaises(NonFiniteError):
                quantize_v(np.full((1, 1, 64), bad, F32), bits)


class Attention(unittest.TestCase):
    def test_close_to_softmax_on_dequantized_rows(self):
        rng = np.random.default_rng(2)
        for head_dim, bits, keys in ((64, 4, 1100), (80, 4, 70), (128, 8, 300), (256, 4, 130)):
            k, v = (rng.standard_normal((keys, 2, head_dim)).astype(F32) for _ in "kv")
            k_rows, v_rows = quantize_k(k, bits), quantize_v(v, bits)
            q = rng.standard_normal((3, 4, head_dim)).astype(F32)
            got = attention(q, k_rows, v_rows, keys - 3)
            k, v = (dequantize_rows(rows)[..., :head_dim] for rows in (k_rows, v_rows))
            expected = softmax_attention(q, k, v, keys - 3)
            self.assertLess(np.linalg.norm(got - expected), 0.02 * np.linalg.norm(expected))

    def test_probabilities_add_up_exactly(self):
        x = -np.abs(np.random.default_rng(4).standard_normal(64) * 6).astype(F32)
        p = (exp2(x) + F32(64)) - F32(64)
        np.testing.assert_array_equal(p * 2**17, np.rint(p * 2**17))
        forwards, backwards = F32(0), F32(0)
        for value in p:
            forwards = forwards + value
        for value in p[::-1]:
            backwards = backwards + value
        self.assertEqual(forwards, backwards)
        self.assertEqual(float(forwards), p.astype(np.float64).sum())

    def test_a_row_does_not_depend_on_its_chunk(self):
        rng = np.random.default_rng(5)
        k, v = (rng.standard_normal((300, 1, 64)).astype(F32) for _ in "kv")
        q = rng.standard_normal((300, 1, 64)).astype(F32)
        whole = attention(q, quantize_k(k, 4), quantize_v(v, 4), 0)
        for first in (0, 63, 64, 255, 256, 299):
            end = min(first + 2, 300)
            rows = quantize_k(k[:end], 4), quantize_v(v[:end], 4)
            np.testing.assert_array_equal(attention(q[first:end], *rows, first), whole[first:end])

    def test_masked_slots_may_hold_anything(self):
        rng = np.random.default_rng(6)
        k, v = (rng.standard_normal((80, 1, 64)).astype(F32) for _ in "kv")
        rows = [quantize_k(k, 4), quantize_v(v, 4)]
        q = rng.standard_normal((1, 1, 64)).astype(F32)
        clean = attention(q, *[CacheRows(*(a[:71] for a in r)) for r in rows], 70)
        for r in rows:
            r.scale[71:], r.codes[71:] = np.nan, 9
        np.testing.assert_array_equal(attention(q, *rows, 70), clean)

    def test_slots_before_the_window_may_hold_anything(self):
        rng = np.random.default_rng(7)
        k, v = (rng.standard_normal((140, 1, 64)).astype(F32) for _ in "kv")
        rows = [quantize_k(k, 4), quantize_v(v, 4)]
        q = rng.standard_normal((2, 1, 64)).astype(F32)
        clean = attention(q, *rows, 138, window=70)
        for r in rows:
            r.scale[:69], r.codes[:69] = np.nan, 9
        np.testing.assert_array_equal(attention(q, *rows, 138, window=70), clean)
        self.assertTrue((attention(q, *rows, 138, window=69) != clean).any())

    def test_cancelling_cases_show_the_fold_order(self):
        for name, inputs in attention_cases(np.random.default_rng(1), large=False):
            if name.startswith("cancel"):
                right = attention_expected(inputs)["out"].data
                with mock.patch("attention.BLOCKS_PER_SPLIT", 1 << 20):
                    wrong = attention_expected(inputs)["out"].data
                self.assertGreater(np.count_nonzero(right != wrong), right.size // 20)


def float_forward(model, ids):
    """float64 logits of a FloatModel, straight from the published architecture."""
    config, w = model.config, {name: value.astype(np.float64) for name, value in model.weights.items()}
    heads, kv_heads, d = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    angles = np.outer(np.arange(len(ids)), rope_inv_freq(d, config["rope_theta"], config.get("rope_scaling")))
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def norm(x, name):
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + config["rms_norm_eps"]) * w[name + ".weight"]

    def head_norm(x, name):
        return norm(x.reshape(-1, d), name).reshape(x.shape)

    def linear(x, name):
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)

    def turn(x):
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    h = w["model.embed_tokens.weight"][ids]
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        window = config.get("sliding_window", 0) if index >= config.get("max_window_layers", 0) else 0
        x = norm(h, layer + "input_layernorm")
        q, k, v = (linear(x, f"{layer}self_attn.{n}_proj").reshape(len(ids), -1, d) for n in "qkv")
        assert q.shape[1] == heads and k.shape[1] == kv_heads
        if layer + "self_attn.q_norm.weight" in w:
            q, k = (head_norm(x, f"{layer}self_attn.{n}_norm") for x, n in ((q, "q"), (k, "k")))
        attended = softmax_attention(turn(q), turn(k), v, 0, window).reshape(len(ids), -1)
        h = h + linear(attended, layer + "self_attn.o_proj")
        x = norm(h, layer + "post_attention_layernorm")
        gate, up = linear(x, layer + "mlp.gate_proj"), linear(x, layer + "mlp.up_proj")
        h = h + linear(gate / (1 + np.exp(-gate)) * up, layer + "mlp.down_proj")
    return linear(norm(h, "model.norm"), "lm_head")


def dequantize_model(checkpoint):
    """The FloatModel that a checkpoint stands for: rotations and permutations of its inputs undone."""
    weights = {}
    for name, value in checkpoint.tensors.items():
        if name.endswith((".bias", "norm.weight", "embed_tokens.weight")):
            weights[name] = value.f32()
    for site_name in checkpoint.config["quantization_config"]["sites"]:
        layer, site_kind = site_name.rsplit(".", 1)
        site = read_site(checkpoint, site_name)
        for short in SITE_LINEARS[site_kind].split():
            name = f"{layer}.{short}_proj"
            q, _ = read_linear(checkpoint, name)
            w = (expand_w8(q) * q.channel_scale[:, None]).astype(F32)
            fold = {"n8": site.n8, "rotate": site.rotate}
            w = fold_columns(w, np.arange(w.shape[1]), fold)  # the normalized Hadamard is its own inverse
            real = site.act_perm >= 0
            weights[name + ".weight"] = np.zeros((len(w), real.sum()), F32)
            weights[name + ".weight"][:, site.act_perm[real]] = w[:, real]
    head = checkpoint.tensors["lm_head.weight"].data * checkpoint.tensors["lm_head.channel_scale"].data[:, None]
    weights["lm_head.weight"] = head[:, : checkpoint.config["hidden_size"]]
    return FloatModel(checkpoint.config, weights)


def cosine(a, b):
    return (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))


class WholeModel(unittest.TestCase):
    @mock.patch("tiny_model.OUTLIER_FACTOR", 1.0)  # a planted group is half of this width and coarse by design
    def test_quantized_logits_follow_the_float_model(self):
        for config, v_rotate in ((LLAMA, True), (QWEN2, True), (QWEN2, False)):
            rng = np.random.default_rng(8)
            model = random_float_model(rng, config)
            ids = rng.integers(0, config["vocab_size"], 40)
            for sites, bits, bound in ((W4A8_SITES, 8, 0.9995), (W4AX_SITES, 4, 0.98)):
                checkpoint = quantize_rtn(rng, model, sites, kv_options(bits) | {"v_rotate": v_rotate})
                got = forward(checkpoint, ids)
                self.assertGreater(cosine(float_forward(dequantize_model(checkpoint), ids), got), bound)
                self.assertGreater(cosine(float_forward(model, ids), got), 0.95)

    @mock.patch("tiny_model.OUTLIER_FACTOR", 1.0)
    def test_windows_and_head_norms_follow_the_float_model(self):
        for config in (MISTRAL, QWEN3):
            rng = np.random.default_rng(8)
            model = random_float_model(rng, config)
            ids = rng.integers(0, config["vocab_size"], 80)
            checkpoint = quantize_rtn(rng, model, WINDOW_SITES, kv_options(8))
            float_logits = float_forward(dequantize_model(checkpoint), ids)
            got = forward(checkpoint, ids)
            self.assertGreater(cosine(float_logits, got), 0.995)
            for other in (config["sliding_window"] - 1, config["sliding_window"] + 1, 0):
                wrong = forward(Checkpoint({**checkpoint.config, "sliding_window": other}, checkpoint.tensors), ids)
                self.assertLess(cosine(float_logits, wrong), cosine(float_logits, got))

    def test_v_rotation_is_in_the_weights(self):
        model = random_float_model(np.random.default_rng(9), QWEN2)
        name = "model.layers.0.self_attn.v_proj"
        plain = model.weights[name + ".bias"].reshape(1, 64)
        rotated = quantize_rtn(np.random.default_rng(0), model, W4A8_SITES, kv_options(4)).tensors[name + ".bias"]
        np.testing.assert_allclose(rotated.f32().reshape(1, 64), hadamard(plain), atol=0.01)

    def test_a_prefix_has_the_same_logits(self):
        rng = np.random.default_rng(10)
        checkpoint = quantize_rtn(rng, random_float_model(rng, QWEN2), W4A8_SITES, kv_options(4))
        ids = rng.integers(0, 64, 70)
        np.testing.assert_array_equal(forward(checkpoint, ids)[:30], forward(checkpoint, ids[:30]))


class KeptCases(unittest.TestCase):
    def test_outputs_in_the_files_follow_from_their_inputs(self):
        folder = pathlib.Path(os.environ.get("COMET_NUMPY_CASES", GOLDENS))
        for op, (_, expected) in make_cases.OPS.items():
            cases = {}
            for name, value in read_safetensors(folder / f"{op}.safetensors").items():
                case, key = name.split(".", 1)
                cases.setdefault(case, {})[key] = value
            self.assertTrue(cases)
            for case, tensors in cases.items():
                for key, value in expected(tensors).items():
                    with self.subTest(op=op, case=case, output=key):
                        self.assertEqual(tensors[key].dtype, value.dtype)
                        self.assertEqual(tensors[key].data.tobytes(), value.data.tobytes())


if __name__ == "__main__":
    unittest.main()
