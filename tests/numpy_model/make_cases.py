# SPDX-License-Identifier: Apache-2.0
"""Writes one safetensors file per op: inputs from a seed, and the outputs the contract gives for them."""

import argparse
import pathlib
import zlib

import numpy as np

import cases_attention
import cases_layer
import cases_linear
import cases_model
from safetensors_io import write_safetensors

# op: (cases(rng, large) -> (name, inputs) .., expected(inputs) -> outputs)
OPS = {
    "exp2": (cases_layer.exp2_cases, cases_layer.exp2_expected),
    "quantize_weights_rtn": (cases_linear.rtn_cases, cases_linear.rtn_expected),
    "quantize_act": (cases_linear.act_cases, cases_linear.act_expected),
    "linear_w4ax": (cases_linear.w4ax_cases, cases_linear.w4ax_expected),
    "linear_w8a8": (cases_linear.w8a8_cases, cases_linear.w8a8_expected),
    "rms_norm": (cases_layer.rms_norm_cases, cases_layer.rms_norm_expected),
    "silu_mul": (cases_layer.silu_mul_cases, cases_layer.silu_mul_expected),
    "rope_table": (cases_layer.rope_table_cases, cases_layer.rope_table_expected),
    "rope_append": (cases_attention.rope_append_cases, cases_attention.rope_append_expected),
    "attention": (cases_attention.attention_cases, cases_attention.attention_expected),
    "whole_model": (cases_model.model_cases, cases_model.model_expected),
}


def build(op, seed, large):
    """{"<case>.<name>": Tensor} of one op; each op has its own random stream, so files do not depend on each other."""
    cases, expected = OPS[op]
    rng = np.random.default_rng([seed, zlib.crc32(op.encode())])
    tensors = {}
    for name, inputs in cases(rng, large):
        for key, value in {**inputs, **expected(inputs)}.items():
            tensors[f"{name}.{key}"] = value
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="where the files go; made when missing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="more cases and larger shapes")
    parser.add_argument("--op", choices=OPS, action="append", help="only this op; may be repeated")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for op in options.op or OPS:
        path = options.folder / f"{op}.safetensors"
        tensors = build(op, options.seed, options.large)
        write_safetensors(path, tensors)
        print(f"{path}: {len({n.split('.')[0] for n in tensors})} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
