// SPDX-License-Identifier: Apache-2.0
// The comet program: parses the command line, runs one subcommand, turns errors into exit codes.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>

#include "command.h"

namespace {

bool is_user_error(const std::exception& e) {
  return comet::api::is_user_error(e) || dynamic_cast<const comet::app::UserError*>(&e) != nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace comet;
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is a write error like any other
  CLI::App app("Comet quantizes language models to W4AxKV4 and runs them.", "comet");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of all subcommands");
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong use. `comet COMMAND --help` has examples.");
  app::Run run;
  app::add_complete(app, run);
  app::add_chat(app, run);
  app::add_serve(app, run);
  app::add_quantize(app, run);
  app::add_eval(app, run);
  app::add_inspect(app, run);
  app::add_bench(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  }
  try {
    const int code = run();
    if (std::fflush(stdout) != 0) {
      fmt::print(stderr, "comet: standard output could not be written\n");
      return 1;
    }
    return code;
  } catch (const std::exception& e) {
    fmt::print(stderr, "comet: {}{}\n", is_user_error(e) ? "" : "internal error: ", e.what());
    return 1;
  }
}
