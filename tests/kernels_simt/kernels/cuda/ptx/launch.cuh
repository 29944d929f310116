// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace comet::cuda::ptx {

inline void wait_for_previous_kernel() {}
inline void allow_next_kernel() {}

}  // namespace comet::cuda::ptx
