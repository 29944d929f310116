// SPDX-License-Identifier: Apache-2.0
// comet complete: continues a text, or a file of them.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <deque>
#include <fstream>
#include <nlohmann/json.hpp>

#include "command.h"
#include "console.h"

namespace comet::app {
namespace {

using nlohmann::json;

struct CompleteOptions {
  api::LoadOptions load;
  SamplingOptions sampling;
  std::string prompt, file, batch, output = "-";
  bool as_json = false, quiet = false, echo = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int complete_one(const CompleteOptions& o, const api::Sampling& sampling, const std::string& prompt) {
  const std::unique_ptr<api::LanguageModel> model = load_model(o.load, o.quiet || o.as_json);
  const auto start = std::chrono::steady_clock::now();
  const std::unique_ptr<api::Answer> answer = model->submit({.text = prompt, .ids = {}, .messages_json = {}}, sampling);
  if (o.echo && !o.as_json) fmt::print("{}", prompt);
  std::string text;
  api::Delta last;
  double first_token = 0.0;
  while (std::optional<api::Delta> delta = answer->next()) {
    if (text.empty() && !delta->text.empty()) first_token = seconds_since(start);
    text += delta->text;
    if (!o.as_json) {
      fmt::print("{}", delta->text);
      std::fflush(stdout);
    }
    last = std::move(*delta);
  }
  if (!o.as_json) fmt::print("\n");
  if (last.finish == "error") throw UserError(last.error);
  const double seconds = seconds_since(start);
  if (o.as_json) {
    const json line = {{"text", text},
                       {"finish_reason", last.finish},
                       {"prompt_tokens", last.num_prompt},
                       {"completion_tokens", last.num_output},
                       {"ids", answer->output_ids(0)},
                       {"seconds", seconds},
                       {"seconds_to_first_token", first_token}};
    fmt::print("{}\n", line.dump(-1, ' ', false, json::error_handler_t::replace));
  } else if (!o.quiet) {
    fmt::print(stderr, "{} prompt tokens, {} generated, {:.1f} tokens/s\n", last.num_prompt, last.num_output,
               last.num_output / seconds);
  }
  return 0;
}

// Fields of a batch line that override the command line's sampling.
api::Sampling line_sampling(const json& line, api::Sampling s) {
  for (const auto& [key, value] : line.items()) {
    if (key == "prompt" || key == "id" || key == "messages") continue;
    if (key == "max_tokens")
      s.max_tokens = value.get<int>();
    else if (key == "temperature")
      s.temperature = value.get<double>();
    else if (key == "top_p")
      s.top_p = value.get<double>();
    else if (key == "top_k")
      s.top_k = value.get<int>();
    else if (key == "min_p")
      s.min_p = value.get<double>();
    else if (key == "seed")
      s.seed = value.get<uint64_t>();
    else if (key == "n")
      s.n = value.get<int>();
    else if (key == "logprobs")
      s.logprobs = value.get<int>();
    else if (key == "ignore_eos")
      s.ignore_eos = value.get<bool>();
    else if (key == "stop")
      s.stop = value.is_string() ? std::vector<std::string>{value.get<std::string>()}
                                 : value.get<std::vector<std::string>>();
    else
      throw std::invalid_argument(
          fmt::format("unknown key \"{}\" (prompt, messages, id, max_tokens, temperature, top_p, top_k, min_p, seed, "
                      "n, logprobs, ignore_eos, stop)",
                      key));
  }
  return s;
}

// One line in, one JSON object out, also for what went wrong.
json run_line(api::LanguageModel& model, const std::string& text, const api::Sampling& defaults, size_t number,
              std::unique_ptr<api::Answer>& answer) {
  json out = {{"index", number}};
  try {
    const json line = json::parse(text);
    if (!line.is_object() || (!line.contains("prompt") && !line.contains("messages")))
      throw std::invalid_argument("expected an object with \"prompt\" or \"messages\"");
    if (line.contains("id")) out["id"] = line["id"];
    api::Prompt prompt;
    if (line.contains("messages"))
      prompt.messages_json = line["messages"].dump();
    else if (line["prompt"].is_array())
      prompt.ids = line["prompt"].get<std::vector<int32_t>>();
    else
      prompt.text = line["prompt"].get<std::string>();
    answer = model.submit(prompt, line_sampling(line, defaults));
  } catch (const std::exception& e) {
    out["error"] = e.what();
  }
  return out;
}

void collect(api::Answer& answer, json& out) {
  std::vector<json> choices;
  while (std::optional<api::Delta> delta = answer.next()) {
    while (choices.size() <= static_cast<size_t>(delta->choice)) choices.push_back({{"text", ""}});
    json& choice = choices[static_cast<size_t>(delta->choice)];
    choice["text"] = choice["text"].get<std::string>() + delta->text;
    if (!delta->logprobs_json.empty())
      for (const json& entry : json::parse(delta->logprobs_json)) choice["logprobs"].push_back(entry);
    if (delta->finish.empty()) continue;
    choice["finish_reason"] = delta->finish;
    if (!delta->error.empty()) choice["error"] = delta->error;
    out["prompt_tokens"] = delta->num_prompt;
    choice["completion_tokens"] = delta->num_output;
  }
  if (choices.size() == 1) {
    for (const auto& [key, value] : choices[0].items()) out[key] = value;
  } else {
    out["choices"] = choices;
  }
}

int complete_batch(const CompleteOptions& o, const api::Sampling& sampling) {
  std::vector<std::string> lines;
  std::istringstream in(read_text(o.batch));
  for (std::string line; std::getline(in, line);)
    if (line.find_first_not_of(" \t\r") != std::string::npos) lines.push_back(line);
  const std::unique_ptr<api::LanguageModel> model = load_model(o.load, o.quiet);
  std::ofstream file;
  if (o.output != "-") {
    file.open(o.output, std::ios::trunc);
    if (!file) throw UserError(fmt::format("cannot write {}", o.output));
  }
  // A window of requests is in flight; results are written in the order of the lines.
  const size_t in_flight = static_cast<size_t>(o.load.max_batch_seqs) * 2;
  struct Pending {
    json out;
    std::unique_ptr<api::Answer> answer;
  };
  std::deque<Pending> window;
  ProgressBar bar("completing", o.quiet);
  const auto start = std::chrono::steady_clock::now();
  size_t submitted = 0, failed = 0;
  int64_t generated = 0;
  for (size_t done = 0; done < lines.size(); ++done) {
    while (submitted < lines.size() && window.size() < in_flight) {
      Pending p;
      p.out = run_line(*model, lines[submitted], sampling, submitted, p.answer);
      window.push_back(std::move(p));
      ++submitted;
    }
    Pending p = std::move(window.front());
    window.pop_front();
    if (p.answer) collect(*p.answer, p.out);
    if (p.out.contains("error")) ++failed;
    generated += p.out.value("completion_tokens", 0);
    const std::string text = p.out.dump(-1, ' ', false, json::error_handler_t::replace);
    if (file.is_open()) {
      file << text << '\n';
      if (!file.flush()) throw UserError(fmt::format("cannot write {}", o.output));
    } else {
      fmt::print("{}\n", text);
    }
    bar.update(static_cast<int>(done + 1), static_cast<int>(lines.size()),
               fmt::format("{:.0f} tokens/s", static_cast<double>(generated) / seconds_since(start)));
  }
  const double seconds = seconds_since(start);
  if (!o.quiet)
    fmt::print(stderr, "{} lines, {} tokens generated in {:.3f} s, {:.1f} tokens/s\n", lines.size(), generated, seconds,
               static_cast<double>(generated) / seconds);
  if (failed > 0) fmt::print(stderr, "{} of {} lines failed; their output has \"error\"\n", failed, lines.size());
  return failed > 0 ? 1 : 0;
}

}  // namespace

void add_complete(CLI::App& app, Run& run) {
  auto o = std::make_shared<CompleteOptions>();
  CLI::App* c = app.add_subcommand("complete", "Continue a text");
  add_model_options(*c, o->load);
  auto* prompt = c->add_option("-p,--prompt", o->prompt, "The text to continue");
  auto* file = c->add_option("-f,--file", o->file, "Read the text from a file")->excludes(prompt);
  c->add_option("--batch", o->batch, "JSONL in, one {\"prompt\": ..} a line; JSONL out in the same order")
      ->excludes(prompt)
      ->excludes(file);
  c->add_option("-o,--output", o->output, "With --batch: write here instead of standard output");
  add_sampling_options(*c, o->sampling);
  add_load_options(*c, o->load);
  c->add_flag("--echo", o->echo, "Print the prompt, too");
  c->add_flag("--json", o->as_json, "One JSON object instead of text");
  c->add_flag("-q,--quiet", o->quiet, "No progress, no statistics");
  c->footer(
      "Examples:\n  comet complete models/gutenberg-15m -p 'It was a dark night' --max-tokens 64 --temp 0\n"
      "  comet complete MODEL -f story.txt --temp 0.8 --top-p 0.95 --seed 7\n  comet complete MODEL --batch "
      "prompts.jsonl -o answers.jsonl --max-tokens 128");
  c->callback([o, c, prompt, &run] {
    require_model(o->load);
    run = [o, c, prompt] {
      const api::Sampling sampling = resolve(*c, o->sampling);
      if (!o->batch.empty()) return complete_batch(*o, sampling);
      const std::string text = prompt->count() > 0 ? o->prompt : read_text(o->file.empty() ? "-" : o->file);
      return complete_one(*o, sampling, text);
    };
  });
}

}  // namespace comet::app
