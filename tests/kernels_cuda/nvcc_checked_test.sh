#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# cmake/nvcc_checked.sh refuses a GEMM that spills, and nothing else: nvcc_checked_test.sh CHECKED NVCC
set -euo pipefail
checked=$1 nvcc=$2
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cat >"$folder/source.cu" <<'END'
__global__ void reverse(const int* a, int* d, int n) {
  int v[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) v[i] = a[threadIdx.x + 32 * i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; ++i) d[threadIdx.x + 32 * i] = v[63 - i] * n;
}
END

compile() {  # object, registers
  bash "$checked" "$nvcc" -gencode arch=compute_80,code=sm_80 -Xptxas -v -maxrregcount="$2" \
    -c "$folder/source.cu" -o "$folder/$1" 2>&1
}

if report=$(compile gemm_spills_sm80.cu.o 32); then
  echo "a GEMM that spills was built"
  exit 1
fi
[[ $report == *'registers spilled'* ]] || { echo "failed for another reason: $report"; exit 1; }
[[ ! -e $folder/gemm_spills_sm80.cu.o ]] || { echo 'the refused object was left'; exit 1; }
compile pack_spills_sm80.cu.o 32
compile gemm_fits_sm80.cu.o 128
