// SPDX-License-Identifier: Apache-2.0
// Unquantized models of every family against logits that transformers computed (tools/make_goldens.py).
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "model/model.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(COMET_SOURCE_DIR) / "tests/goldens/models";

std::vector<int32_t> i32_values(const TensorView& t) {
  const int32_t* p = static_cast<const int32_t*>(t.data);
  return {p, p + t.num_elements()};
}

class Transformers : public testing::TestWithParam<std::string> {};

// fp32 sums in another order, and K and V rounded to bf16 (2^-9 relative): logits move by well under 2% of their
// spread.
TEST_P(Transformers, LogitsAgree) {
  const auto backend = ref_backend();
  const Checkpoint checkpoint = Checkpoint::open(kModels / GetParam());
  const Safetensors golden = Safetensors::open_file(kModels / GetParam() / "golden.safetensors");
  const TensorView& ids_view = golden.at("ids");
  const std::vector<int32_t> ids = i32_values(ids_view);
  const std::vector<float> want = to_f32(golden.at("logits"));
  const int num_seqs = static_cast<int>(ids_view.shape[0]), length = static_cast<int>(ids_view.shape[1]);
  std::vector<int32_t> positions(static_cast<size_t>(length));
  std::iota(positions.begin(), positions.end(), 0);
  if (golden.has("positions")) positions = i32_values(golden.at("positions"));

  Model model(*backend, checkpoint, {.max_batch_tokens = length, .max_logit_rows = length});
  KvPool pool(*backend, model.config(), model.kv_format(), (length + 63) / 64);
  const int vocab = model.config().vocab_size;
  double error = 0.0, spread = 0.0;
  for (int s = 0; s < num_seqs; ++s) {
    HostBatch batch;
    std::vector<int32_t> blocks(static_cast<size_t>((length + 63) / 64));
    std::iota(blocks.begin(), blocks.end(), 0);
    batch.add_sequence(std::span(ids).subspan(static_cast<size_t>(s) * length, length), 0, blocks);
    batch.logit_rows = positions;
    const ForwardResult got = model.forward(batch, pool);
    ASSERT_EQ(std::accumulate(got.row_errors.begin(), got.row_errors.end(), 0u), 0u);
    const size_t count = positions.size() * static_cast<size_t>(vocab);
    for (size_t i = 0; i < count; ++i) {
      const double w = static_cast<double>(want[static_cast<size_t>(s) * count + i]);
      error += (static_cast<double>(got.logits[i]) - w) * (static_cast<double>(got.logits[i]) - w);
      spread += w * w;
    }
  }
  EXPECT_LT(std::sqrt(error / spread), 0.01);
  printf("%s: relative error %.2e\n", GetParam().c_str(), std::sqrt(error / spread));
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kModels)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Models, Transformers, testing::ValuesIn(model_names()), [](const auto& param) {
  std::string name = param.param;
  for (char& c : name)
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace comet
