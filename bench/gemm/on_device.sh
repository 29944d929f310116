#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs on a machine with a GPU: finds PyTorch's cuBLAS, then the given command with $CUBLAS set to its folder.
set -uo pipefail
nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv,noheader
CUBLAS=$(python3 - <<'P'
import importlib.util, pathlib
for base in importlib.util.find_spec("nvidia").submodule_search_locations:
    for f in pathlib.Path(base).rglob("libcublas.so.13"):
        print(f.parent); raise SystemExit
P
)
export CUBLAS
"$@"
