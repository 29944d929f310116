// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/check_problem.h"
#include "kernels/samples.h"

namespace comet {
namespace {

constexpr uint32_t kTag = 42, kOldTag = 7;

// Rows of x, as the source reads them; `width` floats each.
enum class Rows { random, adversarial };

std::vector<float> make_rows(int rows, int width, Rows kind, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(rows) * static_cast<size_t>(width));
  for (float& v : x) v = normal(rng);
  if (kind == Rows::random) return x;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int t = 0; t < rows; ++t) {
    float* row = &x[static_cast<size_t>(t) * static_cast<size_t>(width)];
    const int spot = static_cast<int>(rng() % static_cast<unsigned>(width));
    switch (t % 14) {
      case 0: std::fill(row, row + width, 0.0f); break;
      case 1: std::fill(row, row + width, -0.0f); break;
      case 2:
        for (int i = 0; i < width; ++i) row[i] *= 1e-32f;
        break;  // around 2^-100
      case 3:
        for (int i = 0; i < width; ++i) row[i] *= 1e-40f;
        break;  // subnormal
      case 4:
        for (int i = 0; i < width; ++i) row[i] *= 1e37f;
        break;  // the Hadamard may overflow
      case 5: row[spot] = kInfinity; break;
      case 6: row[spot] = -kInfinity; break;
      case 7: row[spot] = std::numeric_limits<float>::quiet_NaN(); break;
      case 8: row[spot] = 1e6f; break;  // one outlier: multipliers spread, r small
      case 9:
        for (int i = 0; i < width; ++i) row[i] = (i % 2 != 0 ? -1.0f : 1.0f);
        break;
      case 10:
        for (int i = 0; i < width; ++i) row[i] = static_cast<float>(i % 255 - 127) * 0.5f;
        break;  // ties
      case 11:
        for (int i = 0; i < width; ++i) row[i] *= std::exp2(static_cast<float>(i % 60 - 30));
        break;
      case 12:
        for (int i = 0; i < std::min(width, kGroup); ++i) row[i] *= 1e5f;
        break;  // region 1 large: r at rmax
      case 13:
        for (int i = kGroup; i < width; ++i) row[i] *= 1e-36f;
        break;  // region 2 counts as zero
    }
  }
  return x;
}

struct QuantizeCase {
  ActFormat format;
  ActSource source = ActSource::f32;
  int m = 1;
  bool has_perm = false, has_row_ids = false;
  DType gain_dtype = DType::f32;
  Rows rows = Rows::random;
};

std::vector<int32_t> make_perm(const ActFormat& f, unsigned seed) {
  std::vector<int32_t> perm(static_cast<size_t>(std::max(f.k, f.k_in)), -1);
  std::iota(perm.begin(), perm.begin() + f.k_in, 0);
  std::shuffle(perm.begin(), perm.end(), std::mt19937(seed));  // padding anywhere
  perm.resize(static_cast<size_t>(f.k));
  return perm;
}

struct Result {
  ActsSample acts;
  std::vector<uint32_t> row_errors;
};

Result run(Backend& backend, const QuantizeCase& c) {
  const ActFormat& f = c.format;
  const int total_rows = c.m + 3, width = c.source == ActSource::silu_mul ? 2 * f.k_in : f.k_in;
  const std::vector<float> rows = make_rows(total_rows, width, c.rows, 5);
  std::vector<bf16> rows16;
  for (float v : rows) rows16.push_back(to_bf16(v));
  const bool is_16bit = c.source == ActSource::bf16 || c.source == ActSource::silu_mul;
  const DeviceBuffer x = is_16bit ? upload(backend, rows16) : upload(backend, rows);
  const std::vector<float> gains = make_rows(1, f.k_in, Rows::random, 6);
  std::vector<uint16_t> gains16;
  for (float v : gains) gains16.push_back(c.gain_dtype == DType::bf16 ? to_bf16(v).bits : to_f16(v).bits);
  const DeviceBuffer gain = c.gain_dtype == DType::f32 ? upload(backend, gains) : upload(backend, gains16);
  const DeviceBuffer perm = upload(backend, make_perm(f, 9));
  std::vector<int32_t> ids(static_cast<size_t>(c.m));
  for (int t = 0; t < c.m; ++t) ids[static_cast<size_t>(t)] = (t * 5 + 2) % total_rows;
  const DeviceBuffer row_ids = upload(backend, ids);
  std::vector<uint32_t> errors(static_cast<size_t>(c.m), 0);
  errors.back() = kOldTag;  // an earlier error stays
  const DeviceBuffer row_errors = upload(backend, errors);
  const DeviceBuffer memory(backend, backend.acts_bytes(c.m, f.k));
  QuantizeActArgs args;
  args.x = x.data();
  args.row_ids = c.has_row_ids ? row_ids.as<int32_t>() : nullptr;
  args.gain = gain.data();
  args.gain_dtype = c.gain_dtype;
  args.eps = 1e-5f;
  args.perm = c.has_perm ? perm.as<int32_t>() : nullptr;
  args.out = backend.bind_acts(memory.data(), c.m, f.k);
  args.row_errors = row_errors.as<uint32_t>();
  args.error_tag = kTag;
  memset(args.out.values, 99, static_cast<size_t>(c.m) * static_cast<size_t>(f.k));  // nothing may be left unwritten
  backend.quantize_act({.m = c.m, .format = f, .source = c.source}, args);
  return {download(backend, args.out, c.m, f.k, f.num_int8_groups),
          download<uint32_t>(backend, row_errors.data(), errors.size())};
}

