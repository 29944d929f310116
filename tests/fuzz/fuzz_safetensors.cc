// SPDX-License-Identifier: Apache-2.0
// Bytes to tensors: one file, or a folder of shards with its index. What is accepted is readable to its last byte and
// comes back the same from the writer.
//
// The first byte of an input says what the rest is:
//   'r'  a file as it is
//   'h'  number of data bytes (one byte), then the header: the length in front is put right
//   's'  parts: the index; then for each shard as many as follow, its file name, and its header as for 'h'
#include <cstring>
#include <optional>

#include "fuzz/fuzz.h"
#include "model/safetensors.h"
#include "text/fixtures.h"

namespace comet {
namespace {

std::string with_length(std::string_view text) {
  const size_t num_data = text.empty() ? 0 : static_cast<uint8_t>(text.front());
  if (!text.empty()) text.remove_prefix(1);
  uint64_t header_bytes = text.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &header_bytes, 8);
  file += text;
  for (size_t i = 0; i < num_data; ++i) file.push_back(static_cast<char>(i));
  return file;
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() < 200 && name != "." && name != ".." && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

std::string bytes_of(const TensorView& view) { return {static_cast<const char*>(view.data), view.bytes()}; }

void check(const Safetensors& read, const TempFolder& folder) {
  std::map<std::string, OwnedTensor> owned;
  size_t total = 0;
  for (const auto& [name, view] : read.tensors()) {
    FUZZ_CHECK(read.has(name) && &read.at(name) == &view);
    FUZZ_CHECK(view.num_elements() >= 0 &&
               view.bytes() == static_cast<size_t>(view.num_elements()) * dtype_bytes(view.dtype));
    FUZZ_CHECK(!to_string(view).empty());
    const std::string bytes = bytes_of(view);
    owned[name] = {view.dtype, view.shape, std::vector<uint8_t>(bytes.begin(), bytes.end())};
    total += bytes.size();
  }
  FUZZ_CHECK(read.total_bytes() == total);
  FUZZ_CHECK(!fuzz::refusal_of([&] { read.at("a tensor that no header has"); }).empty());
  write_safetensors(folder.path() / "copy", owned);
  const Safetensors again = Safetensors::open_file(folder.path() / "copy");
  FUZZ_CHECK(again.tensors().size() == owned.size());
  for (const auto& [name, view] : read.tensors()) {
    const TensorView& copy = again.at(name);
    FUZZ_CHECK(copy.dtype == view.dtype && copy.shape == view.shape && bytes_of(copy) == bytes_of(view), "{}", name);
  }
}

void run(const std::string& input) {
  static const TempFolder folder;
  if (input.empty()) return;
  std::optional<Safetensors> read;
  const std::string text = input.substr(1);
  if (input[0] != 's') {
    folder.write("one", input[0] == 'h' ? with_length(text) : text);
    fuzz::refusal_of([&] { read = Safetensors::open_file(folder.path() / "one"); });
    if (read) check(*read, folder);
    return;
  }
  const TempFolder shards;
  const std::vector<std::string> parts = fuzz::split(text, 7);
  if (!parts[0].empty()) shards.write("model.safetensors.index.json", parts[0]);
  for (size_t i = 1; i + 1 < parts.size(); i += 2)
    if (is_plain_name(parts[i])) shards.write(parts[i], with_length(parts[i + 1]));
  fuzz::refusal_of([&] { read = Safetensors::open_folder(shards.path()); });
  if (read) check(*read, folder);
}

}  // namespace
}  // namespace comet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comet::run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
