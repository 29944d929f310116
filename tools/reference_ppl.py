#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures perplexity with Hugging Face transformers in float32 on the CPU: the figure Comet is held against.

The text is tokenized as one piece without BOS and cut into windows of --context tokens that share nothing; each
window gives context - 1 predictions. The result is exp of the mean, over windows, of a window's mean negative log
likelihood (log-softmax and means in float64). A last window that is not full is dropped.

Needs torch, transformers and tokenizers; the tests do not. Prints one JSON object; --record FILE --key NAME also
stores it, with the command, in a JSON file of such results.

  tools/reference_ppl.py models/gutenberg-15m --text models/gutenberg-15m/eval.txt
  tools/reference_ppl.py models/gutenberg-15m --text books_eval.txt --chars 200000:900000
"""

import argparse
import json
import math
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def char_range(text: str) -> tuple[int, int]:
    first, last = (int(part) for part in text.split(":"))
    if not 0 <= first < last:
        raise argparse.ArgumentTypeError(f"expected FIRST:LAST with FIRST < LAST, got {text}")
    return first, last


def read_windows(args: argparse.Namespace) -> torch.Tensor:
    """Token ids [num_windows, context] of the text."""
    text = args.text.read_text(encoding="utf-8")
    if args.chars:
        first, last = args.chars
        if last > len(text):
            raise SystemExit(f"{args.text} has {len(text)} characters, --chars ends at {last}")
        text = text[first:last]
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    num_windows = min(len(ids) // args.context, args.windows)
    if num_windows == 0:
        raise SystemExit(f"the text makes {len(ids)} tokens, one window needs {args.context}")
    return torch.tensor(ids[: num_windows * args.context]).view(num_windows, args.context)


@torch.inference_mode()
def window_nll(model: torch.nn.Module, windows: torch.Tensor) -> list[float]:
    """Mean negative log likelihood of each window's tokens after the first."""
    means = []
    for logits, window in zip(model(windows, use_cache=False).logits, windows, strict=True):
        means.append(torch.nn.functional.cross_entropy(logits[:-1].double(), window[1:]).item())
    return means


def record(path: Path, key: str, result: dict) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    results[key] = result
    path.write_text(json.dumps(dict(sorted(results.items())), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Hugging Face folder")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text")
    parser.add_argument("--chars", type=char_range, metavar="FIRST:LAST", help="use these characters of it only")
    parser.add_argument("--context", type=int, default=1024, help="tokens in a window")
    parser.add_argument("--windows", type=int, default=96, help="at most this many windows")
    parser.add_argument("--batch", type=int, default=4, help="windows at a time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", type=Path, metavar="FILE", help="JSON file of results to add this one to")
    parser.add_argument("--key", help="its name there (default: the model's)")
    args = parser.parse_args()

    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    windows = read_windows(args)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager").eval()
    start, nll = time.monotonic(), []
    for batch in windows.split(args.batch):
        nll += window_nll(model, batch)
        elapsed = time.monotonic() - start
        print(f"{len(nll)} of {len(windows)} windows, {elapsed:.0f} s", end="\r", file=sys.stderr)
    print(file=sys.stderr)

    # Paths differ between machines, names do not.
    command = ["tools/reference_ppl.py", args.model.name, "--text", args.text.name]
    command += ["--chars", f"{args.chars[0]}:{args.chars[1]}"] if args.chars else []
    command += ["--context", str(args.context), "--windows", str(args.windows)]
    mean = math.fsum(nll) / len(nll)
    result = {
        "model": args.model.name,
        "text": args.text.name,
        "chars": args.chars,
        "context": args.context,
        "windows": len(nll),
        "mean_nll": mean,
        "perplexity": math.exp(mean),
        "command": shlex.join(command),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
    print(json.dumps(result))
    if args.record:
        record(args.record, args.key or args.model.name, result)


if __name__ == "__main__":
    main()
