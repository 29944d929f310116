// SPDX-License-Identifier: Apache-2.0
// The quantizer's parts against slow and obvious ones, and its bytes against the number of threads.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>
#include <random>

#include "base/mapped_file.h"
#include "folders.h"
#include "model/model.h"
#include "quantizer/fold.h"
#include "quantizer/quantize_row.h"

namespace comet {
namespace {

std::vector<float> random_floats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& v : out) v = static_cast<float>(static_cast<int64_t>(random()) - (int64_t{1} << 31)) * 0x1p-31f;
  return out;
}

TEST(QuantizeRows, RtnIsTheStatedSequence) {
  constexpr int kN = 37, kK = 384;
  const std::vector<float> w = random_floats(kN * kK, 1);
  ThreadPool threads(2);
  const QuantizedLinear got = quantize_rows("w", w, kN, kK, {}, {}, false, threads);
  for (int row = 0; row < kN; ++row) {
    std::vector<uint8_t> codes(kK / 2), scales(kK / kGroup), zeros(kK / kGroup);
    const float s0 = channel_scale_rtn(&w[row * kK], kK);
    quantize_row_rtn(&w[row * kK], kK, s0, codes.data(), scales.data(), zeros.data());
    EXPECT_EQ(got.channel_scales[row], s0);
    EXPECT_EQ(std::vector<uint8_t>(&got.codes[row * kK / 2], &got.codes[row * kK / 2] + kK / 2), codes);
    EXPECT_EQ(std::vector<uint8_t>(&got.group_scales[row * 3], &got.group_scales[row * 3] + 3), scales);
    EXPECT_EQ(std::vector<uint8_t>(&got.group_zeros[row * 3], &got.group_zeros[row * 3] + 3), zeros);
  }
}

TEST(QuantizeRows, DequantizedWeightsAreNear) {
  constexpr int kN = 8, kK = 256;
  const std::vector<float> w = random_floats(kN * kK, 2);
  ThreadPool threads(1);
  for (const bool search : {false, true}) {
    const QuantizedLinear q = quantize_rows("w", w, kN, kK, {}, {}, search, threads);
    const std::vector<float> back = dequantize_rows(q, kK);
    for (int i = 0; i < kN * kK; ++i) {
      const float step = q.channel_scales[i / kK] * q.group_scales[i / kGroup];
      EXPECT_LE(std::fabs(w[i] - back[i]), step * (search ? 4.0f : 0.5f) + q.channel_scales[i / kK]) << i;
    }
  }
}

TEST(QuantizeRows, TinyHugeAndZeroRows) {
  constexpr int kK = 128;
  std::vector<float> w(5 * kK, 0.0f);
  for (int i = 0; i < kK; ++i) {
    w[kK + i] = 1e-45f;  // the scale would round to 0
    w[2 * kK + i] = (i % 2 == 0 ? 1.0f : -1.0f) * 3.4e38f;
    w[3 * kK + i] = i == 5 ? 1.0f : 0.0f;
    w[4 * kK + i] = 1e-38f * static_cast<float>(i);  // subnormal scale
  }
  ThreadPool threads(1);
  const QuantizedLinear q = quantize_rows("w", w, 5, kK, {}, {}, false, threads);
  for (int row = 0; row < 5; ++row) {
    EXPECT_TRUE(std::isfinite(q.channel_scales[row]) && q.channel_scales[row] > 0.0f) << row;
    EXPECT_TRUE(is_legal_group(q.group_scales[row], q.group_zeros[row])) << row;
  }
  const std::vector<float> back = dequantize_rows(q, kK);
  for (int i = 0; i < 2 * kK; ++i) EXPECT_EQ(back[i], 0.0f);
  EXPECT_NEAR(back[3 * kK + 5], 1.0f, 0.08f);
}

