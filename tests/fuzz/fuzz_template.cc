// SPDX-License-Identifier: Apache-2.0
// A chat template, messages and variables, divided by lines of "----": whatever they are, the answer is bounded valid
// UTF-8 or a refusal, soon, and the same again.
#include <unistd.h>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "fuzz/fuzz.h"
#include "text/chat_template.h"
#include "text/utf8.h"

namespace comet {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// Inputs that take more memory or time than they may: each costs the process a sleeping thread with that memory, and
// after 16 of them every call fails. So each is met once only: its hash is kept in the file that COMET_FUZZ_LIMITED
// names, and after a few of them the process ends in peace, for tools/soak.d/60-fuzz to start the next one.
class Limited {
 public:
  bool has(size_t hash) const { return hashes_.contains(hash); }
  void add(size_t hash) {
    hashes_.insert(hash);
    if (path_ == nullptr) return;
    std::ofstream(path_, std::ios::app) << hash << '\n';
    if (++num_added_ == 4) _exit(0);
  }

 private:
  static std::set<size_t> read(const char* path) {
    std::set<size_t> hashes;
    if (path == nullptr) return hashes;
    std::ifstream file(path);
    for (size_t hash; file >> hash;) hashes.insert(hash);
    return hashes;
  }

  const char* path_ = std::getenv("COMET_FUZZ_LIMITED");
  std::set<size_t> hashes_ = read(path_);
  int num_added_ = 0;
};

struct Answer {
  std::string text, refusal;
  bool operator==(const Answer&) const = default;
};

Answer render(const std::string& source, const Json& messages, const Json& variables) {
  TokenizerConfig config;
  config.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  config.chat_templates["default"] = {"default", source};
  Answer answer;
  answer.refusal = fuzz::refusal_of([&] {
    const ChatTemplate chat_template(config);
    answer.text = chat_template.render(messages, true, variables);
  });
  return answer;
}

Json parse(const std::string& text, const char* otherwise) {
  Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json::parse(otherwise) : json;
}

void run(std::string_view input) {
  static Limited limited;
  const size_t hash = std::hash<std::string_view>()(input);
  if (limited.has(hash)) return;
  const std::vector<std::string> parts = fuzz::split(input, 3);
  const Json messages = parse(parts[1], R"([{"role":"user","content":"u"},{"role":"assistant","content":"a"}])");
  const Json variables = parse(parts[2], "{}");
  const Clock::time_point start = Clock::now();
  const Answer answer = render(parts[0], messages, variables);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (answer.refusal.find("takes more than") != std::string::npos &&
      answer.refusal.find(" steps") == std::string::npos) {
    limited.add(hash);
    return;
  }
  FUZZ_CHECK(answer.refusal.find("refused, since") == std::string::npos, "{}", answer.refusal);
  FUZZ_CHECK(answer.refusal.find("internal error") == std::string::npos, "{}", answer.refusal);
  FUZZ_CHECK(seconds < 60, "{} s", seconds);
  FUZZ_CHECK(answer.text.size() <= ChatTemplate::kMaxOutputBytes);
  FUZZ_CHECK(to_valid_utf8(answer.text) == answer.text && to_valid_utf8(answer.refusal) == answer.refusal);
  if (seconds < 0.01 && parts[0].find("strftime") == std::string::npos)
    FUZZ_CHECK(render(parts[0], messages, variables) == answer);
}

}  // namespace
}  // namespace comet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comet::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
