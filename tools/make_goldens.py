#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of the unquantized path with Hugging Face transformers (float32, CPU, eager attention).

Two kinds, chosen by name:

  models       random tiny models of every supported family, one folder each under OUT/models: the checkpoint as
               transformers saves it, config.transformers4.json (the same model in the older spelling, with keys left
               out that older files leave out), and golden.safetensors with ids i32 [n_seq, T] and logits f32
               [n_seq, T, V] of the stored weights widened to float32.
  completions  OUT/<model>.json: prompts taken from a text at fixed offsets, each continued greedily, with the top-2
               logit gap at every step, so that a teacher-forced run elsewhere knows which choices are ties.

Needs torch, transformers and tokenizers (see tests/goldens/README.md for the versions used); the tests do not.

  tools/make_goldens.py tests/goldens models
  tools/make_goldens.py tests/goldens completions --model models/gutenberg-15m --text models/gutenberg-15m/eval.txt
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

NUM_SEQUENCES = 2
LINEAR_STD = 0.1  # times sqrt(hidden) >= 11: activations, attention scores and logits all have a spread above 1


@dataclass(frozen=True)
class TinyModel:
    """One golden model: what transformers is asked for, how it is stored, and what must matter in it."""

    name: str
    model_type: str
    dtype: torch.dtype
    num_tokens: int
    config: dict
    max_shard_size: str = "50MB"
    legacy: dict = field(default_factory=dict)  # keys that only the older config file has, or spells in another way


