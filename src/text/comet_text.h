// SPDX-License-Identifier: Apache-2.0
// The C functions of the Rust crate in rust/ (tokenizers, minijinja); only this folder's .cc files use them.
//
// Functions that return int give 0 and their result in `answer`, or 1 and a message there; either way `answer` is freed
// with comet_text_free. No Rust panic comes through. Views are copied and may hold anything. The work runs on a thread
// of its own with limited memory, time and stack, since tokenizer.json and templates are untrusted; going past a limit
// is an error like any other (that thread then sleeps for good with the memory it has; after 16 of these every call
// fails).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CometTextTokenizer CometTextTokenizer;

typedef struct {
  const char* data;
  size_t size;  // bytes
} CometTextView;

typedef struct {
  char* data;
  size_t size;  // bytes
} CometTextBuffer;

// json: a tokenizer.json. added: JSON array of added tokens in its form, added where it lacks them.
// answer: the token table; integers are u32, little endian, and S is a size in bytes and that many bytes:
//   S (the decoder as JSON), then for each token, in no order: id, flags (1 added, 2 special), S (its text in the
//   vocabulary)
int comet_text_create(CometTextView json, CometTextView added, CometTextTokenizer** tokenizer, CometTextBuffer* answer);
void comet_text_destroy(const CometTextTokenizer* tokenizer);

// answer: u32 ids. Invalid UTF-8 in text is read as U+FFFD.
int comet_text_encode(const CometTextTokenizer* tokenizer, CometTextView text, bool add_special,
                      CometTextBuffer* answer);

// ids: u32 each; those that are no token are left out. answer: UTF-8.
int comet_text_decode(const CometTextTokenizer* tokenizer, CometTextView ids, bool skip_special,
                      CometTextBuffer* answer);

// strftime(3) of the local time now into out; 0 where it does not fit. Called on any thread.
typedef size_t (*CometTextClock)(const char* format, char* out, size_t capacity);

// source: a Jinja template. context: a JSON object with its variables; empty: the template is only parsed.
// clock: not null. answer: at most max_output bytes of UTF-8.
int comet_text_render(CometTextView source, CometTextView context, CometTextClock clock, size_t max_output,
                      CometTextBuffer* answer);

void comet_text_free(CometTextBuffer buffer);

#ifdef __cplusplus
}
#endif
