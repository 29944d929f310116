// SPDX-License-Identifier: Apache-2.0
// What the routes do, without sockets.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "frontend/generation.h"
#include "server/completion_request.h"
#include "server/completion_response.h"
#include "server/metrics.h"
#include "server/options.h"

namespace comet::server {

// A loaded model; everything outlives the server.
struct ServedModel {
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
  const ChatTemplate* chat_template = nullptr;  // may be null
  int vocab_size = 0;
  int max_sequences = 0;           // that run at once
  std::vector<std::string> names;  // that clients may ask for; the first one is shown
  SamplingDefaults defaults;
};

class Service;

// One request that the engine works on. Any one thread at a time; only on_event comes from elsewhere.
class ActiveCompletion {
 public:
  // Tokenizes and submits. Throws ApiError. client: only requests of the same one share KV.
  ActiveCompletion(Service& service, CompletionRequest request, const std::string& client, const std::string& id,
                   std::function<void()> on_event);
  ~ActiveCompletion();
  ActiveCompletion(const ActiveCompletion&) = delete;
  ActiveCompletion& operator=(const ActiveCompletion&) = delete;

  // Streaming: the events that can be told now, about as many bytes as `most`; with the last of them also the closing
  // ones. "" when there is nothing new.
  std::string poll_events(size_t most);
  // Not streaming: takes in what there is; then, once is_finished(), the answer. Throws ApiError for one that failed.
  void collect();
  Json whole() const { return response_.whole(usage_); }

  bool is_streaming() const { return request_.stream; }
  bool is_finished() const { return num_open_ == 0; }
  // Ends everything at the engine's next step; what is finished stays so.
  void cancel();
  // Streaming: the last events of a stream that the server itself ends.
  std::string closing_events(const ApiError& why) const;
  // Not empty: what a choice failed with, for clients.
  const std::string& error() const { return error_; }
  const Usage& usage() const { return usage_; }
  const char* finish_reason() const { return to_string(finish_); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Part {  // one prompt
    std::unique_ptr<Generation> generation;
    std::vector<Clock::time_point> last_token;  // of each choice
    std::string echoed;
    bool is_thinking;  // the prompt ends with <think>
  };

  template <typename Take>
  bool take_deltas(const Take& take);
  void note(Part& part, const TextDelta& delta);
  void begin_choice(const Part& part, int index);

  Service* service_;
  CompletionRequest request_;
  CompletionResponse response_;
  Clock::time_point start_ = Clock::now();
  std::vector<Part> parts_;
  Usage usage_;
  int num_reserved_ = 0, num_open_ = 0;
  std::vector<bool> has_begun_;  // of each choice
  bool is_closed_ = false;
  std::string error_;
  FinishReason finish_ = FinishReason::none;
};

class Service {
 public:
  enum class State { loading, ready, draining, failed };

  Service(const ServerOptions& options, std::string version) : options_(options), version_(std::move(version)) {}

  // Before it, everything that needs a model is 503. Once.
  void set_model(ServedModel model);
  void set_state(State state) { state_ = state; }
  State state() const;
  // Not empty: why the engine stopped, in whatever state.
  std::string failure() const { return model_.engine == nullptr ? std::string() : model_.engine->failure(); }
  int num_open() const { return num_open_; }  // accepted choices that have not ended

  // Throws ApiError 503 unless new requests are taken, 404 for another model's name.
  const ServedModel& model_for_request(const std::string& name) const;
  Json models() const;
  // Of one of the names. Throws ApiError 404 for another.
  Json model(const std::string& name) const;
  Json version() const { return {{"version", version_}}; }
  Json load() const { return {{"server_load", num_open()}}; }
  Json tokenize(const Json& body) const;
  Json detokenize(const Json& body) const;
  std::string metrics_text() const;
  Metrics* metrics() { return metrics_.get(); }  // null while loading

 private:
  friend class ActiveCompletion;

  // Counts choices in. Throws ApiError 503 when the queue is full.
  void reserve(int num_choices);

  const ServerOptions& options_;
  std::string version_;
  ServedModel model_;
  int64_t created_ = 0;
  std::unique_ptr<Metrics> metrics_;
  std::atomic<State> state_{State::loading};
  std::atomic<int> num_open_{0};
};

Json tokenize_schema();
Json detokenize_schema();

}  // namespace comet::server
