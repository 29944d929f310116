# SPDX-License-Identifier: Apache-2.0
"""Cases for the whole model: a quantized checkpoint, ids and logits."""

import json

import numpy as np

from model import Checkpoint, forward
from safetensors_io import tensor
from tiny_model import quantize_rtn, random_float_model

_PREFIX = "tensors."

_BASE = {
    "hidden_act": "silu",
    "hidden_size": 256,
    "intermediate_size": 264,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 64,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

LLAMA = {
    **_BASE,
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    },
}

# Qwen2 always has q, k, v biases; attention_bias tells the generator so.
QWEN2 = {
    **_BASE,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 200,  # padded to 256 in front of every linear, lm_head too
    "intermediate_size": 200,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "attention_bias": True,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
}


# 100 tokens against windows of 24 in both layers.
MISTRAL = {
    **_BASE,
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "attention_bias": False,
    "rope_theta": 10000.0,
    "sliding_window": 24,
}

# Qwen3's norms of q and k, head_dim that is not hidden / heads, a window in the second layer only.
QWEN3 = {
    **MISTRAL,
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "use_sliding_window": True,
    "sliding_window": 30,
    "max_window_layers": 1,
}


def _site(n8, bits2, rotate, clip1=1.0, clip2=1.0):
    return {"n8": n8, "bits2": bits2, "rotate": rotate, "clip1": clip1, "clip2": clip2}


W4AX_SITES = {
    "model.layers.0.attn_in": _site(1, 4, True, clip2=0.95),
    "model.layers.0.o_in": _site(0, 4, True, clip2=0.97),
    "model.layers.0.mlp_in": _site(1, 4, True, clip1=0.99),
    "model.layers.0.down_in": _site(1, 4, True),
    "model.layers.1.attn_in": _site(2, 4, True),
    "model.layers.1.o_in": _site(1, 4, False),
    "model.layers.1.mlp_in": _site(1, 8, True, clip2=0.9),
    "model.layers.1.down_in": _site(2, 4, True, clip2=0.95),
}

WINDOW_SITES = {
    f"model.layers.{layer}.{site}": _site(0, 4 if site == "o_in" else 8, rotate=True)
    for layer in range(2)
    for site in ("attn_in", "o_in", "mlp_in", "down_in")
}

W4A8_SITES = {
    f"model.layers.{layer}.{site}": _site(0 if site == "o_in" else 1, 8, rotate=False)
    for layer in range(2)
    for site in ("attn_in", "o_in", "mlp_in", "down_in")
}


def kv_options(bits):
    return {"bits": bits, "k_rotate": True, "v_rotate": True, "smooth": False}


def model_cases(rng, large):
    tokens = 700 if large else 300
    yield "llama_w4ax", _inputs(rng, LLAMA, W4AX_SITES, kv_options(4), tokens)
    yield "qwen2_w4a8", _inputs(rng, QWEN2, W4A8_SITES, kv_options(4), 70)
    yield "mistral_window", _inputs(rng, MISTRAL, WINDOW_SITES, kv_options(4), 100)
    yield "qwen3_window", _inputs(rng, QWEN3, WINDOW_SITES, kv_options(4), 100)
    if large:
        yield "qwen2_w4axkv8", _inputs(rng, QWEN2, W4AX_SITES, kv_options(8), 70)


def _inputs(rng, config, sites, kv, tokens):
    checkpoint = quantize_rtn(rng, random_float_model(rng, config), sites, kv)
    text = np.frombuffer(json.dumps(checkpoint.config).encode(), np.uint8)
    ids = rng.integers(0, config["vocab_size"], tokens).astype(np.int32)
    named = {_PREFIX + name: value for name, value in checkpoint.tensors.items()}
    return {"config": tensor(text), "ids": tensor(ids), **named}


def model_expected(inputs):
    config = json.loads(inputs["config"].data.tobytes())
    tensors = {name[len(_PREFIX) :]: value for name, value in inputs.items() if name.startswith(_PREFIX)}
    return {"logits": tensor(forward(Checkpoint(config, tensors), inputs["ids"].data))}
