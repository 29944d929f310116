// SPDX-License-Identifier: Apache-2.0
// comet bench gemm as a program of its own, which needs no library: to be carried to a machine with the GPU.
#include <cstdio>

#include "apps/comet/command.h"

int main(int argc, char** argv) {
  using namespace comet;
  CLI::App app("The integer GEMM of a Hopper GPU beside cuBLAS", "comet-bench-gemm");
  app::Run run;
  app::configure_bench_gemm(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    return run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "comet-bench-gemm: %s\n", e.what());
    return 1;
  }
}
