// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comet/serve.h"

namespace comet::server {

using ServerOptions = api::ServeOptions;
using api::Seconds;

}  // namespace comet::server
