// SPDX-License-Identifier: Apache-2.0
// Only said, never called: no kernel that multiplies with wgmma runs here.
#pragma once

namespace comet::cuda::ptx {

template <int kRegs>
void wgmma_m64k32_u8(int32_t (&c)[kRegs], const uint32_t* a, uint64_t b, bool accumulate);
template <int kRegs>
void wgmma_m64k32_s8(int32_t (&c)[kRegs], const uint32_t* a, uint64_t b, bool accumulate);

}  // namespace comet::cuda::ptx
