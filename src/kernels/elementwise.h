// SPDX-License-Identifier: Apache-2.0
// Small row ops: embedding, and the unfused norm and activation of the unquantized path. POD only.
#pragma once

#include "base/dtype.h"

namespace comet {

struct EmbedArgs {
  int m = 0, hidden = 0;
  const int32_t* ids = nullptr;  // [m], each below the vocabulary size
  const void* table = nullptr;   // [vocab, hidden]
  DType table_dtype = DType::bf16;
  float* out = nullptr;  // f32 [m, hidden]
};

struct RmsNormArgs {
  int m = 0, hidden = 0;
  const float* x = nullptr;          // [*, hidden]
  const int32_t* row_ids = nullptr;  // [m] rows of x; null: 0..m-1
  const void* gain = nullptr;        // [hidden]
  DType gain_dtype = DType::bf16;
  float eps = 0.0f;
  float* out = nullptr;  // f32 [m, hidden]
};

struct SiluMulArgs {
  int m = 0, width = 0;
  const float* gate_up = nullptr;  // [m, 2 * width]: gate then up
  float* out = nullptr;            // [m, width]
};

struct CheckFiniteArgs {  // logits: tags rows that hold a non-finite value
  int m = 0, n = 0;
  const float* x = nullptr;        // [m, n]
  uint32_t* row_errors = nullptr;  // [m]
  uint32_t error_tag = 0;
};

}  // namespace comet