TEST(ChooseGroupParams, AlwaysLegalAndNeverWorse) {
  auto error = [](const float* w1, const float* importance, const GroupParams& p) {
    double sum = 0.0;
    for (int i = 0; i < kGroup; ++i) {
      const int code = std::clamp(static_cast<int>(std::nearbyint(w1[i] / static_cast<float>(p.s1))) + p.z, 0, 15);
      const double d = static_cast<double>(w1[i]) - (code - p.z) * p.s1;
      sum += static_cast<double>(importance[i]) * d * d;
    }
    return sum;
  };
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    // Beyond the range on purpose: error feedback does that. Shifted, so that all-positive and all-negative groups
    // occur.
    const float width = static_cast<float>(1 + random() % 200),
                shift = static_cast<float>(static_cast<int>(random() % 301) - 150);
    std::vector<float> w1 = random_floats(kGroup, random()), importance = random_floats(kGroup, random());
    for (float& v : w1) v = v * width + (round % 3 == 0 ? shift : 0.0f);
    for (float& v : importance) v = v * v;
    const GroupParams plain = choose_group_params(w1.data(), nullptr, false),
                      best = choose_group_params(w1.data(), importance.data(), true);
    EXPECT_TRUE(is_legal_group(plain.s1, plain.z)) << plain.s1 << " " << plain.z;
    EXPECT_TRUE(is_legal_group(best.s1, best.z)) << best.s1 << " " << best.z;
    EXPECT_LE(error(w1.data(), importance.data(), best), error(w1.data(), importance.data(), plain) * (1 + 1e-12));
  }
}

// Row i of the factor is what one step of naive elimination on inv(H) leaves: inv(H)[i][j] / inv(H)[i][i], columns
// before i removed.
TEST(ErrorFeedbackFactor, EqualsANaiveInverse) {
  constexpr int kK = 24;
  const std::vector<float> x = random_floats(40 * kK, 9);
  std::vector<float> gram(kK * kK, 0.0f);
  for (int r = 0; r < 40; ++r)
    for (int i = 0; i < kK; ++i)
      for (int j = 0; j < kK; ++j) gram[i * kK + j] += x[r * kK + i] * x[r * kK + j];
  for (int i = 0; i < kK; ++i) gram[3 * kK + i] = gram[i * kK + 3] = 0.0f;  // a channel that is never seen
  const double damp = 0.01;
  const std::vector<float> got = error_feedback_factor(gram, kK, damp);

  std::vector<double> h(gram.begin(), gram.end()), inverse(kK * kK, 0.0);
  double mean = 0.0;
  for (int i = 0; i < kK; ++i) mean += h[i * kK + i] / kK;
  for (int i = 0; i < kK; ++i) {
    h[i * kK + i] = (h[i * kK + i] > 0.0 ? h[i * kK + i] : mean) + damp * mean;
    inverse[i * kK + i] = 1.0;
  }
  for (int p = 0; p < kK; ++p) {  // Gauss-Jordan
    const double pivot = h[p * kK + p];
    for (int j = 0; j < kK; ++j) h[p * kK + j] /= pivot, inverse[p * kK + j] /= pivot;
    for (int i = 0; i < kK; ++i) {
      if (i == p) continue;
      const double f = h[i * kK + p];
      for (int j = 0; j < kK; ++j) h[i * kK + j] -= f * h[p * kK + j], inverse[i * kK + j] -= f * inverse[p * kK + j];
    }
  }
  for (int i = 0; i < kK; ++i) {
    for (int j = 0; j < kK; ++j) {
      const double want = j < i ? 0.0 : inverse[i * kK + j] / inverse[i * kK + i];
      EXPECT_NEAR(static_cast<double>(got[i * kK + j]), want, 1e-5) << i << " " << j;
    }
    const double pivot = inverse[i * kK + i];
    const std::vector<double> row(&inverse[i * kK], &inverse[i * kK] + kK);
    for (int a = 0; a < kK; ++a)
      for (int b = 0; b < kK; ++b) inverse[a * kK + b] -= row[a] * row[b] / pivot;
  }
}

// Logits of a folder's model on fixed tokens, computed on kv16 without rounding K and V to 4 bits.
std::vector<float> logits_of(const fs::path& folder) {
  const auto backend = ref_backend();
  Model model(*backend, Checkpoint::open(folder), {.kv_bits = 16, .max_batch_tokens = 24, .max_logit_rows = 24});
  KvPool pool(*backend, model.config(), model.kv_format(), 1);
  HostBatch batch;
  batch.add_sequence(calibration_windows(1, 24, model.config().vocab_size)[0], 0, std::vector<int32_t>{0});
  for (int i = 0; i < 24; ++i) batch.logit_rows.push_back(i);
  return model.forward(batch, pool).logits;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0.0, norm = 0.0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - static_cast<double>(want[i]), 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(error / norm);
}

