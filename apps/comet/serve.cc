// SPDX-License-Identifier: Apache-2.0
// comet serve: OpenAI's API over HTTP.
#include "comet/serve.h"

#include <fmt/format.h>

#include <fstream>

#include "command.h"
#include "config.h"
#include "console.h"

namespace comet::app {
namespace {

struct Options {
  api::LoadOptions load;
  api::ServeOptions serve;
  std::string key_file, config_file;
  double drain_s = 0, keep_alive_s = 0, header_s = 0, body_s = 0, idle_s = 0, write_s = 0;
  bool quiet = false;
  std::string reasoning_parser = "none", scheduling_policy = "fcfs";
};

// One key a line; empty lines and lines that begin with # are no keys.
void read_keys(const std::string& file, std::vector<std::string>& keys) {
  std::ifstream in(file);
  if (!in) throw UserError(fmt::format("cannot read the key file {}", file));
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty() && line[0] != '#') keys.push_back(line);
  }
  if (keys.empty()) throw UserError(fmt::format("the key file {} has no key", file));
}

int run_serve(Options o) {
  if (!o.key_file.empty()) read_keys(o.key_file, o.serve.api_keys);
  o.serve.obeys_priority = o.scheduling_policy == "priority";
  o.serve.splits_reasoning = o.reasoning_parser == "think";
  o.serve.drain_timeout = api::Seconds(o.drain_s);
  o.serve.keep_alive_interval = api::Seconds(o.keep_alive_s);
  o.serve.header_timeout = api::Seconds(o.header_s);
  o.serve.body_timeout = api::Seconds(o.body_s);
  o.serve.idle_timeout = api::Seconds(o.idle_s);
  o.serve.write_timeout = api::Seconds(o.write_s);
  check_memory(o.load, o.quiet);
  ProgressBar bar("loading", o.quiet);
  api::serve(
      o.load, o.serve,
      [&](const std::string& url) {
        fmt::print("listening on {}\n", url);
        std::fflush(stdout);
      },
      [&](const api::ModelInfo& info) {
        if (o.quiet) return;
        fmt::print(stderr, "{} {} {} on {}, context {}, {} packed weights\n", info.architecture, info.scheme, info.kv,
                   info.backend, info.context, human_bytes(static_cast<double>(info.weight_bytes)));
        if (info.scheme == "bf16" || info.scheme == "f16" || info.scheme == "f32")
          fmt::print(stderr, "not quantized: `comet quantize {} -o OUT` makes it smaller and faster\n", o.load.model);
      },
      [&](int done, int total) { bar.update(done, total); });
  return 0;
}

}  // namespace

void add_serve(CLI::App& app, Run& run) {
  auto o = std::make_shared<Options>();
  o->load.max_batch_seqs = 64;
  api::ServeOptions& s = o->serve;
  o->drain_s = s.drain_timeout.count();
  o->keep_alive_s = s.keep_alive_interval.count();
  o->header_s = s.header_timeout.count();
  o->body_s = s.body_timeout.count();
  o->idle_s = s.idle_timeout.count();
  o->write_s = s.write_timeout.count();
  CLI::App* c = app.add_subcommand("serve", "Serve a model over HTTP with OpenAI's API");
  add_model_options(*c, o->load);
  c->add_option("--config", o->config_file,
                "YAML file with these options, `port: 8000`; COMET_PORT=8000 counts before it, --port before both")
      ->envname("COMET_CONFIG");
  c->add_option("--host", s.host, "Address to listen on; beyond loopback it needs keys or --no-auth");
  c->add_option("--port", s.port, "Port; 0: any free one");
  c->add_option("--served-model-name", s.model_names, "Names that clients may ask for (default: the folder's)");
  c->add_option("--api-key", s.api_keys, "Key that requests must carry (better: --api-key-file or COMET_API_KEY)");
  c->add_option("--api-key-file", o->key_file, "File with one key a line");
  c->add_flag("--no-auth", s.no_auth, "Serve everybody who can reach the address");
  c->add_option("--allowed-host", s.allowed_hosts, "Host header to take besides localhost, without keys");
  c->add_option("--cors-origin", s.cors_origins, "Origin whose pages may call; * for all");
  c->add_option("--tls-cert", s.tls_cert, "Certificate chain, PEM");
  c->add_option("--tls-key", s.tls_key, "Private key, PEM");
  c->add_option("--chat-template", o->load.chat_template, "Jinja template file, instead of the model's own");
  c->add_option("--reasoning-parser", o->reasoning_parser,
                "think: what stands between <think> and </think> becomes reasoning_content")
      ->check(CLI::IsMember({"none", "think"}))
      ->capture_default_str();
  c->add_option("--scheduling-policy", o->scheduling_policy,
                "fcfs; priority: requests may carry one, and any client can then overtake the others")
      ->check(CLI::IsMember({"fcfs", "priority"}))
      ->capture_default_str();
  c->add_option("--max-queue", s.max_queue, "Requests that may wait beside those that run; more get a 503")
      ->check(CLI::NonNegativeNumber);
  c->add_option("--max-connections", s.max_connections, "Open connections")->check(CLI::PositiveNumber);
  c->add_option("--max-header", s.max_header_bytes, "Largest request header")->transform(CLI::AsSizeValue(false));
  c->add_option("--max-body", s.max_body_bytes, "Largest request body")->transform(CLI::AsSizeValue(false));
  c->add_option("--rate-limit", s.rate_limit, "Requests a second of one key or address (default: no limit)")
      ->check(CLI::NonNegativeNumber);
  c->add_option("--send-buffer", s.send_buffer, "Bytes that a client may leave unread in the kernel")
      ->transform(CLI::AsSizeValue(false));
  c->add_option("--header-timeout", o->header_s, "Seconds for a request's header")->check(CLI::PositiveNumber);
  c->add_option("--body-timeout", o->body_s, "Seconds for a request's body")->check(CLI::PositiveNumber);
  c->add_option("--idle-timeout", o->idle_s, "Seconds that a connection may say nothing")->check(CLI::PositiveNumber);
  c->add_option("--write-timeout", o->write_s, "Seconds until a client that reads nothing is cut off")
      ->check(CLI::PositiveNumber);
  c->add_option("--keep-alive", o->keep_alive_s, "Seconds between comments in a stream that has nothing to say")
      ->check(CLI::PositiveNumber);
  c->add_option("--drain-timeout", o->drain_s, "Seconds for open requests after SIGTERM")
      ->check(CLI::NonNegativeNumber);
  c->add_option("--metrics-prefix", s.metrics_prefix, "Of the metrics' names; vllm fits dashboards made for vLLM");
  c->add_option("--log-file", s.log_file, "Append JSON lines to this file instead of standard error");
  c->add_flag("!--no-request-log", s.log_requests, "Log events only");
  c->add_flag("--check-integrity", o->load.check_integrity,
              "Check the engine's bookkeeping after every step; an error ends the program (for tests)");
  c->add_flag("-q,--quiet", o->quiet, "No progress");
  add_load_options(*c, o->load);
  c->footer(
      "Examples:\n  comet serve out/gutenberg-15m-w4ax\n"
      "  COMET_API_KEY=... comet serve out/llama --host 0.0.0.0 --port 8000 --max-model-len 8192\n"
      "  comet serve --config serve.yaml");
  c->callback([o, c, &run] {
    apply_config(*c, o->config_file);
    require_model(o->load);
    run = [o] { return run_serve(*o); };
  });
}

}  // namespace comet::app