class QuantizeAct : public BackendTest {
 protected:
  void check(const QuantizeCase& c) {
    SCOPED_TRACE(to_string(QuantizeActProblem{.m = c.m, .format = c.format, .source = c.source}) +
                 (c.has_perm ? " perm" : "") + (c.rows == Rows::adversarial ? " adversarial" : ""));
    const Result got = run(*backend_, c), want = run(*ref_, c);
    EXPECT_TRUE(same_bits(got.acts.values, want.acts.values)) << "values";
    EXPECT_TRUE(same_bits(got.acts.multipliers, want.acts.multipliers)) << "multipliers";
    EXPECT_TRUE(same_bits(got.acts.group_sums, want.acts.group_sums)) << "group_sums";
    EXPECT_TRUE(same_bits(got.acts.region1_factors, want.acts.region1_factors)) << "region1_factors";
    EXPECT_TRUE(same_bits(got.acts.scales, want.acts.scales)) << "scales";
    EXPECT_TRUE(same_bits(got.acts.sums, want.acts.sums)) << "sums";
    EXPECT_TRUE(same_bits(got.row_errors, want.row_errors)) << "row_errors";
  }
};

TEST_P(QuantizeAct, EverySourceAndFormat) {
  for (ActSource source : {ActSource::f32, ActSource::bf16, ActSource::rms_norm, ActSource::silu_mul})
    for (int n8 : {0, 1, 4})
      for (int bits2 : {4, 8})
        for (bool rotate : {false, true})
          for (bool has_perm : {false, true})
            for (Rows rows : {Rows::random, Rows::adversarial}) {
              QuantizeCase c;
              c.format = {.k_in = 512, .k = 512, .num_int8_groups = n8, .bits2 = bits2, .rotate = rotate};
              c.source = source;
              c.m = rows == Rows::random ? 3 : 28;
              c.has_perm = has_perm;
              c.rows = rows;
              check(c);
            }
}

TEST_P(QuantizeAct, PaddedRows) {
  for (int k_in : {1, 15, 100, 127, 129, 250, 300})
    for (ActSource source : {ActSource::f32, ActSource::bf16, ActSource::rms_norm, ActSource::silu_mul})
      for (bool has_perm : {false, true}) {
        QuantizeCase c;
        c.format = {.k_in = k_in, .k = round_up(k_in, kGroup), .num_int8_groups = 0, .bits2 = 4, .rotate = true};
        c.source = source;
        c.m = 15;
        c.has_perm = has_perm;
        c.rows = Rows::adversarial;
        check(c);
      }
}

// A permutation may leave channels out (a shard reads its own) and spread padding.
TEST_P(QuantizeAct, PermutationShorterThanTheRow) {
  QuantizeCase c;
  c.format = {.k_in = 700, .k = 256, .num_int8_groups = 1, .bits2 = 4, .rotate = true};
  c.has_perm = true;
  c.m = 5;
  check(c);
  c.format.k_in = 200;
  c.format.k = 512;
  check(c);
}

TEST_P(QuantizeAct, RowIdsClipsAndGains) {
  for (DType gain : {DType::f32, DType::bf16, DType::f16})
    for (float clip : {1.0f, 0.875f, 0.95f, 0x1p-8f}) {
      QuantizeCase c;
      c.format = {.k_in = 384,
                  .k = 384,
                  .num_int8_groups = 1,
                  .bits2 = clip < 0.9f ? 4 : 8,
                  .rotate = true,
                  .clip1 = clip,
                  .clip2 = 1.5f * clip > 1.0f ? 1.0f : 1.5f * clip};
      c.source = ActSource::rms_norm;
      c.m = 40;
      c.has_row_ids = true;
      c.gain_dtype = gain;
      c.rows = Rows::adversarial;
      check(c);
    }
}

TEST_P(QuantizeAct, LongRows) {
  for (int n8 : {0, 3, 512}) {
    QuantizeCase c;
    c.format = {.k_in = kMaxK, .k = kMaxK, .num_int8_groups = n8, .bits2 = 8, .rotate = true};
    c.m = 3;
    check(c);
  }
}

COMET_BACKEND_CASES(QuantizeAct);

}  // namespace
}  // namespace comet
