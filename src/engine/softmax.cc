// SPDX-License-Identifier: Apache-2.0
#include "engine/softmax.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <vector>

#include "base/check.h"

namespace comet {
namespace {

// Independent lanes: the compiler may not reorder a float reduction by itself, and needs no order for these.
constexpr size_t kLanes = 16;
constexpr size_t kMaxBlock = 64;   // elements of a row that kth_largest_bound looks at as one
constexpr double kLowest = -64.0;  // weights are 0 long before

// Two lanes of whatever vector unit there is (GCC does not vectorize this by itself): the same IEEE operations in each.
constexpr size_t kPair = 2;
using Doubles = double __attribute__((vector_size(16)));
using Words = uint64_t __attribute__((vector_size(16)));

// rne(exp(y) * 2^44) for y in (kLowest, 0], 0 below: y = n * log 2 + r with |r| <= log(2) / 2, a Taylor polynomial of
// degree 11 in r (below 1e-14 relative), 2^n added to the exponent field, and 2^52 added to round in the last place.
inline Words exp_weights(Doubles y) {
  constexpr double kRound = 0x1.8p52;  // adding it leaves rne(value) in the low bits
  const Doubles shifted = y * 0x1.71547652b82fep0 + kRound;
  const Doubles n = shifted - kRound;
  const Doubles r = (y - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;  // log 2 in two; the first product is exact
  const Doubles r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
  const Doubles p0 = (1.0 + r) + (0.5 + r * (1.0 / 6)) * r2;  // four terms each: short chains run side by side
  const Doubles p4 = (1.0 / 24 + r * (1.0 / 120)) + (1.0 / 720 + r * (1.0 / 5040)) * r2;
  const Doubles p8 = (1.0 / 40320 + r * (1.0 / 362880)) + (1.0 / 3628800 + r * (1.0 / 39916800)) * r2;
  const Doubles p = p0 + (p4 * r4 + p8 * r8);
  const Words scale = (reinterpret_cast<Words>(shifted) << 52) + (uint64_t{1023 + kWeightBits} << 52);
  const Words weight = reinterpret_cast<Words>(p * reinterpret_cast<Doubles>(scale) + 0x1p52);
  return (weight - std::bit_cast<uint64_t>(0x1p52)) & reinterpret_cast<Words>(y > kLowest);
}

// Calls store(i, weight) for every element of x, in no stated order.
template <typename Store>
void for_each_weight(std::span<const float> x, double max, double inv_temperature, Store store) {
  size_t i = 0;
  for (; i + kPair <= x.size(); i += kPair) {
    const Words weights = exp_weights((Doubles{x[i], x[i + 1]} - max) * inv_temperature);
    store(i, weights[0]);
    store(i + 1, weights[1]);
  }
  if (i < x.size()) store(i, exp_weights((Doubles{x[i], x[i]} - max) * inv_temperature)[0]);
}

template <typename Pick>
float reduce_lanes(std::span<const float> x, Pick pick) {
  COMET_CHECK(!x.empty());
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, x[0]);
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = pick(x[i + lane], lanes[lane]);
  for (; i < x.size(); ++i) lanes[0] = pick(x[i], lanes[0]);
  for (size_t lane = 1; lane < kLanes; ++lane) lanes[0] = pick(lanes[lane], lanes[0]);
  return lanes[0];
}

}  // namespace

uint64_t softmax_weights(std::span<const float> x, float max, double inv_temperature, std::span<uint64_t> weights) {
  COMET_CHECK_EQ(x.size(), weights.size());
  uint64_t sum = 0;
  for_each_weight(x, max, inv_temperature, [&](size_t i, uint64_t weight) {
    weights[i] = weight;
    sum += weight;
  });
  return sum;
}

uint64_t sum_softmax_weights(std::span<const float> x, float max, double inv_temperature) {
  uint64_t sum = 0;
  for_each_weight(x, max, inv_temperature, [&](size_t, uint64_t weight) { sum += weight; });
  return sum;
}

double stated_log(double x) {
  COMET_CHECK(x >= 1.0 && x <= std::numeric_limits<double>::max(), "x = {}", x);
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffu) | uint64_t{1023} << 52);
  if (m > 0x1.6a09e667f3bcdp0) {  // keep m in [sqrt(1/2), sqrt(2)]
    m = m * 0.5;
    exponent += 1;
  }
  // log m = 2 * (s + s^3/3 + s^5/5 ..), |s| <= 0.172: the first term left out is below 1e-18.
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  double p = 1.0 / 21;
  for (int k = 19; k >= 1; k -= 2) p = p * s2 + 1.0 / k;
  const double n = exponent;
  return n * 0x1.62e42feep-1 + (n * 0x1.a39ef35793c76p-33 + 2.0 * s * p);
}

float row_max(std::span<const float> x) {
  return reduce_lanes(x, [](float a, float b) { return a > b ? a : b; });
}

float row_min(std::span<const float> x) {
  return reduce_lanes(x, [](float a, float b) { return a < b ? a : b; });
}

bool is_finite_row(std::span<const float> x) {
  float lanes[kLanes] = {};  // x * 0 is 0 for a finite x and NaN for any other
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * 0.0f;
  for (; i < x.size(); ++i) lanes[0] += x[i] * 0.0f;
  return std::all_of(lanes, lanes + kLanes, [](float lane) { return lane == 0.0f; });
}

float kth_largest_bound(std::span<const float> x, int k) {
  COMET_CHECK(k >= 1, "k = {}", k);
  const size_t num_blocks = x.size() / kMaxBlock;  // the rest of the row is not needed for a bound
  if (static_cast<size_t>(k) > num_blocks) return -std::numeric_limits<float>::infinity();
  // k blocks have a largest element that reaches the k-th largest of these maxima.
  std::vector<float> maxima(num_blocks);
  for (size_t block = 0; block < num_blocks; ++block) maxima[block] = row_max(x.subspan(block * kMaxBlock, kMaxBlock));
  std::nth_element(maxima.begin(), maxima.begin() + (k - 1), maxima.end(), std::greater<>());
  return maxima[static_cast<size_t>(k - 1)];
}

}  // namespace comet
