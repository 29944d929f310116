#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs nvcc (the command line given) and fails where ptxas reports a serialized wgmma or, in a GEMM or attention kernel, spills.
set -euo pipefail
report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
"$@" >"$report" 2>&1 || status=$?
for object; do :; done   # the last argument is the object
grep -vE "^ptxas info|^ *[0-9]+ bytes stack frame|^$" "$report" || true
if ((status == 0)) && grep -E "wgmma.*serialized|C7508|C7510|C7512" "$report"; then
  echo "$object: ptxas serialized wgmma or ignored setmaxnreg" >&2
  status=1
fi
if ((status == 0)) && [[ ${object##*/} =~ ^(gemm|gemv|attention) && " $* " != *" -DCOMET_CUDA_SLEEPS "* ]] &&
   grep -E "[1-9][0-9]* bytes (stack frame|spill)" "$report"; then
  echo "$object: registers spilled" >&2
  status=1
fi
if ((status != 0)); then rm -f "$object"; fi
exit "$status"
