// SPDX-License-Identifier: Apache-2.0
// What this machine's cores can do at most, measured: the denominators of the CPU benches.
#pragma once

#include "base/thread_pool.h"
#include "kernels/cpu/isa.h"

namespace comet {

// Bytes per second that the pool reads from memory, of a buffer in 2 MB pages far larger than the caches.
double measure_read_bandwidth(ThreadPool& pool);

// 8-bit multiply-adds per second (times 2: operations) of an ISA's dot-product step on registers.
double measure_int8_macs(Isa isa, ThreadPool& pool);

}  // namespace comet
