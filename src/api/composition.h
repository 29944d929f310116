// SPDX-License-Identifier: Apache-2.0
// Picks and builds the parts: the only place that chooses a backend.
#pragma once

#include <memory>
#include <string>

#include "comet/comet.h"
#include "kernels/backend.h"
#include "model/checkpoint.h"
#include "model/model.h"

namespace comet::api {

// isa "": the environment's COMET_ISA, else the best of this machine. backend: "cpu" or "ref".
std::unique_ptr<Backend> make_backend(const std::string& backend, const std::string& isa,
                                      const std::shared_ptr<ThreadPool>& pool);

// The checkpoint of options.model, or the random one of options.dummy_weights.
Checkpoint open_checkpoint(const LoadOptions& options);

// "W4A8", "W4Ax", "W4A4", or the dtype of an unquantized model.
std::string scheme_name(const Checkpoint& checkpoint);

}  // namespace comet::api
