// SPDX-License-Identifier: Apache-2.0
// One test body over the reference and every ISA of the CPU backend; an ISA the machine lacks is a counted skip.
#pragma once

#include <gtest/gtest.h>

#include "attention_run.h"

namespace comet {

class IsaTest : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!detect_isas().has(GetParam())) GTEST_SKIP() << "no " << to_string(GetParam()) << " on this machine";
  }
};

inline std::string isa_name(const ::testing::TestParamInfo<Isa>& info) { return to_string(info.param); }

// Names the first difference.
inline ::testing::AssertionResult is_equal(const AttentionResult& got, const AttentionResult& want,
                                           bool outputs = true) {
  for (size_t s = 0; s < want.q.size(); ++s)
    for (size_t p = 0; p < want.q[s].size(); ++p) {
      auto differs = [&](const char* what) {
        return ::testing::AssertionFailure() << what << " of sequence " << s << " position " << p;
      };
      if (got.append_errors[s][p] != want.append_errors[s][p]) return differs("append error");
      if (got.attention_errors[s][p] != want.attention_errors[s][p]) return differs("attention error");
      if (got.q[s][p].size() != want.q[s][p].size()) return differs("size of q");
      for (size_t i = 0; i < want.q[s][p].size(); ++i)
        if (float_bits(got.q[s][p][i]) != float_bits(want.q[s][p][i]))
          return differs("q") << " element " << i << ": " << got.q[s][p][i] << " is not " << want.q[s][p][i];
      if (outputs && got.out[s][p] != want.out[s][p]) {
        size_t i = 0;
        while (i < want.out[s][p].size() && got.out[s][p][i] == want.out[s][p][i]) ++i;
        return differs("output") << " byte " << i;
      }
    }
  return ::testing::AssertionSuccess();
}

}  // namespace comet
