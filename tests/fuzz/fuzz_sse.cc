// SPDX-License-Identifier: Apache-2.0
// What the engine says to server-sent events: arbitrary tokens (half characters, tags, stop strings), log-probabilities
// and ends. Each event is one line of JSON, and put together they are the answer that is not streamed, which is what
// the tokens' bytes say.
//
// An input is the body of a request ('c' chat, 'p' completions, 'r' chat with reasoning told apart, in front of it)
// and, after a line of "----", what the engine does; see Script.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "fuzz/fuzz.h"
#include "fuzz/served_model.h"
#include "server/routes.h"
#include "text/utf8.h"

namespace comet::server {
namespace {

constexpr int kMaxEvents = 400;

// One choice as the engine told of it.
struct Told {
  std::string bytes;  // of the answer's tokens; begins with half a character that the prompt ended with
  std::string text;   // what the client must see
  int num_tokens = 0;
  FinishReason finish = FinishReason::none;
  std::vector<int> offsets;  // of the tokens with log-probabilities: characters before each
  int num_characters = 0;
};

// Bytes to events, two or more bytes each: which choice and what; then a token.
class Script {
 public:
  Script(const CompletionRequest& request, std::string_view bytes) : request_(request), bytes_(bytes) {}
  bool is_over() const { return bytes_.empty(); }

  int choice(int num_choices) {
    head_ = bytes_.next();
    return head_ % 8 % num_choices;
  }
  bool wants_poll() const { return head_ / 8 % 4 == 0; }

  SequenceEvent event(const SequenceSpec& spec) {
    const int what = head_ / 32;
    SequenceEvent e;
    if (what == 7) {
      e.finish = static_cast<FinishReason>(1 + bytes_.next() % 4);
      if (e.finish == FinishReason::error) e.error = "why\n\"";
      if (e.finish > FinishReason::length) return e;
    }
    e.token = SampledToken{.token = what > 4 ? 256 + bytes_.next() % 24 : bytes_.next(), .logprobs = {}};
    if (request_.params.logprobs) e.token->logprobs = logprobs(e.token->token);
    if (spec.prompt_logprobs)
      for (size_t i = 1; i < spec.prompt.size(); ++i) e.prompt_logprobs.push_back(logprobs(spec.prompt[i]));
    return e;
  }

 private:
  TokenLogprobs logprobs(int32_t token) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    TokenLogprobs l{.logprob = -static_cast<float>(token), .top = {}};
    for (int i = 0; i < *request_.params.logprobs; ++i)
      l.top.push_back(
          {.token = (token + i * 64) % 280, .logprob = i == 3 ? -kInfinity : l.logprob - static_cast<float>(i)});
    return l;
  }

  const CompletionRequest& request_;
  fuzz::Bytes bytes_;
  uint8_t head_ = 0;
};

// The earliest stop string, as soon as the text has one.
size_t stop_in(const std::string& text, const std::vector<std::string>& stops) {
  size_t first = text.npos;
  for (const std::string& stop : stops) first = std::min(first, text.find(stop));
  return first;
}

int num_characters(const std::string& text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

void hear(Told& told, const SequenceEvent& event, const std::vector<std::string>& stops) {
  if (told.finish != FinishReason::none) return;
  const Tokenizer& tokenizer = fuzz::served().tokenizer();
  const auto look = [&](const std::string& text) {
    if (const size_t stop = stop_in(text, stops); stop != text.npos) {
      told.text = text.substr(0, stop);
      told.finish = FinishReason::stop;
    } else if (event.finish != FinishReason::none) {
      told.text = text;
    }
  };
  if (event.token) {
    const int32_t id = event.token->token;
    told.num_tokens += 1;
    const bool is_text = tokenizer.has_id(id) && !tokenizer.is_special(id);
    if (event.finish != FinishReason::stop && is_text) told.bytes += tokenizer.token_bytes(id);
    told.offsets.push_back(told.num_characters);
    if (is_text) told.num_characters += num_characters(tokenizer.token_bytes(id));
  }
  std::string certain = told.bytes;
  look(take_valid_utf8(certain));
  if (told.finish != FinishReason::none || event.finish == FinishReason::none) return;
  look(to_valid_utf8(told.bytes));
  if (told.finish == FinishReason::none) told.finish = event.finish;
}

// One choice as a client put it together from events.
struct Heard {
  std::string content, reasoning, finish;
  Json logprobs = Json();
};

struct Stream {
  std::map<int, Heard> choices;
  int num_errors = 0, num_usages = 0, num_done = 0;
  Json usage;
};

void append_lists(Json& to, const Json& lists) {
  if (lists.is_null()) return;
  if (to.is_null()) {
    to = lists;
    return;
  }
  for (const auto& [key, list] : lists.items())
    for (const Json& item : list) to[key].push_back(item);
}

void hear_choice(Heard& heard, const Json& choice, bool is_chat) {
  FUZZ_CHECK(heard.finish.empty(), "after the end: {}", choice.dump());
  if (is_chat) {
    heard.content += choice["delta"].value("content", "");
    heard.reasoning += choice["delta"].value("reasoning_content", "");
  } else {
    heard.content += choice["text"].get<std::string>();
  }
  append_lists(heard.logprobs, choice["logprobs"]);
  if (!choice["finish_reason"].is_null()) heard.finish = choice["finish_reason"];
}

// No two keys of an object are the same: a client would lose one.
Json parse_strictly(const std::string& text) {
  std::vector<std::set<std::string>> keys;
  return Json::parse(text, [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) FUZZ_CHECK(keys.back().insert(value).second, "twice {}", value.dump());
    return true;
  });
}

void hear_events(Stream& stream, const std::string& text, bool is_chat) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    FUZZ_CHECK(end != text.npos && text.compare(end, 2, "\n\n") == 0 && text.compare(at, 6, "data: ") == 0, "{}", text);
    const std::string data = text.substr(at + 6, end - at - 6);
    at = end + 2;
    FUZZ_CHECK(data.find('\r') == data.npos && stream.num_done == 0);
    if (data == "[DONE]") {
      stream.num_done += 1;
      continue;
    }
    const Json event = parse_strictly(data);
    if (event.contains("error")) {
      stream.num_errors += 1;
      continue;
    }
    if (event["choices"].empty()) {
      stream.num_usages += 1;
      stream.usage = event["usage"];
    }
    for (const Json& choice : event["choices"])
      hear_choice(stream.choices[choice["index"].get<int>()], choice, is_chat);
  }
}

