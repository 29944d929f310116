// SPDX-License-Identifier: Apache-2.0
#include "fuzz/served_model.h"

#include <iterator>

#include "fuzz/fuzz.h"

namespace comet::fuzz {
namespace {

constexpr int kPaddedVocab = 280;

// Pieces that stop strings, tags and characters of several bytes are made of, between the 256 bytes and the added
// tokens.
const char* const kPieces[] = {"<think>",          "</think>", "</th",  "ink>",     "\n\n",
                               "data: ",           "[DONE]",   " stop", "\xe2\x82", "\xac!",
                               "\xf0\x9f\x98\x80", "\"}\n"};

// GPT-2's alphabet, as the fixtures use it.
std::string alphabet_text(const std::string& bytes) {
  std::string out;
  const Json vocab = byte_level_json()["model"]["vocab"];
  for (const char c : bytes)
    for (const auto& [character, id] : vocab.items())
      if (id == static_cast<unsigned char>(c)) out += character;
  return out;
}

Tokenizer make(Kind kind) {
  Json json = byte_level_json();
  if (kind == Kind::window) {
    const Json byte_level = json["decoder"];
    json["decoder"] = {{"type", "Sequence"}, {"decoders", {byte_level, {{"type", "Fuse"}}}}};
  }
  int id = 256;
  for (const char* piece : kPieces) json["model"]["vocab"][alphabet_text(piece)] = id++;
  for (Json& added : json["added_tokens"]) added["id"] = id++;  // as the tokenizer would have it
  TokenizerConfig config;
  config.special_tokens = {{"bos_token", "<|begin|>"}, {"eos_token", "<|end|>"}};
  config.chat_templates["default"] = {
      "fuzz",
      "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.name %}({{ m.name | trim }}){% endif "
      "%}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>\n{% endif %}{% endif "
      "%}"};
  return make_tokenizer(json, config);
}

ModelConfig model_config() {
  ModelConfig c;
  c.architecture = "LlamaForCausalLM";
  c.hidden_size = c.intermediate_size = c.head_dim = kGroup;
  c.num_layers = c.num_heads = c.num_kv_heads = 1;
  c.vocab_size = kPaddedVocab;
  c.max_positions = kContext;
  c.eos_ids = {256 + static_cast<int>(std::size(kPieces)) + 1};
  return c;
}

}  // namespace

Served::Served(Kind kind)
    : tokenizer_(make(kind)),
      chat_template_(tokenizer_.config()),
      model_(*backend_, Checkpoint::dummy(model_config(), 1), {.max_batch_tokens = 16, .max_logit_rows = 8}),
      engine_(model_, {.max_batch_tokens = 16, .max_batch_seqs = 4}) {
  FUZZ_CHECK(tokenizer_.num_ids() == 256 + static_cast<int>(std::size(kPieces)) + 3, "two tokens share an id");
  options_.splits_reasoning = kind == Kind::reasoning;
  service_ = std::make_unique<server::Service>(options_, "fuzz");
  service_->set_model({.engine = &engine_,
                       .tokenizer = &tokenizer_,
                       .chat_template = &chat_template_,
                       .vocab_size = kPaddedVocab,
                       .max_sequences = 4,
                       .names = {"m", "m2"},
                       .defaults = {}});
}

Served& served(Kind kind) {
  static Served all[] = {Served(Kind::plain), Served(Kind::reasoning), Served(Kind::window)};
  return all[static_cast<size_t>(kind)];
}

}  // namespace comet::fuzz
