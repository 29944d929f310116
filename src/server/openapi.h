// SPDX-License-Identifier: Apache-2.0
// The published description of the routes.
#pragma once

#include <string>

#include "server/error.h"

namespace comet::server {

// The OpenAPI 3.1 document of all routes: requests from the parser's own tables, answers as they are made.
// has_keys: the routes that are not public ask for one.
Json openapi_document(const std::string& version, bool has_keys);

}  // namespace comet::server