// The offsets of the answer's tokens end the list; those of an echoed prompt may stand in front.
void check_offsets(const Json& logprobs, const std::vector<int>& expected, bool has_echo) {
  for (const auto& [key, list] : logprobs.items()) FUZZ_CHECK(list.size() == logprobs["tokens"].size(), "{}", key);
  const auto offsets = logprobs["text_offset"].get<std::vector<int>>();
  FUZZ_CHECK(has_echo || offsets.size() <= expected.size());
  if (has_echo) return;
  for (size_t i = 0; i < offsets.size(); ++i)
    FUZZ_CHECK(offsets[i] == expected[i], "{} {} {}", i, offsets[i], expected[i]);
}

void check_answer(const CompletionRequest& request, fuzz::Kind kind, const Stream& stream, const Json& whole,
                  const std::vector<Told>& told, const std::string& echo) {
  const bool is_chat = request.endpoint == Endpoint::chat;
  FUZZ_CHECK(stream.num_done == 1 && stream.num_usages == (request.include_usage ? 1 : 0));
  int num_tokens = 0, num_errors = 0;
  for (const Told& t : told) {
    num_tokens += request.is_prompt_only ? 0 : t.num_tokens;
    num_errors += t.finish == FinishReason::error ? 1 : 0;
  }
  const bool is_counted = kind != fuzz::Kind::window || request.stop.empty();
  if (!is_counted) num_errors = stream.num_errors;
  FUZZ_CHECK(stream.num_errors == num_errors);
  if (request.include_usage && is_counted)
    FUZZ_CHECK(stream.usage["completion_tokens"] == num_tokens, "{}", stream.usage.dump());
  if (num_errors > 0) return;  // there is no answer as a whole
  FUZZ_CHECK((!is_counted || whole["usage"]["completion_tokens"] == num_tokens) &&
             whole["choices"].size() == told.size());
  for (size_t i = 0; i < told.size(); ++i) {
    const Json& choice = whole["choices"][i];
    const Heard& heard = stream.choices.at(static_cast<int>(i));
    const Json content = is_chat ? choice["message"]["content"] : choice["text"];
    FUZZ_CHECK(heard.content == content, "{} {}", heard.content, content.dump());
    FUZZ_CHECK(heard.finish == choice["finish_reason"] && !heard.finish.empty());
    FUZZ_CHECK(heard.logprobs == choice["logprobs"], "{}\n{}", heard.logprobs.dump(), choice["logprobs"].dump());
    if (kind == fuzz::Kind::window) continue;
    if (!is_chat && !heard.logprobs.is_null()) check_offsets(heard.logprobs, told[i].offsets, request.echo);
    if (request.is_prompt_only) continue;
    FUZZ_CHECK(heard.finish == to_string(told[i].finish));
    if (kind == fuzz::Kind::plain) {
      FUZZ_CHECK(heard.content == echo + told[i].text, "{}\n{}", heard.content, echo + told[i].text);
      continue;
    }
    const Json reasoning = choice["message"]["reasoning_content"];
    FUZZ_CHECK(reasoning.is_null() ? heard.reasoning.empty() : heard.reasoning == reasoning);
    FUZZ_CHECK(heard.content.size() + heard.reasoning.size() <= told[i].text.size(), "{}\n{}\n{}", heard.content,
               heard.reasoning, told[i].text);
    FUZZ_CHECK(told[i].text.ends_with(heard.content) && told[i].text.find(heard.reasoning) != std::string::npos);
  }
}

