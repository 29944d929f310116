// SPDX-License-Identifier: Apache-2.0
#include "config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <vector>

namespace comet::app {
namespace {

struct Setting {
  std::string source;  // for messages
  std::vector<std::string> values;
};
using Settings = std::map<std::string, Setting>;  // by the option's name
using Options = std::map<std::string, CLI::Option*>;

// "max-queue", "model"; what --config and --help themselves are is no setting.
std::string setting_name(const CLI::Option& option) {
  const std::string name = option.get_lnames().empty() ? option.get_name(true) : option.get_lnames().front();
  return name == "config" || name == "help" || name == "help-all" ? "" : name;
}

std::string variable_name(const std::string& name) {
  std::string variable = "COMET_" + name;
  for (char& c : variable) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return variable;
}

[[noreturn]] void refuse(const std::string& source, const std::string& what) {
  throw CLI::ValidationError(source, what);
}

std::string place(const std::string& file, const YAML::Node& node) {
  return fmt::format("{}:{}", file, node.Mark().line + 1);
}

std::vector<std::string> read_values(const YAML::Node& node, const std::string& source, const std::string& key) {
  if (node.IsScalar()) return {node.Scalar()};
  if (!node.IsSequence()) refuse(source, fmt::format("{} must be a value or a list of values", key));
  std::vector<std::string> values;
  for (const YAML::Node& item : node) {
    if (!item.IsScalar()) refuse(source, fmt::format("the list of {} may have plain values only", key));
    values.push_back(item.Scalar());
  }
  return values;
}

void read_file(const Options& options, const std::string& file, Settings& settings) {
  YAML::Node root;
  try {
    root = YAML::LoadFile(file);
  } catch (const YAML::BadFile&) {
    refuse(file, "cannot be read");
  } catch (const YAML::Exception& e) {
    refuse(fmt::format("{}:{}", file, e.mark.line + 1), e.msg);
  }
  if (root.IsNull()) return;
  if (!root.IsMap()) refuse(file, "must be a mapping from options to values, such as `port: 8000`");
  for (const auto& entry : root) {
    const YAML::Node& key_node = entry.first;
    const std::string source = place(file, key_node);
    if (!key_node.IsScalar()) refuse(source, "a key must be the name of an option");
    std::string key = key_node.Scalar();
    std::replace(key.begin(), key.end(), '_', '-');
    if (options.count(key) == 0)
      refuse(source, fmt::format("there is no option {}; `comet serve --help` lists them", key_node.Scalar()));
    if (!settings.emplace(key, Setting{source, read_values(entry.second, source, key)}).second)
      refuse(source, fmt::format("{} is given twice", key));
  }
}

void read_environment(const Options& options, Settings& settings) {
  for (const auto& [name, option] : options) {
    const std::string variable = variable_name(name);
    const char* value = std::getenv(variable.c_str());
    if (value != nullptr && *value != '\0') settings[name] = {variable, {value}};
  }
}

bool excluded(const CLI::Option& option) {
  const std::set<CLI::Option*> others = option.get_excludes();
  return std::any_of(others.begin(), others.end(), [](const CLI::Option* o) { return o->count() > 0; });
}

void apply(CLI::Option& option, const std::string& name, const Setting& setting) {
  const bool is_flag = option.get_expected_max() == 0;
  if (setting.values.size() > 1 && option.get_items_expected_max() <= 1)
    refuse(setting.source, fmt::format("{} takes one value", name));
  try {
    for (const std::string& value : setting.values)
      option.add_result(is_flag ? option.get_flag_value(name, value) : value);
    option.run_callback();
  } catch (const CLI::ParseError& e) {
    refuse(setting.source, e.what());
  }
}

}  // namespace

void apply_config(CLI::App& command, const std::string& file) {
  Options options;
  for (CLI::Option* option : command.get_options())
    if (const std::string name = setting_name(*option); !name.empty()) options[name] = option;
  Settings from_environment, from_file;
  if (!file.empty()) read_file(options, file, from_file);
  read_environment(options, from_environment);
  for (const Settings& source : {from_environment, from_file})  // what the first one set, the second one leaves alone
    for (const auto& [name, setting] : source) {
      CLI::Option& option = *options.at(name);
      if (option.count() == 0 && !excluded(option)) apply(option, name, setting);
    }
}

}  // namespace comet::app
