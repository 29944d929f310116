// SPDX-License-Identifier: Apache-2.0
// What a program asks of the system for itself.
#pragma once

namespace comet {

// Names the calling thread for top, debuggers and tests; at most 15 characters. Threads that it starts get the name,
// too.
void name_thread(const char* name);

// As many open files as the system allows the process: thousands of connections need as many descriptors.
void raise_descriptor_limit();

}  // namespace comet