// Folds change the basis and not the function: whatever is folded, the quantized model stays as near to the original as
// rounding alone leaves it (these random weights are hard to round: 0.2 to 0.4). A fold gone wrong gives unrelated
// logits: 1 and more.
TEST(Folds, KeepTheFunctionOfEveryFamily) {
  const std::map<std::string, std::string> none = {{"v_rotate", "false"}, {"k_rotate", "false"}, {"rotate", "false"}};
  for (const char* name : {"llama-plain", "llama3-scaled", "qwen2-gqa7", "qwen2.5-no-window", "mistral-fp16",
                           "qwen3-untied", "qwen3-tied"}) {
    const std::vector<float> want = logits_of(golden_model(name));
    auto error_with = [&](const std::string& recipe, const std::map<std::string, std::string>& overrides) {
      const TemporaryFolder folder;
      quantize(golden_model(name), folder / "out", recipe, overrides);
      return relative_error(logits_of(folder / "out"), want);
    };
    const double plain = error_with("rtn", none), rotated = error_with("rtn", {}),
                 int8 = error_with("rtn", {{"int8_groups", "512"}});
    const double calibrated = error_with(
        "fmpq", {{"act_bits", "8"}, {"int8_share", "0.5"}, {"smooth_k", "true"}});  // permuted, smoothed, fed back
    printf("%s: %.3f plain, %.3f rotated, %.3f without region 2, %.3f fmpq\n", name, plain, rotated, int8, calibrated);
    EXPECT_LT(plain, 0.45) << name;
    EXPECT_LT(rotated, 1.2 * plain) << name;
    EXPECT_LT(int8, 1.2 * plain) << name;
    EXPECT_LT(calibrated, 0.6 * plain) << name;
  }
}

// The norms' gains take K's smoothing as powers of two: without K's rotation not one bit of a kv16 model changes, and
// K's channels become more even.
TEST(Folds, NormGainsTakeTheSmoothingExactly) {
  for (const char* name : {"qwen3-untied", "qwen3-tied"}) {
    const TemporaryFolder folder;
    // Gains of very different sizes, one pair of channels an outlier, as trained models have them.
    fs::copy(golden_model(name), folder / "in");
    std::map<std::string, OwnedTensor> tensors = load_tensors(folder / "in/model.safetensors");
    for (auto& [key, t] : tensors)
      if (key.ends_with("k_norm.weight"))
        for (size_t i = 0; i < t.bytes.size() / 2; ++i) {
          const float gain = i % 7 == 0 ? 0.05f : i == 5 ? 30.0f : 1.0f + 0.01f * static_cast<float>(i);
          const bf16 stored = to_bf16(gain);
          memcpy(&t.bytes[2 * i], &stored.bits, 2);
        }
    fs::remove(folder / "in/model.safetensors");
    write_safetensors(folder / "in/model.safetensors", tensors);
    std::map<std::string, std::string> recipe = {{"k_rotate", "false"}, {"smooth_k", "false"}};
    quantize(folder / "in", folder / "plain", "rtn", recipe);
    recipe["smooth_k"] = "true";
    quantize(folder / "in", folder / "smooth", "rtn", recipe);
    EXPECT_EQ(logits_of(folder / "plain"), logits_of(folder / "smooth")) << name;

    const auto plain = load_tensors(folder / "plain/model.safetensors"),
               smooth = load_tensors(folder / "smooth/model.safetensors");
    for (int layer = 0; layer < 2; ++layer) {
      auto gains = [&](const std::map<std::string, OwnedTensor>& from, const char* which) {
        const OwnedTensor& t = from.at(fmt::format("model.layers.{}.self_attn.{}_norm.weight", layer, which));
        return to_f32({t.bytes.data(), t.dtype, t.shape});
      };
      const std::vector<float> k0 = gains(plain, "k"), k1 = gains(smooth, "k"), q0 = gains(plain, "q"),
                               q1 = gains(smooth, "q");
      const size_t half = k0.size() / 2;
      for (size_t i = 0; i < k0.size(); ++i) {
        EXPECT_EQ(q0[i] * k0[i], q1[i] * k1[i]) << i;
        EXPECT_EQ(k1[i] / k0[i], k1[(i + half) % k0.size()] / k0[(i + half) % k0.size()]) << i;
      }
      EXPECT_LT(k1[5], k0[5]);
      EXPECT_LT(k1[5] / k1[6], 0.5f * k0[5] / k0[6]);
    }
  }
}

