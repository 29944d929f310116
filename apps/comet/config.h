// SPDX-License-Identifier: Apache-2.0
// Options of a command from a YAML file and from the environment: file < environment < command line.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace comet::app {

// Gives each option of `command` that the command line lacks the value of its environment variable (--max-queue:
// COMET_MAX_QUEUE), else that of the YAML file ("": none), a mapping from option names without the dashes to a value
// or a list of values. Options that exclude one of the command line are left alone. Call it when the command line has
// been parsed. Throws CLI::ValidationError that names file and line for a key that is no option, given twice or of
// the wrong shape, and for a value that its option refuses.
void apply_config(CLI::App& command, const std::string& file);

}  // namespace comet::app
