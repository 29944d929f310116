// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/check.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr size_t kMaxHeaderBytes = size_t{100} << 20;

std::optional<DType> dtype_of(const std::string& name) {
  if (name == "F32") return DType::f32;
  if (name == "BF16") return DType::bf16;
  if (name == "F16") return DType::f16;
  if (name == "I32") return DType::i32;
  if (name == "U8") return DType::u8;
  if (name == "I8") return DType::i8;
  if (name == "I64") return DType::i64;
  if (name == "BOOL") return DType::boolean;
  return std::nullopt;
}

// Parses JSON and refuses duplicate keys: the second one would silently win.
json parse_header(const std::string& text, const std::string& file) {
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      duplicate = value.get<std::string>();
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& e) {
    throw_invalid("{}: the safetensors header is not valid JSON: {}", file, e.what());
  }
  if (!duplicate.empty()) throw_invalid("{}: the safetensors header has the key \"{}\" twice", file, duplicate);
  if (!header.is_object()) throw_invalid("{}: the safetensors header is not a JSON object", file);
  return header;
}

struct Range {
  uint64_t begin, end;
  std::string name;
};

// One header entry -> view; offsets are checked against the data's size and against shape and dtype.
TensorView parse_entry(const std::string& name, const json& entry, const uint8_t* data, uint64_t data_bytes,
                       const std::string& file, std::vector<Range>& ranges) {
  auto fail = [&](const std::string& why) -> void { throw_invalid("{}: tensor \"{}\": {}", file, name, why); };
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
      !entry["shape"].is_array() || !entry.contains("data_offsets") || !entry["data_offsets"].is_array() ||
      entry["data_offsets"].size() != 2)
    fail("the entry must have dtype, shape and data_offsets [begin, end]");
  const std::optional<DType> dtype = dtype_of(entry["dtype"].get<std::string>());
  if (!dtype)
    fail("dtype " + entry["dtype"].get<std::string>() + " is not supported (F32, BF16, F16, I64, I32, I8, U8, BOOL)");
  TensorView view{nullptr, *dtype, {}};
  uint64_t bytes = dtype_bytes(*dtype), extent = bytes;  // extent: as if no dimension were 0
  for (const json& d : entry["shape"]) {
    if (!d.is_number_unsigned()) fail("a dimension is not a non-negative integer");
    const uint64_t size = d.get<uint64_t>();
    if (size > (uint64_t{1} << 40) || __builtin_mul_overflow(extent, std::max<uint64_t>(size, 1), &extent) ||
        extent > INT64_MAX)
      fail("the shape overflows");
    bytes *= size;
    view.shape.push_back(static_cast<int64_t>(size));
  }
  const json& offsets = entry["data_offsets"];
  if (!offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
    fail("data_offsets are not non-negative integers");
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  if (begin > end || end > data_bytes)
    fail(fmt::format("data_offsets [{}, {}] lie outside the file's {} data bytes (is the file truncated?)", begin, end,
                     data_bytes));
  if (end - begin != bytes)
    fail(fmt::format("{} needs {} bytes, data_offsets give {}", to_string(view), bytes, end - begin));
  view.data = data + begin;
  if (end > begin) ranges.push_back({begin, end, name});
  return view;
}

void check_coverage(std::vector<Range>& ranges, uint64_t data_bytes, const std::string& file) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  uint64_t at = 0;
  for (const Range& r : ranges) {
    if (r.begin < at) throw_invalid("{}: tensor \"{}\" overlaps the one before it", file, r.name);
    if (r.begin > at)
      throw_invalid("{}: {} bytes before tensor \"{}\" belong to no tensor", file, r.begin - at, r.name);
    at = r.end;
  }
  if (at != data_bytes) throw_invalid("{}: the last {} bytes belong to no tensor", file, data_bytes - at);
}

}  // namespace

void Safetensors::add_file(const std::filesystem::path& path) {
  files_.push_back(std::make_unique<MappedFile>(path));
  const MappedFile& f = *files_.back();
  const std::string file = path.string();
  if (f.size() < 8) throw_invalid("{}: {} bytes are too few for a safetensors file", file, f.size());
  uint64_t header_bytes;
  memcpy(&header_bytes, f.data(), 8);
  if (header_bytes > kMaxHeaderBytes || header_bytes > f.size() - 8)
    throw_invalid(
        "{}: the header claims {} bytes, the file has {} (truncated, or not safetensors; pickles are never read)", file,
        header_bytes, f.size());
  const json header = parse_header(std::string(reinterpret_cast<const char*>(f.data()) + 8, header_bytes), file);
  const uint8_t* data = f.data() + 8 + header_bytes;
  const uint64_t data_bytes = f.size() - 8 - header_bytes;
  std::vector<Range> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (!tensors_.emplace(name, parse_entry(name, entry, data, data_bytes, file, ranges)).second)
      throw_invalid("{}: tensor \"{}\" is already in another shard", file, name);
  }
  check_coverage(ranges, data_bytes, file);
}

Safetensors Safetensors::open_file(const std::filesystem::path& file) {
  Safetensors s;
  s.where_ = file;
  s.add_file(file);
  return s;
}

Safetensors Safetensors::open_folder(const std::filesystem::path& folder) {
  Safetensors s;
  s.where_ = folder;
  const std::filesystem::path index = folder / "model.safetensors.index.json", single = folder / "model.safetensors";
  if (!std::filesystem::exists(index)) {
    if (!std::filesystem::exists(single))
      throw_invalid("no weights in {}: expected model.safetensors, or model.safetensors.index.json with its shards",
                    folder.string());
    s.add_file(single);
    return s;
  }
  const json parsed = json::parse(read_file(index), nullptr, false);
  if (!parsed.is_object() || !parsed.contains("weight_map") || !parsed["weight_map"].is_object())
    throw_invalid("{}: expected a JSON object with \"weight_map\"", index.string());
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, file] : parsed["weight_map"].items()) {
    if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos)
      throw_invalid("{}: \"{}\" does not map to a file name in this folder", index.string(), tensor);
    shards[file.get<std::string>()].push_back(tensor);
  }
  for (const auto& [file, names] : shards) {
    std::error_code error;  // a name may be longer than names can be
    if (!std::filesystem::exists(folder / file, error))
      throw_invalid("missing shard {}: {} names it for {} tensors, \"{}\" among them", (folder / file).string(),
                    index.string(), names.size(), names.front());
    s.add_file(folder / file);
    for (const std::string& name : names)
      if (!s.has(name))
        throw_invalid("{}: tensor \"{}\" is not in the shard {} that the index names", index.string(), name, file);
  }
  return s;
}

const TensorView& Safetensors::at(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) throw_invalid("{}: tensor \"{}\" is missing", where_.string(), name);
  return it->second;
}

size_t Safetensors::total_bytes() const {
  size_t total = 0;
  for (const auto& [name, view] : tensors_) total += view.bytes();
  return total;
}

}  // namespace comet
