// SPDX-License-Identifier: Apache-2.0
// Prints twelve tokens that the model in argv[1] continues argv[2] with; exits with 3 when Comet refuses the model.
#include <comet/comet.h>
#include <comet/serve.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  using namespace comet::api;
  try {
    LoadOptions options;
    options.model = argv[1];
    const std::unique_ptr<LanguageModel> model = LanguageModel::load(options);
    Sampling greedy;
    greedy.temperature = 0;
    greedy.max_tokens = 12;
    const std::unique_ptr<Answer> answer = model->submit({.text = argv[2], .ids = {}, .messages_json = {}}, greedy);
    while (const std::optional<Delta> delta = answer->next()) std::cout << delta->text;
    return 0;
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return is_user_error(e) ? 3 : 1;
  }
}
