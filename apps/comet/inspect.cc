// SPDX-License-Identifier: Apache-2.0
// comet inspect, comet env: what a model folder holds, what this machine offers.
#include <fmt/format.h>

#include "command.h"

namespace comet::app {

void add_inspect(CLI::App& app, Run& run) {
  struct Options {
    std::string model;
    bool tensors = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* inspect = app.add_subcommand("inspect", "Show what a model folder holds, as JSON");
  inspect->add_option("model", o->model, "Model folder, or a name in the Hugging Face cache")->required();
  inspect->add_flag("--tensors", o->tensors, "List the tensors, too");
  inspect->footer("Example:\n  comet inspect models/gutenberg-15m --tensors");
  inspect->callback([o, &run] {
    run = [o] {
      fmt::print("{}\n", api::inspect(o->model, o->tensors));
      return 0;
    };
  });
  CLI::App* env = app.add_subcommand("env", "Show this machine and the kernels Comet uses on it, as JSON");
  env->callback([&run] {
    run = [] {
      fmt::print("{}\n", api::environment());
      return 0;
    };
  });
}

}  // namespace comet::app
