# SPDX-License-Identifier: Apache-2.0
"""Small random decoders with planted outlier channels, as floats and quantized by round-to-nearest."""

from typing import NamedTuple

import numpy as np

from fp32 import F32, hadamard, round_bf16
from model import Checkpoint
from safetensors_io import bf16, tensor
from weights import GROUP, quantize_head_rtn, quantize_weights_rtn

OUTLIERS = 6
OUTLIER_FACTOR = 30.0


class FloatModel(NamedTuple):
    config: dict
    weights: dict  # Hugging Face name -> fp32 array whose values are exact in bf16


def _linear_shapes(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    return {
        "self_attn.q_proj": (q, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def random_float_model(rng, config):
    """Random weights; in front of q/k/v, gate/up and down a few channels are OUTLIER_FACTOR larger, same function."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    w = {
        "model.embed_tokens.weight": rng.standard_normal((vocab, hidden)),
        "model.norm.weight": rng.uniform(0.5, 1.5, hidden),
        "lm_head.weight": rng.standard_normal((vocab, hidden)) / np.sqrt(hidden),
    }
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        for name, (n, k) in _linear_shapes(config).items():
            w[f"{layer}{name}.weight"] = rng.standard_normal((n, k)) / np.sqrt(k)
            if config.get("attention_bias") and name.endswith(("q_proj", "k_proj", "v_proj")):
                w[f"{layer}{name}.bias"] = 0.5 * rng.standard_normal(n)
        if config["model_type"] == "qwen3":
            for name in ("q_norm", "k_norm"):
                w[f"{layer}self_attn.{name}.weight"] = rng.uniform(0.5, 2, config["head_dim"])
        readers = {
            "input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"],
        }
        for norm, names in readers.items():
            gain = rng.uniform(0.5, 1.5, hidden)
            chosen = rng.choice(hidden, OUTLIERS, replace=False)
            gain[chosen] *= OUTLIER_FACTOR
            w[f"{layer}{norm}.weight"] = gain
            for name in names:
                w[f"{layer}{name}.weight"][:, chosen] /= OUTLIER_FACTOR
        chosen = rng.choice(inner, OUTLIERS, replace=False)
        w[f"{layer}mlp.up_proj.weight"][chosen] *= OUTLIER_FACTOR
        w[f"{layer}mlp.down_proj.weight"][:, chosen] /= OUTLIER_FACTOR
    return FloatModel(config, {name: round_bf16(value.astype(F32)) for name, value in w.items()})


def outliers_first(rng, magnitude):
    """A permutation with the largest OUTLIERS channels in front and the others shuffled."""
    order = np.argsort(-magnitude, kind="stable")
    rest = order[OUTLIERS:]
    rng.shuffle(rest)
    return np.concatenate([order[:OUTLIERS], rest])


def pad_perm(perm):
    """i32 act_perm: `perm`, then -1 up to a multiple of 128."""
    padded = np.full(-(-len(perm) // GROUP) * GROUP, -1, np.int32)
    padded[: len(perm)] = perm
    return padded


def fold_columns(w, act_perm, options):
    """Columns of fp32 [N, C] put in act_perm's order, region 2 rotated when the site is; the result is [N, K]."""
    folded = np.where(act_perm < 0, F32(0), w[:, np.maximum(act_perm, 0)])
    region2 = slice(options["n8"] * GROUP, None)
    if options["rotate"] and folded[:, region2].size:
        groups = folded[:, region2].reshape(len(w), -1, GROUP)
        folded[:, region2] = hadamard(groups).reshape(len(w), -1)
    return folded


def fold_v_rotation(weights, layer, config):
    """Rotates each V head's rows of v_proj and its bias, and the columns of o_proj that read it."""
    d = config["head_dim"]

    def rotate_rows(w):
        return hadamard(w.reshape(-1, d, w.shape[1]).transpose(0, 2, 1)).transpose(0, 2, 1).reshape(w.shape)

    v, o = layer + ".self_attn.v_proj", layer + ".self_attn.o_proj"
    weights[v + ".weight"] = rotate_rows(weights[v + ".weight"])
    if v + ".bias" in weights:
        weights[v + ".bias"] = rotate_rows(weights[v + ".bias"][:, None])[:, 0]
    weights[o + ".weight"] = rotate_rows(weights[o + ".weight"].T).T


def _put_linear(tensors, name, w, bias):
    for field, value in quantize_weights_rtn(w)._asdict().items():
        tensors[f"{name}.{field}"] = tensor(value)
    if bias is not None:
        tensors[name + ".bias"] = bf16(bias)


def quantize_rtn(rng, model, sites, kv):
    """Checkpoint of a FloatModel; sites: {"model.layers.0.attn_in": {n8, bits2, rotate, clip1, clip2}, ..}."""
    config, w = model.config, dict(model.weights)
    tensors = {name: bf16(w[name]) for name in w if name.endswith(("embed_tokens.weight", "norm.weight"))}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        if kv["v_rotate"]:
            fold_v_rotation(w, layer, config)
        inner_order = outliers_first(rng, np.abs(w[layer + ".mlp.up_proj.weight"]).max(axis=1))
        for name in ("gate_proj", "up_proj"):
            w[f"{layer}.mlp.{name}.weight"] = w[f"{layer}.mlp.{name}.weight"][inner_order]
        w[layer + ".mlp.down_proj.weight"] = w[layer + ".mlp.down_proj.weight"][:, inner_order]
        attention_width = config["num_attention_heads"] * config["head_dim"]
        plan = {
            "attn_in": (
                outliers_first(rng, w[layer + ".input_layernorm.weight"]),
                "self_attn.q self_attn.k self_attn.v",
            ),
            "o_in": (rng.permutation(attention_width), "self_attn.o"),
            "mlp_in": (outliers_first(rng, w[layer + ".post_attention_layernorm.weight"]), "mlp.gate mlp.up"),
            "down_in": (np.arange(config["intermediate_size"]), "mlp.down"),
        }
        for site, (perm, names) in plan.items():
            act_perm = pad_perm(perm)
            tensors[f"{layer}.{site}.act_perm"] = tensor(act_perm)
            for name in (f"{layer}.{n}_proj" for n in names.split()):
                folded = fold_columns(w[name + ".weight"], act_perm, sites[f"{layer}.{site}"])
                _put_linear(tensors, name, folded, w.get(name + ".bias"))
    head = fold_columns(w["lm_head.weight"], pad_perm(np.arange(config["hidden_size"])), {"n8": 0, "rotate": False})
    head, scale = quantize_head_rtn(head)
    tensors["lm_head.weight"], tensors["lm_head.channel_scale"] = tensor(head), tensor(scale)
    quantization = {
        "quant_method": "comet",
        "format_version": 1,
        "recipe": {"name": "rtn"},
        "group_size": GROUP,
        "kv": kv,
        "shards": 1,
        "sites": sites,
    }
    return Checkpoint({**config, "quantization_config": quantization}, tensors)
