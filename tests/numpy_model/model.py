# SPDX-License-Identifier: Apache-2.0
"""A whole quantized decoder: token ids to fp32 logits, with the roundings the contract states between the ops."""

from typing import NamedTuple

import numpy as np

from activations import Site, quantize_act
from attention import attention
from fp32 import F32, require_finite, round_bf16
from kv_cache import QkNorm, rope_append
from layer_ops import rms_norm, rope_inv_freq, rope_table, silu_mul
from linear import linear_w4ax, linear_w8a8
from weights import W4Weights, check_weights


class Checkpoint(NamedTuple):
    config: dict  # config.json with quantization_config
    tensors: dict  # name -> Tensor


def read_site(checkpoint, name):
    """The Site of `name`, such as "model.layers.0.attn_in"."""
    options = checkpoint.config["quantization_config"]["sites"][name]
    perm = checkpoint.tensors[name + ".act_perm"].data
    return Site(perm, options["n8"], options["bits2"], options["rotate"], F32(options["clip1"]), F32(options["clip2"]))


def read_linear(checkpoint, name):
    """(W4Weights, bias fp32 or None) of a linear under its Hugging Face name."""
    fields = ("qweight", "group_scale", "group_zero", "channel_scale")
    weights = W4Weights(*(checkpoint.tensors[f"{name}.{field}"].data for field in fields))
    check_weights(weights)
    bias = checkpoint.tensors.get(name + ".bias")
    return weights, None if bias is None else bias.f32()


def head_site(width):
    """The fixed site in front of lm_head."""
    perm = np.full(-(-width // 128) * 128, -1, np.int32)
    perm[:width] = np.arange(width)
    return Site(perm, n8=0, bits2=8, rotate=False)


def site_linears(checkpoint, x, site_name, linear_names):
    """fp32 outputs of the linears that share one input site."""
    site = read_site(checkpoint, site_name)
    acts = quantize_act(x, site, site_name)
    linears = (read_linear(checkpoint, name) for name in linear_names)
    return [linear_w4ax(acts, weights, site.n8, bias) for weights, bias in linears]


def _norm(checkpoint, x, name):
    return rms_norm(x, checkpoint.tensors[name + ".weight"].f32(), checkpoint.config["rms_norm_eps"])


def _qk_norm(checkpoint, layer):
    if layer + ".self_attn.q_norm.weight" not in checkpoint.tensors:
        return None
    gains = (checkpoint.tensors[f"{layer}.self_attn.{n}_norm.weight"].f32() for n in "qk")
    return QkNorm(*gains, F32(checkpoint.config["rms_norm_eps"]))


def attention_window(config, index):
    """The window of a layer, 0 for none: Mistral's in every layer, Qwen's from max_window_layers on."""
    if not config.get("sliding_window"):
        return 0
    if config["model_type"] == "mistral":
        return config["sliding_window"]
    is_windowed = config.get("use_sliding_window", False) and index >= config["max_window_layers"]
    return config["sliding_window"] if is_windowed else 0


def decoder_layer(checkpoint, index, residual, cos, sin):
    """One decoder layer over all tokens of a sequence from position 0; returns the new fp32 residual."""
    layer = f"model.layers.{index}"
    config = checkpoint.config
    kv = config["quantization_config"]["kv"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]

    x = _norm(checkpoint, residual, layer + ".input_layernorm")
    names = [f"{layer}.self_attn.{n}_proj" for n in "qkv"]
    qkv = np.concatenate(site_linears(checkpoint, x, layer + ".attn_in", names), axis=1)
    q, k_rows, v_rows = rope_append(
        round_bf16(qkv), heads, kv_heads, cos, sin, kv["k_rotate"], kv["bits"], _qk_norm(checkpoint, layer), layer
    )
    attended = attention(q, k_rows, v_rows, 0, layer, attention_window(config, index))
    attended = round_bf16(attended).reshape(len(residual), -1)
    (y,) = site_linears(checkpoint, attended, layer + ".o_in", [layer + ".self_attn.o_proj"])
    residual = residual + y

    x = _norm(checkpoint, residual, layer + ".post_attention_layernorm")
    gate_up = [layer + ".mlp.gate_proj", layer + ".mlp.up_proj"]
    gate, up = (round_bf16(part) for part in site_linears(checkpoint, x, layer + ".mlp_in", gate_up))
    (y,) = site_linears(checkpoint, silu_mul(gate, up), layer + ".down_in", [layer + ".mlp.down_proj"])
    return residual + y


def forward(checkpoint, ids):
    """fp32 logits [tokens, vocab] of one sequence that starts at position 0."""
    config = checkpoint.config
    head_dim = config["head_dim"]
    inv_freq = rope_inv_freq(head_dim, config["rope_theta"], config.get("rope_scaling"))
    cos, sin = rope_table(range(len(ids)), inv_freq)
    residual = checkpoint.tensors["model.embed_tokens.weight"].f32()[ids]
    for index in range(config["num_hidden_layers"]):
        residual = decoder_layer(checkpoint, index, residual, cos, sin)
    x = _norm(checkpoint, residual, "model.norm")
    acts = quantize_act(x, head_site(x.shape[1]), "head_in")
    head = checkpoint.tensors["lm_head.weight"].data, checkpoint.tensors["lm_head.channel_scale"].data
    logits = linear_w8a8(acts, *head)
    require_finite(logits, "logits")
    return logits
