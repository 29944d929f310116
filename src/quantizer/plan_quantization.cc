// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "model/checkpoint.h"
#include "quantizer/quantize_model.h"
#include "quantizer/quantize_site.h"

namespace comet {
namespace {

// Bytes of one quantized linear: codes, group scales, group zeros, channel scales.
size_t linear_bytes(int64_t n, int64_t k) { return static_cast<size_t>(n * (k / 2) + 2 * n * (k / kGroup) + 4 * n); }

int64_t site_rows(const ModelConfig& c, Site site) {
  switch (site) {
    case Site::attn_in: return c.num_qkv_rows();
    case Site::mlp_in: return 2 * int64_t{c.intermediate_size};
    case Site::o_in:
    case Site::down_in: return c.hidden_size;
  }
  return 0;
}

}  // namespace

QuantizeSummary plan_quantization(const QuantizeJob& job) {
  const Checkpoint checkpoint = Checkpoint::open(job.input);
  const ModelConfig& c = checkpoint.config();
  if (c.quantization) throw_invalid("{} is quantized already; quantize the original model", job.input.string());
  Recipe most = job.recipe;
  most.outlier_threshold = 0.0;
  QuantizeSummary summary;
  summary.input_bytes = checkpoint.weight_bytes();
  summary.output_bytes = checkpoint.tensors().at("model.embed_tokens.weight").bytes() +
                         static_cast<size_t>(c.vocab_size) * (static_cast<size_t>(padded_channels(c.hidden_size)) + 4);
  double total = 0.0, int4 = 0.0;
  for (int layer = 0; layer < c.num_layers; ++layer)
    for (const Site site : kSites) {
      const int channels = c.site_channels(site), k = padded_channels(channels);
      const int n8 = choose_int8_groups({}, k / kGroup, most);
      const ActFormat format{
          .k_in = channels, .k = k, .num_int8_groups = n8, .bits2 = most.act_bits, .rotate = most.rotate};
      summary.sites.push_back({layer, site, format, 0.0});
      summary.output_bytes += linear_bytes(site_rows(c, site), k) + 4 * static_cast<size_t>(k);
      total += static_cast<double>(site_rows(c, site)) * k;
      if (most.act_bits == 4) int4 += static_cast<double>(site_rows(c, site)) * format.k2();
    }
  summary.int4_mac_share = int4 / total;
  return summary;
}

}  // namespace comet
