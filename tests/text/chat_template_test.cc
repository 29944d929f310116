// SPDX-License-Identifier: Apache-2.0
// Templates render as transformers 5.23 with Jinja2 3.1.6 renders them; every expected text comes from there.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>

#include "text/fixtures.h"

namespace comet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const Json kChat = Json::parse(R"([
  {"role": "system", "content": "S"}, {"role": "user", "content": "u"},
  {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"}])");

TokenizerConfig config_with(const std::string& source) {
  TokenizerConfig config;
  config.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  config.chat_templates["default"] = {"test", source};
  return config;
}

std::string render(const std::string& source, const Json& messages = kChat, const Json& variables = Json::object()) {
  return ChatTemplate(config_with(source)).render(messages, true, variables);
}

std::string error_in(const std::string& source, const Json& variables = Json::object()) {
  return error_of([&] { render(source, kChat, variables); });
}

TEST(ChatTemplate, ChatMl) {
  const std::string source =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
      "'\\n'}}"
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  const std::string chat =
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
      "<|im_start|>user\nv<|im_end|>\n";
  EXPECT_EQ(render(source), chat + "<|im_start|>assistant\n");
  EXPECT_EQ(ChatTemplate(config_with(source)).render(kChat, false), chat);
}

TEST(ChatTemplate, BlocksAreTrimmed) {
  EXPECT_EQ(render("a\n  {% if true %}\n    b\n  {% endif %}\nc\n"), "a\n    b\nc");
  EXPECT_EQ(render("{%- for m in messages -%}\n{{ m.role }}\n{%- endfor -%}\n  end  "), "systemuserassistantuserend  ");
  EXPECT_EQ(render("{% generation %}x{% endgeneration %} {%- generation -%} y {%- endgeneration -%} z"), "xyz");
}

TEST(ChatTemplate, ValuesPrintAsInPython) {
  EXPECT_EQ(render("{{ none }} {{ true }} {{ false }} {{ 1 }} {{ 1.0 }} {{ 1e20 }} {{ 0.00001 }} {{ missing }}|"),
            "None True False 1 1.0 1e+20 1e-05 |");
  EXPECT_EQ(render("{{ [1, 'a', none, true, \"it's\"] }} {{ {'a': 1, 'b': [1.5, {'c': none}]} }}"),
            "[1, 'a', None, True, \"it's\"] {'a': 1, 'b': [1.5, {'c': None}]}");
  EXPECT_EQ(render("{{ 7 // 2 }} {{ 7 / 2 }} {{ 4 / 2 }} {{ -5 % 3 }} {{ 2 ** 3 }} {{ 100 * 1.1 }}"),
            "3 3.5 2.0 1 8 110.00000000000001");
  EXPECT_EQ(render("{{ messages | map('tojson') | join(';') }}", Json::parse(R"([{"role": "user"}])")),
            R"({"role": "user"})");
}

TEST(ChatTemplate, ToJsonIsJsonDumps) {
  const Json variables =
      Json::parse(R"({"x": {"zeta": 1, "alpha": [1.5, 1e-7, 1e20, true, null, {}, []], "é<>&'\"": "\u0001\n\u2028"}})");
  EXPECT_EQ(render("{{ x | tojson }}", kChat, variables),
            "{\"zeta\": 1, \"alpha\": [1.5, 1e-07, 1e+20, true, null, {}, []], \"é<>&'\\\"\": \"\\u0001\\n\u2028\"}");
  EXPECT_EQ(render("{{ [1, {'a': []}] | tojson(indent=2) }}"), "[\n  1,\n  {\n    \"a\": []\n  }\n]");
  EXPECT_EQ(render("{{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}"), "[1,{\"a\":2}]");
  EXPECT_EQ(render("{{ 'é' | tojson(ensure_ascii=False) }}"), "\"é\"");
  EXPECT_THAT(error_in("{{ missing | tojson }}"), HasSubstr("cannot be written as JSON"));
}

TEST(ChatTemplate, PythonMethods) {
  EXPECT_EQ(render("{{ ' x '.strip() }}|{{ 'x\\n'.rstrip('\\n') }}|{{ '\\n\\nx'.lstrip('\\n') }}|{{ 'a,b,c'.split(',') "
                   "}}|{{ 'a b'.split()[-1] }}"),
            "x|x|x|['a', 'b', 'c']|b");
  EXPECT_EQ(render("{{ 'abc'.startswith('a') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.replace('b', 'X') }} {{ "
                   "'abc'.upper() }} "
                   "{{ 'hello world'.title() }} {{ 'abc'.find('c') }} {{ 'x'.join(['a', 'b']) }}"),
            "True True aXc ABC Hello World 2 axb");
  EXPECT_EQ(
      render("{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}={{ v }},{% endfor %}{{ {'a': 1}.get('z', 'q') }}"),
      "b=1,a=2,q");
  EXPECT_EQ(render("{{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ messages[::-1] | map(attribute='content') | join('') }}"),
            "bc cba vauS");
}

TEST(ChatTemplate, Statements) {
  EXPECT_EQ(render("{%- set ns = namespace(n=0) -%}{%- for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
                   "{% if loop.index > 3 %}{% break %}{% endif %}{% set ns.n = ns.n + 1 %}{{ loop.previtem.role }}{% "
                   "endfor %}{{ ns.n }}"),
            "systemuser2");
  EXPECT_EQ(render("{% macro f(x, y='d') %}<{{ x }}{{ y }}>{% endmacro %}{{ f(1) }}{{ f(2, y='e') }}"), "<1d><2e>");
  EXPECT_EQ(render("{% set t %}captured {{ bos_token }}{% endset %}{{ t }}{% filter upper %}loud{% endfilter %}"),
            "captured <s>LOUD");
  EXPECT_EQ(render("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | "
                   "rejectattr('role', 'in', ['user']) "
                   "| map(attribute='role') | join(',') }}"),
            "2system,assistant");
}

TEST(ChatTemplate, VariablesThatTransformersSets) {
  EXPECT_EQ(render("{{ tools is none }} {{ documents is none }} {{ tools is defined }} {{ x is defined }} {{ bos_token "
                   "}}{{ eos_token }}"),
            "True True True False <s></s>");
  EXPECT_EQ(render("{{ enable_thinking }}{{ bos_token }}", kChat, {{"enable_thinking", false}, {"bos_token", "!"}}),
            "False!");
  EXPECT_EQ(render("{{ messages | length }}", kChat, {{"messages", "mine"}}), "4");
}

TEST(ChatTemplate, Dates) {
  const auto today = [] {
    char text[64];
    const std::time_t now = std::time(nullptr);
    return std::string(text, std::strftime(text, sizeof text, "%d %b %Y", std::localtime(&now)));
  };
  const std::string before = today(), text = render("{{ strftime_now('%d %b %Y') }}"), after = today();
  EXPECT_TRUE(text == before || text == after) << text;
  EXPECT_THAT(error_in("{{ strftime_now('%999999d') }}"), HasSubstr("strftime_now"));
  EXPECT_THAT(error_in("{{ strftime_now('') }}"), HasSubstr("strftime_now"));
}

TEST(ChatTemplate, OneOfSeveral) {
  TokenizerConfig config = config_with("plain");
  config.chat_templates["tool_use"] = {"test 2", "with tools"};
  const ChatTemplate t(config);
  EXPECT_EQ(t.render(kChat, true), "plain");
  EXPECT_EQ(t.render(kChat, true, {{"tools", nullptr}}), "plain");
  EXPECT_EQ(t.render(kChat, true, {{"tools", Json::array()}}), "with tools");
  EXPECT_EQ(t.source(true), "with tools");
  config.chat_templates.erase("default");
  EXPECT_THAT(error_of([&] { ChatTemplate(config).render(kChat, true); }), HasSubstr("(tool_use)"));
}

TEST(ChatTemplate, FilesAndModelsWithoutOne) {
  const TempFolder folder;
  TokenizerConfig config = config_with("mine");
  folder.write("t.jinja", "{{ bos_token }}from a file");
  EXPECT_EQ(ChatTemplate(config, folder.path() / "t.jinja").render(kChat, true), "<s>from a file");
  EXPECT_THAT(error_of([&] { ChatTemplate(config, folder.path() / "none.jinja"); }),
              HasSubstr("missing " + folder.path().string()));
  config.chat_templates.clear();
  config.folder = "models/m";
  EXPECT_THAT(error_of([&] { ChatTemplate t(config); }),
              AllOf(HasSubstr("models/m"), HasSubstr("--chat-template FILE")));
}

TEST(ChatTemplate, ErrorsNameTemplateAndLine) {
  EXPECT_THAT(error_in("\n\n{{ raise_exception('roles must alternate') }}"),
              AllOf(HasSubstr("chat template test: line 3: roles must alternate")));
  EXPECT_THAT(error_in("a\n{% if %}"), HasSubstr("chat template test: line 2: syntax error"));
  EXPECT_THAT(error_in("a\n{{ nope.nope }}"), HasSubstr("line 2: undefined value"));
  EXPECT_THAT(error_in("{{ 'a' + none }}"), HasSubstr("line 1: "));
  EXPECT_THAT(error_in("{{ 'a'.nope() }}"), HasSubstr("no method named nope"));
  EXPECT_THAT(error_in("{% include 'other' %}"), HasSubstr("line 1: "));
  EXPECT_THAT(error_of([] { render("x", Json::object()); }), HasSubstr("must be an array"));
  EXPECT_THAT(error_of([] { render("x", kChat, Json::array()); }), HasSubstr("must be an object"));
}

TEST(ChatTemplate, TextIsKept) {
  const std::string text = std::string("a\0b <&> é 😀 {{ x }} {% y %}", 31);
  EXPECT_EQ(render("{{ messages[0].content }}", {{{"role", "user"}, {"content", text}}}), text);
  EXPECT_EQ(render("{{ messages[0].content }}", {{{"role", "user"}, {"content", "a\xFF"}}}), "a\xEF\xBF\xBD");
  EXPECT_EQ(render(std::string("a\0b", 3)), std::string("a\0b", 3));
}

}  // namespace
}  // namespace comet