TEST(Folds, UndoThemselves) {
  std::vector<float> w = random_floats(4 * 64 * 10, 3), before = w;
  rotate_value_rows(w, 64, 10);
  EXPECT_NE(w, before);
  rotate_value_rows(w, 64, 10);
  for (size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(w[i], before[i], 1e-6f);

  std::vector<float> rows = {1, 2, 3, 4, 5, 6};
  permute_rows(rows, {2, 0, 1}, 2);
  EXPECT_EQ(rows, (std::vector<float>{5, 6, 1, 2, 3, 4}));
  std::vector<float> columns = {1, 2, 3, 4, 5, 6};
  permute_columns(columns, {2, 0, 1});
  EXPECT_EQ(columns, (std::vector<float>{3, 1, 2, 6, 4, 5}));
}

TEST(ChooseInt8Groups, SharesAndThresholds) {
  std::vector<float> absmax(1024, 1.0f);
  for (int i = 0; i < 130; ++i) absmax[i * 7] = 50.0f;
  Recipe r;
  r.int8_groups = 3;
  EXPECT_EQ(choose_int8_groups(absmax, 8, r), 3);
  EXPECT_EQ(choose_int8_groups(absmax, 2, r), 2);
  r.int8_groups = -1;
  r.int8_share = 0.5;
  EXPECT_EQ(choose_int8_groups(absmax, 8, r), 4);
  r.outlier_threshold = 10.0;
  EXPECT_EQ(choose_int8_groups(absmax, 8, r), 2);  // 130 outliers need two groups
  r.int8_share = 0.125;
  EXPECT_EQ(choose_int8_groups(absmax, 8, r), 1);
  r.outlier_threshold = 100.0;
  EXPECT_EQ(choose_int8_groups(absmax, 8, r), 0);
  const std::vector<int32_t> order = outliers_first({1, 3, 2, 3});
  EXPECT_EQ(order, (std::vector<int32_t>{1, 3, 2, 0}));
}

TEST(Threads, DoNotChangeTheBytes) {
  const fs::path model = golden_model("llama3-scaled");
  for (const char* recipe : {"rtn", "fmpq"}) {
    const TemporaryFolder folder;
    quantize(model, folder / "one", recipe, {}, 1);
    quantize(model, folder / "two", recipe, {}, 2);
    quantize(model, folder / "three", recipe, {}, 3);
    for (const char* file : {"model.safetensors", "config.json"}) {
      EXPECT_EQ(read_file(folder / "one" / file), read_file(folder / "two" / file)) << recipe << " " << file;
      EXPECT_EQ(read_file(folder / "one" / file), read_file(folder / "three" / file)) << recipe << " " << file;
    }
  }
}

// The CPU backend splits its sums over threads: what calibration gets from it must not depend on that either.
TEST(Threads, DoNotChangeTheBytesOnTheCpuBackend) {
  const fs::path model = golden_model("llama3-scaled");
  std::vector<std::string> bytes;
  for (const int num_threads : {1, 2}) {
    const TemporaryFolder folder;
    const auto pool = std::make_shared<ThreadPool>(num_threads);
    std::unique_ptr<Backend> backend;
    try {
      backend = cpu_backend("", pool);
    } catch (const Unsupported& e) {
      GTEST_SKIP() << e.what();
    }
    quantize_model({.input = model,
                    .output = folder / "out",
                    .recipe = load_recipe("fmpq"),
                    .windows = calibration_windows(3, 64, read_model_config(model).vocab_size),
                    .progress = {}},
                   *backend, *pool);
    bytes.push_back(read_file(folder / "out/model.safetensors"));
  }
  EXPECT_EQ(bytes[0], bytes[1]);
}

}  // namespace
}  // namespace comet
