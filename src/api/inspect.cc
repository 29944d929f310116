// SPDX-License-Identifier: Apache-2.0
// What a model folder holds and what this machine offers, as JSON.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "api/composition.h"
#include "base/thread_pool.h"
#include "kernels/cpu/isa.h"

namespace comet::api {
namespace {

using nlohmann::json;

json describe_config(const Checkpoint& checkpoint) {
  const ModelConfig& c = checkpoint.config();
  return {{"architecture", c.architecture},
          {"layers", c.num_layers},
          {"hidden_size", c.hidden_size},
          {"intermediate_size", c.intermediate_size},
          {"heads", c.num_heads},
          {"kv_heads", c.num_kv_heads},
          {"head_dim", c.head_dim},
          {"vocab_size", c.vocab_size},
          {"max_positions", c.max_positions},
          {"windows", c.windows},
          {"tied_embeddings", c.tie_embeddings},
          {"scheme", scheme_name(checkpoint)},
          {"weight_bytes", checkpoint.weight_bytes()},
          {"tensors", checkpoint.tensors().tensors().size()}};
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const Isa isa : kAllIsas)
    if (detect_isas().has(isa)) names.push_back(to_string(isa));
  return names;
}

}  // namespace

std::string inspect(const std::string& model, bool with_tensors) {
  const Checkpoint checkpoint = Checkpoint::open(resolve_model(model));
  json out = describe_config(checkpoint);
  out["folder"] = checkpoint.folder().string();
  if (checkpoint.is_quantized()) out["quantization"] = to_json(*checkpoint.config().quantization);
  if (with_tensors)
    for (const auto& [name, view] : checkpoint.tensors().tensors())
      out["tensor_list"].push_back({{"name", name}, {"dtype", to_string(view.dtype)}, {"shape", view.shape}});
  return out.dump(2);
}

std::string environment() {
  const auto pool = std::make_shared<ThreadPool>(1);
  json out = {
      {"version", COMET_VERSION},
      {"threads", available_threads()},
      {"isa", isa_names()},
      {"memory_bytes", static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE))}};
  const std::unique_ptr<Backend> backend = make_backend("cpu", "", pool);
  out["backend"] = backend->name();
  out["kernels"] = backend->kernels();
  return out.dump(2);
}

}  // namespace comet::api