// Half a character that the prompt ends with belongs to the answer.
std::string open_bytes(const std::vector<int32_t>& prompt) {
  const Tokenizer& tokenizer = fuzz::served().tokenizer();
  std::string bytes;
  for (const int32_t id : prompt)
    if (!tokenizer.is_special(id)) bytes += tokenizer.token_bytes(id);
  take_valid_utf8(bytes);
  return bytes;
}

void run(const std::string& input) {
  const std::vector<std::string> parts = fuzz::split(input, 2);
  if (parts[0].empty()) return;
  const char route = parts[0][0];
  const fuzz::Kind kind = route == 'r' ? fuzz::Kind::reasoning : route == 'w' ? fuzz::Kind::window : fuzz::Kind::plain;
  const Endpoint endpoint = route == 'p' || route == 'w' ? Endpoint::completions : Endpoint::chat;
  Service& service = fuzz::served(kind).service();
  std::vector<fuzz::Submitted>& submitted = fuzz::submitted();
  submitted.clear();
  std::unique_ptr<ActiveCompletion> streamed, collected;
  CompletionRequest request;
  try {
    request = parse_completion_request(endpoint, parse_json(parts[0].substr(1)), {});
    streamed = std::make_unique<ActiveCompletion>(service, request, "", "id", [] {});
    collected = std::make_unique<ActiveCompletion>(service, request, "", "id", [] {});
  } catch (const std::exception&) {
    return;  // fuzz_request's business
  }
  if (endpoint == Endpoint::completions && request.prompts.size() > 1) return;
  const int n = request.params.n;
  const std::vector<int32_t> prompt = submitted[0].spec.prompt;
  std::vector<Told> told(static_cast<size_t>(n));
  for (Told& t : told) t.bytes = open_bytes(prompt);

  // Text that comes later than its bytes can be found to stop later, too.
  const auto stops = kind == fuzz::Kind::window ? std::vector<std::string>() : request.stop;
  Stream stream;
  Script script(request, parts[1]);
  const auto send = [&](int choice, const SequenceEvent& event) {
    Told& t = told[static_cast<size_t>(choice)];
    if (t.finish != FinishReason::none) return;
    submitted[static_cast<size_t>(choice)].sink(event);
    submitted[static_cast<size_t>(n + choice)].sink(event);
    hear(t, event, stops);
  };
  std::vector<bool> has_begun(static_cast<size_t>(n));
  for (int i = 0; i < kMaxEvents && !script.is_over(); ++i) {
    const int choice = script.choice(n);
    SequenceEvent event = script.event(submitted[static_cast<size_t>(choice)].spec);
    if (has_begun[static_cast<size_t>(choice)]) event.prompt_logprobs.clear();
    has_begun[static_cast<size_t>(choice)] = true;
    send(choice, event);
    if (script.wants_poll()) hear_events(stream, streamed->poll_events(64), endpoint == Endpoint::chat);
  }
  for (int c = 0; c < n; ++c) send(c, {.token = {}, .finish = FinishReason::length, .error = {}});
  for (std::string more; !(more = streamed->poll_events(64)).empty();)
    hear_events(stream, more, endpoint == Endpoint::chat);
  Json whole;
  try {
    collected->collect();
    whole = parse_strictly(dump(collected->whole()));
  } catch (const ApiError& e) {
    FUZZ_CHECK(e.status() == 500 && !collected->error().empty());
  }
  FUZZ_CHECK(streamed->is_finished() && collected->is_finished());
  const auto* text = request.prompts.empty() ? nullptr : std::get_if<std::string>(&request.prompts[0]);
  const std::string echo = !request.echo ? "" : text != nullptr ? *text : fuzz::served().tokenizer().decode(prompt);
  check_answer(request, kind, stream, whole, told, echo);
}

}  // namespace
}  // namespace comet::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comet::server::run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
