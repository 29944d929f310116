#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A program links only what every Linux machine has: check_libraries.sh PROGRAM
set -euo pipefail
allowed='linux-vdso|ld-linux-x86-64|libc|libm|libgcc_s|libstdc\+\+|libpthread|libdl|librt'
unexpected=$(ldd "$1" | awk '{print $1}' | grep -vE "(^|/)($allowed)\.so" || true)
if [[ -n $unexpected ]]; then
  echo "$1 links $unexpected" >&2
  exit 1
fi
"$1" --help >/dev/null