# Sizes are the smallest that still have the property a row is there for; num_tokens > 64 crosses a KV block.
TINY_MODELS = (
    TinyModel(
        # Llama 1/2: every head its own K and V, untied, an MLP width that is no multiple of 8.
        name="llama-plain",
        model_type="llama",
        dtype=torch.bfloat16,
        num_tokens=80,
        config={
            "vocab_size": 160,
            "hidden_size": 128,
            "intermediate_size": 172,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        },
    ),
    TinyModel(
        # Llama 3.x: 32 positions trained, so that all three bands of the scaling are met within the sequence; tied;
        # head_dim is not hidden / heads.
        name="llama3-scaled",
        model_type="llama",
        dtype=torch.bfloat16,
        num_tokens=80,
        config={
            "vocab_size": 160,
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    TinyModel(
        # Linear scaling, stored in float32; the older file calls the type "type".
        name="llama-linear-fp32",
        model_type="llama",
        dtype=torch.float32,
        num_tokens=48,
        config={
            "vocab_size": 128,
            "hidden_size": 128,
            "intermediate_size": 72,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        },
        legacy={"rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    TinyModel(
        # Mistral v0.3: no window, head_dim 128 that is not hidden / heads, stored in fp16.
        name="mistral-fp16",
        model_type="mistral",
        dtype=torch.float16,
        num_tokens=72,
        config={
            "vocab_size": 128,
            "hidden_size": 128,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 128,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    TinyModel(
        # Mistral v0.1: a window longer than the sequence; two shards.
        name="mistral-window-sharded",
        model_type="mistral",
        dtype=torch.bfloat16,
        num_tokens=72,
        max_shard_size="300KB",
        config={
            "vocab_size": 128,
            "hidden_size": 128,
            "intermediate_size": 136,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "rms_norm_eps": 1e-5,
            "sliding_window": 96,
            "tie_word_embeddings": False,
        },
    ),
    TinyModel(
        # Qwen2 with 7 query heads to one K and V, biases, tied.
        name="qwen2-gqa7",
        model_type="qwen2",
        dtype=torch.bfloat16,
        num_tokens=72,
        config={
            "vocab_size": 152,
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_attention_heads": 7,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    TinyModel(
        # Qwen2.5 of the larger sizes: head_dim 128 from hidden / heads, untied. Their files name a window and switch it
        # off; here it is shorter than the sequence, so a reader that applies or refuses it is found out.
        name="qwen2.5-no-window",
        model_type="qwen2",
        dtype=torch.bfloat16,
        num_tokens=48,
        config={
            "vocab_size": 128,
            "hidden_size": 256,
            "intermediate_size": 96,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        legacy={"sliding_window": 32, "use_sliding_window": False, "max_window_layers": 1},
    ),
    TinyModel(
        # Qwen3: norms over q and k heads, head_dim given and not hidden / heads, untied.
        name="qwen3-untied",
        model_type="qwen3",
        dtype=torch.bfloat16,
        num_tokens=72,
        config={
            "vocab_size": 128,
            "hidden_size": 128,
            "intermediate_size": 72,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    TinyModel(
        # Qwen3 of the smaller sizes: tied, one K and V for all heads, head_dim 128 as theirs.
        name="qwen3-tied",
        model_type="qwen3",
        dtype=torch.bfloat16,
        num_tokens=72,
        config={
            "vocab_size": 152,
            "hidden_size": 128,
            "intermediate_size": 72,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 128,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    TinyModel(
        # A window that is much shorter than the sequence, in every layer.
        name="mistral-window-24",
        model_type="mistral",
        dtype=torch.bfloat16,
        num_tokens=100,
        config={
            "vocab_size": 128,
            "hidden_size": 128,
            "intermediate_size": 136,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "rms_norm_eps": 1e-5,
            "sliding_window": 24,
            "tie_word_embeddings": False,
        },
    ),
    TinyModel(
        # A window in the layers from max_window_layers on: the second one only.
        name="qwen2-window-layers",
        model_type="qwen2",
        dtype=torch.bfloat16,
        num_tokens=100,
        config={
            "vocab_size": 128,
            "hidden_size": 128,
            "intermediate_size": 72,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "use_sliding_window": True,
            "sliding_window": 20,
            "max_window_layers": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
)

COMMON_CONFIG = {"num_hidden_layers": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1}


def randomize(model: torch.nn.Module, tied: bool, generator: torch.Generator) -> None:
    """Fills the weights: normal matrices, gains around 1, biases as large as what they are added to."""
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("norm.weight"):
            weight.data = 1.0 + 0.2 * noise
        elif name.endswith(".bias"):
            weight.data = 0.5 * noise
        elif name.endswith("embed_tokens.weight") and not tied:
            weight.data = 0.5 * noise
        else:
            weight.data = LINEAR_STD * noise


def to_transformers4(config: dict, legacy: dict) -> dict:
    """The same model in the spelling of transformers 4, without the keys that its files of the time leave out."""
    old = {k: v for k, v in config.items() if k not in ("dtype", "rope_parameters", "layer_types")}
    old["torch_dtype"] = config["dtype"]
    rope = dict(config["rope_parameters"])
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    old["transformers_version"] = "4.46.0"
    if old.get("head_dim") == old["hidden_size"] // old["num_attention_heads"]:
        del old["head_dim"]
    if old["model_type"] == "llama":
        for key, default in (
            ("num_key_value_heads", old["num_attention_heads"]),
            ("tie_word_embeddings", False),
            ("attention_bias", False),
            ("mlp_bias", False),
            ("rope_theta", 10000.0),
        ):
            if old.get(key) == default:
                del old[key]
    return dict(sorted((old | legacy).items()))


@torch.inference_mode()
def logits_of(folder: Path, ids: torch.Tensor, **config_changes) -> torch.Tensor:
    """Logits f32 [n_seq, T, V] of the checkpoint in `folder`, its weights widened to float32."""
    config = AutoConfig.from_pretrained(folder)
    for key, value in config_changes.items():
        setattr(config, key, value)
    model = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()(ids, use_cache=False).logits.float().contiguous()


def check_matters(tiny: TinyModel, folder: Path, ids: torch.Tensor, logits: torch.Tensor) -> None:
    """Fails when the older config means another model, or when a feature the model is there for leaves no trace."""
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / tiny.name
        shutil.copytree(folder, copy)
        (copy / "config.transformers4.json").rename(copy / "config.json")
        if not torch.equal(logits_of(copy, ids), logits):
            raise SystemExit(f"{tiny.name}: config.transformers4.json gives other logits than config.json")
    rope = tiny.config.get("rope_parameters", {"rope_type": "default"})
    if rope["rope_type"] != "default":
        plain = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
        change = (logits_of(folder, ids, rope_parameters=plain) - logits).abs().max().item()
        if change < 0.1:
            raise SystemExit(f"{tiny.name}: rope scaling changes the logits by {change} only")
    window = tiny.config.get("sliding_window")
    if window is not None and window < tiny.num_tokens:
        for other in (window - 1, window + 1, tiny.num_tokens):
            change = ((logits_of(folder, ids, sliding_window=other) - logits).norm() / logits.norm()).item()
            if change < 0.03:
                raise SystemExit(f"{tiny.name}: a window of {other} changes the logits by {change} of their size only")
    if logits.std(-1).mean() < 0.5:
        raise SystemExit(f"{tiny.name}: the logits are flat, std {logits.std(-1).mean()}")


def make_tiny_model(tiny: TinyModel, seed: int, out: Path) -> None:
    folder = out / "models" / tiny.name
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    config = AutoConfig.for_model(tiny.model_type, **COMMON_CONFIG, **tiny.config)
    model = AutoModelForCausalLM.from_config(config)
    randomize(model, tiny.config["tie_word_embeddings"], generator)
    model.to(tiny.dtype).save_pretrained(folder, max_shard_size=tiny.max_shard_size)

    saved = json.loads((folder / "config.json").read_text())
    old = json.dumps(to_transformers4(saved, tiny.legacy), indent=2) + "\n"
    (folder / "config.transformers4.json").write_text(old)

    vocab = tiny.config["vocab_size"]
    ids = torch.randint(vocab, (NUM_SEQUENCES, tiny.num_tokens), generator=generator)
    logits = logits_of(folder, ids)
    check_matters(tiny, folder, ids, logits)
    save_file({"ids": ids.int(), "logits": logits}, folder / "golden.safetensors")
    total_bytes = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{tiny.name}: logits std {logits.std(-1).mean():.3f}, {total_bytes:,} bytes")


def cut_prompt(text: str, tokenizer: Tokenizer, offset: int, num_tokens: int) -> str:
    """Whole words from the first line that starts at or after `offset`, until they make `num_tokens` tokens or more."""
    start = text.index("\n", offset) + 1
    end = start
    while len(tokenizer.encode(text[start:end], add_special_tokens=False).ids) < num_tokens:
        end = min(i for i in (text.find(" ", end + 1), text.find("\n", end + 1)) if i > 0)
    return text[start:end]


@torch.inference_mode()
def complete(model: torch.nn.Module, ids: list[int], num_tokens: int) -> dict:
    """Greedy continuation; every step computes the whole sequence again, so no cache has a part in it."""
    sequence, gaps = list(ids), []
    for _ in range(num_tokens):
        top = model(torch.tensor([sequence]), use_cache=False).logits[0, -1].topk(2)
        sequence.append(top.indices[0].item())
        gaps.append(round((top.values[0] - top.values[1]).item(), 6))
    return {"greedy_ids": sequence[len(ids) :], "top2_gaps": gaps}


def make_completions(args: argparse.Namespace) -> None:
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager").eval()
    text = args.text.read_text(encoding="utf-8")
    prompts = []
    for i in range(args.prompts):
        offset = len(text) * i // args.prompts
        num_tokens = 16 + (72 - 16) * i // max(1, args.prompts - 1)
        prompt = cut_prompt(text, tokenizer, offset, num_tokens)
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        prompts.append({"offset": offset, "text": prompt, "ids": ids} | complete(model, ids, args.tokens))
    gaps = [g for p in prompts for g in p["top2_gaps"]]
    print(
        f"{args.model.name}: prompts of {[len(p['ids']) for p in prompts]} tokens, smallest gap {min(gaps)}, "
        f"{sum(g < 0.02 for g in gaps)} of {len(gaps)} below 0.02"
    )
    rows = ",\n".join("  " + json.dumps(p) for p in prompts)
    head = f'{{"model": {json.dumps(args.model.name)}, "text_file": {json.dumps(args.text.name)}, "prompts": [\n'
    (args.out / f"{args.model.name}.json").write_text(head + rows + "\n]}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the goldens (tests/goldens)")
    kinds = parser.add_subparsers(dest="kind", required=True)
    models = kinds.add_parser("models", help="random tiny models with logits")
    models.add_argument("--only", metavar="NAME", help="this model only")
    completions = kinds.add_parser("completions", help="greedy continuations of a real model")
    completions.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    completions.add_argument("--text", type=Path, required=True, help="where the prompts are cut from")
    completions.add_argument("--prompts", type=int, default=10)
    completions.add_argument("--tokens", type=int, default=64, help="length of each continuation")
    args = parser.parse_args()
    logging.disable_progress_bar()
    if args.kind == "completions":
        make_completions(args)
        return
    for seed, tiny in enumerate(TINY_MODELS):  # a model's numbers depend on its place in the table only
        if args.only in (None, tiny.name):
            make_tiny_model(tiny, seed, args.out)


if __name__ == "__main__":
    main()
