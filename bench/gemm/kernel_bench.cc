// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/kernel_bench.h"

#include "bench/gemm/ceilings.h"
#include "bench/gemm/run.h"

namespace comet::cuda {

KernelBench::KernelBench(const api::BenchGemmOptions& options, const Report& report)
    : options_(options), report_(report) {
  const gemm_bench::Machine machine = describe(open_hopper(), 0.0);
  COMET_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  timer_ = std::make_unique<ReplayTimer>(stream_);
  sms_ = machine.sms;
  result_ = {{"gpu", machine.gpu},
             {"driver", machine.driver},
             {"sms", machine.sms},
             {"command", gemm_bench::command_of(options)}};
}

void KernelBench::save() const {
  if (!options_.json.empty()) gemm_bench::write_whole(options_.json, result_.dump(1) + "\n");
}

}  // namespace comet::cuda
