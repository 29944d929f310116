// SPDX-License-Identifier: Apache-2.0
// comet chat: a conversation on a terminal.
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "command.h"
#include "console.h"

namespace comet::app {
namespace {

struct Options {
  api::LoadOptions load;
  SamplingOptions sampling;
  std::string system;
};

volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int) { interrupted = 1; }

// Ctrl-C ends the answer, not the program.
class InterruptGuard {
 public:
  InterruptGuard() {
    interrupted = 0;
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &before_, nullptr); }

 private:
  struct sigaction before_;
};

std::string answer_to(api::LanguageModel& model, const nlohmann::ordered_json& messages,
                      const api::Sampling& sampling) {
  const InterruptGuard guard;
  const auto start = std::chrono::steady_clock::now();
  const std::unique_ptr<api::Answer> answer =
      model.submit({.text = {}, .ids = {}, .messages_json = messages.dump()}, sampling);
  std::string text;
  api::Delta last;
  while (std::optional<api::Delta> delta = answer->next()) {
    fmt::print("{}", delta->text);
    std::fflush(stdout);
    text += delta->text;
    last = std::move(*delta);
    if (interrupted != 0) answer->cancel();
  }
  if (last.finish == "error") throw UserError(last.error);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("\n");
  fmt::print(stderr, "[{} prompt tokens, {} of them in the cache, {} generated, {:.1f} tokens/s{}]\n", last.num_prompt,
             last.num_cached, last.num_output, last.num_output / seconds,
             last.finish == "cancelled" ? ", stopped" : "");
  return text;
}

int run_chat(const Options& o, const api::Sampling& sampling) {
  const std::unique_ptr<api::LanguageModel> model = load_model(o.load, false);
  if (!model->info().has_chat_template)
    throw UserError(fmt::format("{} has no chat template; give one with --chat-template FILE, or use `comet complete`",
                                o.load.model));
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!o.system.empty()) messages.push_back({{"role", "system"}, {"content", o.system}});
  const bool terminal = is_terminal(0);
  if (terminal) fmt::print(stderr, "Type a message; an empty line or Ctrl-D ends. Ctrl-C stops an answer.\n");
  for (std::string line;;) {
    if (terminal) fmt::print("> "), std::fflush(stdout);
    if (!std::getline(std::cin, line) || line.empty()) break;
    messages.push_back({{"role", "user"}, {"content", line}});
    messages.push_back({{"role", "assistant"}, {"content", answer_to(*model, messages, sampling)}});
  }
  return 0;
}

}  // namespace

void add_chat(CLI::App& app, Run& run) {
  auto o = std::make_shared<Options>();
  o->load.max_batch_seqs = 1;
  CLI::App* c = app.add_subcommand("chat", "Talk to a model that has a chat template");
  c->add_option("model", o->load.model, "Model folder, or a name in the Hugging Face cache")->required();
  c->add_option("--system", o->system, "System message");
  c->add_option("--chat-template", o->load.chat_template, "Jinja template file, instead of the model's own");
  add_sampling_options(*c, o->sampling);
  add_load_options(*c, o->load);
  c->footer("Example:\n  comet chat Qwen/Qwen2.5-0.5B-Instruct --temp 0.7 --top-p 0.9");
  c->callback([o, c, &run] { run = [o, c] { return run_chat(*o, resolve(*c, o->sampling)); }; });
}

}  // namespace comet::app
