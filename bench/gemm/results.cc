// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "bench/gemm/summary.h"

namespace comet::gemm_bench {
namespace {

using nlohmann::json;

double rounded(double v) { return std::round(v * 1e4) / 1e4; }

json to_json(const Point& p) {
  json row = {{"shape", p.shape},    {"m", p.m},     {"n", p.n},      {"k", p.k}, {"share4", p.share4},
              {"us", rounded(p.us)}, {"mhz", p.mhz}, {"plan", p.plan}};
  if (p.stream_us > 0) row["stream_us"] = rounded(p.stream_us);
  if (p.fused_move_us > 0) row["fused_move_us"] = rounded(p.fused_move_us);
  for (const auto& [kind, b] : p.beside)
    row[kind] = {{"us", rounded(b.us)},
                 {"ours_us", rounded(b.ours_us)},
                 {"speedup", rounded(b.speedup())},
                 {"mhz", b.mhz},
                 {"ours_mhz", b.ours_mhz}};
  if (p.num_wrong > 0) row["wrong"] = p.num_wrong;
  if (!p.notes.empty()) row["notes"] = p.notes;
  if (!p.sweep.is_null()) row["sweep"] = p.sweep;
  return row;
}

double positive(const json& row, const char* key) {
  const double v = row.at(key).get<double>();
  if (!(v > 0) || !std::isfinite(v)) throw InvalidInput(fmt::format("{} is {}, expected above 0", key, v));
  return v;
}

Point point_of(const json& row, int share4) {
  Point p;
  p.shape = row.at("shape").get<std::string>();
  p.m = row.at("m"), p.n = row.at("n"), p.k = row.at("k");
  p.share4 = row.value("share4", share4);
  p.us = positive(row, "us");
  p.mhz = row.value("mhz", 0.0);
  p.stream_us = row.value("stream_us", 0.0);
  p.fused_move_us = row.value("fused_move_us", 0.0);
  p.plan = row.value("plan", "");
  for (const char* kind : kKinds) {
    if (!row.contains(kind)) continue;
    const json& b = row.at(kind);
    p.beside[kind] = {positive(b, "us"), positive(b, "ours_us"), b.value("mhz", 0.0), b.value("ours_mhz", 0.0)};
  }
  p.num_wrong = row.value("wrong", 0);
  p.notes = row.value("notes", std::vector<std::string>{});
  if (row.contains("sweep")) p.sweep = row.at("sweep");
  return p;
}

}  // namespace

const Point* Results::find(const Point& like) const {
  const auto it = std::find_if(points.begin(), points.end(), [&](const Point& p) { return p.is_same(like); });
  return it == points.end() ? nullptr : &*it;
}

int64_t Results::num_wrong() const {
  int64_t sum = 0;
  for (const Point& p : points) sum += p.num_wrong;
  return sum;
}

double Results::floor_us(const Point& p) const {
  if (machine.copy_tb_per_s <= 0 || machine.int8_tops <= 0) return 0;
  const double m = p.m, n = p.n, k = p.k;
  // 4-bit weights with a byte of parameters a group, 8-bit activations, bf16 outputs.
  const double bytes = n * k / 2 + n * k / 128 + m * k + 2 * m * n;
  return std::max(bytes / machine.copy_tb_per_s, 2 * m * n * k / machine.int8_tops) / 1e6;
}

std::string to_text(const Results& results) {
  const Machine& m = results.machine;
  json head = {{"gpu", m.gpu},
               {"sms", m.sms},
               {"cuda_driver", m.cuda_driver},
               {"driver", m.driver},
               {"copy_tb_per_s", rounded(m.copy_tb_per_s)},
               {"int8_tops", rounded(m.int8_tops)},
               {"settings", results.settings},
               {"commands", results.commands},
               {"wrong", results.num_wrong()},
               {"means", json::array()}};
  for (const LoopRate& l : m.loops)
    head["loops"].push_back({{"tile_m", l.tile_m},
                             {"sides", l.sides},
                             {"clocks", rounded(l.clocks)},
                             {"tops", rounded(l.tops)},
                             {"mhz", l.mhz},
                             {"share", rounded(l.share())}});
  for (const Mean& mean : all_means(results))
    head["means"].push_back({{"share4", mean.share4},
                             {"beside", mean.kind},
                             {"range", mean.range},
                             {"mean", rounded(mean.mean)},
                             {"least", rounded(mean.least)},
                             {"points", mean.num_points}});
  std::string out = "{\n";
  for (const auto& [key, value] : head.items()) {
    out += fmt::format(" \"{}\": ", key);
    if (key != "means" || value.empty()) {
      out += value.dump() + ",\n";
      continue;
    }
    for (size_t i = 0; i < value.size(); ++i) out += (i == 0 ? "[\n  " : ",\n  ") + value[i].dump();
    out += "\n ],\n";
  }
  out += " \"rows\": [";
  for (size_t i = 0; i < results.points.size(); ++i)
    out += (i == 0 ? "\n  " : ",\n  ") + to_json(results.points[i]).dump();
  return out + "\n ]\n}\n";
}

Results parse_results(const std::string& text, const std::string& file) {
  try {
    const json all = json::parse(text);
    Results r;
    r.machine.gpu = all.at("gpu");
    r.machine.sms = all.at("sms");
    r.machine.cuda_driver = all.value("cuda_driver", 0);
    r.machine.driver = all.value("driver", "");
    r.machine.copy_tb_per_s = all.value("copy_tb_per_s", 0.0);
    r.machine.int8_tops = all.value("int8_tops", 0.0);
    for (const json& l : all.value("loops", json::array()))
      r.machine.loops.push_back(
          {l.at("tile_m"), l.at("sides"), positive(l, "clocks"), positive(l, "tops"), l.at("mhz")});
    r.settings = all.value("settings", json::object());
    r.commands = all.value("commands", std::vector<std::string>{});
    for (const json& row : all.at("rows")) r.points.push_back(point_of(row, all.value("share4", 0)));
    return r;
  } catch (const std::exception& e) {
    throw InvalidInput(fmt::format("{}: not what comet bench gemm writes: {}", file, e.what()));
  }
}

Results read_results(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  if (!in || !(text << in.rdbuf())) throw InvalidInput(fmt::format("cannot read {}: {}", file, std::strerror(errno)));
  return parse_results(text.str(), file);
}

void write_whole(const std::string& file, const std::string& text) {
  const std::string part = file + ".part";
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw InvalidInput(fmt::format("cannot write {}: {}", part, std::strerror(errno)));
  std::error_code error;
  std::filesystem::rename(part, file, error);
  if (error) throw InvalidInput(fmt::format("cannot write {}: {}", file, error.message()));
}

void check_resumable(const Results& old, const Results& now, const std::string& file) {
  const Machine &a = old.machine, &b = now.machine;
  if (a.gpu != b.gpu || a.sms != b.sms || a.driver != b.driver || a.cuda_driver != b.cuda_driver)
    throw_invalid(
        "--resume: {} was measured on {} with {} SMs, driver {} (CUDA {}); this is {} with {} SMs, driver {} (CUDA {})",
        file, a.gpu, a.sms, a.driver, a.cuda_driver, b.gpu, b.sms, b.driver, b.cuda_driver);
  for (const auto& [key, value] : now.settings.items()) {
    const json before = old.settings.value(key, json());
    if (before != value)
      throw_invalid("--resume: {} was measured with {} = {}, now it is {}", file, key, before.dump(), value.dump());
  }
}

void merge(Results& into, const Results& more, const std::string& file) {
  if (into.points.empty() && into.machine.gpu.empty()) {
    into = more;
    return;
  }
  if (into.machine.gpu != more.machine.gpu || into.machine.sms != more.machine.sms)
    throw_invalid("--from: {} was measured on {} with {} SMs, the files before it on {} with {}", file,
                  more.machine.gpu, more.machine.sms, into.machine.gpu, into.machine.sms);
  for (const Point& p : more.points) {
    const auto it = std::find_if(into.points.begin(), into.points.end(), [&](const Point& q) { return q.is_same(p); });
    if (it == into.points.end())
      into.points.push_back(p);
    else
      *it = p;
  }
  into.commands.insert(into.commands.end(), more.commands.begin(), more.commands.end());
}

}  // namespace comet::gemm_bench
