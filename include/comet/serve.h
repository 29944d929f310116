// SPDX-License-Identifier: Apache-2.0
// Serving a model over HTTP with OpenAI's API.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comet/comet.h"

namespace comet::api {

using Seconds = std::chrono::duration<double>;

struct ServeOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;                    // 0: any free one
  std::vector<std::string> model_names;    // what clients may ask for; none: the name of the model's folder
  std::vector<std::string> api_keys;       // none: requests need no key
  bool no_auth = false;                    // allows an address beyond loopback without keys
  std::vector<std::string> allowed_hosts;  // Host headers besides loopback's, where there are no keys
  std::vector<std::string> cors_origins;   // none: no page of another origin may call
  std::string tls_cert, tls_key;           // PEM files; both or none
  std::string metrics_prefix = "comet";
  bool obeys_priority = false;    // takes requests' `priority`; else one other than 0 is refused
  bool splits_reasoning = false;  // chat: what stands between <think> and </think> becomes reasoning_content

  size_t max_header_bytes = 16 << 10, max_body_bytes = 32 << 20;
  int max_connections = 4096;
  int max_queue = 1024;           // choices that may wait beside those that run
  double rate_limit = 0;          // requests a second of one key or address; 0: no limit
  size_t send_buffer = 64 << 10;  // bytes of the kernel's buffer of a connection: what a client may leave unread
  Seconds header_timeout{10}, body_timeout{30}, idle_timeout{75};
  Seconds write_timeout{20};        // without a byte taken by the client
  Seconds keep_alive_interval{10};  // of comments in a stream that has nothing to say
  Seconds drain_timeout{30};        // for open requests after SIGTERM
  std::string log_file;             // JSON lines; "": standard error
  bool log_requests = true;
};

// Loads the model and answers requests until SIGTERM or SIGINT; a second signal ends at once. on_listening is told the
// URL when clients can connect (the model may still be loading), on_ready what was loaded. Throws what loading throws,
// and when the engine fails.
void serve(const LoadOptions& load, const ServeOptions& options,
           const std::function<void(const std::string&)>& on_listening,
           const std::function<void(const ModelInfo&)>& on_ready, const LayerProgress& progress = {});

}  // namespace comet::api
