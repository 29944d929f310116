// SPDX-License-Identifier: Apache-2.0
// OpenAI's Node client, unchanged, against comet serve: node client_test.cjs BASE_URL. The server runs one sequence and
// queues none.
const assert = require("node:assert/strict");
const { OpenAI } = require("openai");

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Who is there?" }];
const prompt = "It was a dark night, and the old man";
const greedy = { model: "books", temperature: 0, max_tokens: 8, ignore_eos: true };

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const checks = {
  async models() {
    const models = await client.models.list();
    assert.deepEqual(models.data.map((model) => model.id), ["books"]);
    assert.equal((await client.models.retrieve("books")).id, "books");
  },

  async chat() {
    const asked = { ...greedy, messages, logprobs: true, top_logprobs: 2 };
    const answer = await client.chat.completions.create(asked);
    const [choice] = answer.choices;
    assert.equal(choice.finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 8);
    const { content } = choice.logprobs;
    assert.equal(Buffer.from(content.flatMap((token) => token.bytes)).toString(), choice.message.content);
    const chunks = await collect(
      await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } }),
    );
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, choice.message.content);
    assert.deepEqual(chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? []), content);
    assert.deepEqual(chunks.at(-1).usage.completion_tokens, 8);
  },

  async completions() {
    const answer = await client.completions.create({ ...greedy, prompt, logprobs: 1 });
    const [choice] = answer.choices;
    assert.equal(choice.logprobs.tokens.join(""), choice.text);
    const chunks = await collect(await client.completions.create({ ...greedy, prompt, stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), choice.text);
  },

  async errors() {
    const wrong = client.completions.create({ ...greedy, prompt, temperature: -1 });
    await assert.rejects(wrong, (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature");
    const unknown = client.completions.create({ ...greedy, prompt, model: "gpt-4" });
    await assert.rejects(unknown, (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
  },

  async retries() {
    const endless = { model: "books", prompt, ignore_eos: true, stream: true };
    const stream = await client.completions.create(endless);
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      const full = client.completions.create({ ...greedy, prompt });
      await assert.rejects(full, (e) => e.status === 503 && e.code === "queue_full");
      break; // which aborts it
    }
    const answer = await client.completions.create({ ...greedy, prompt }, { maxRetries: 5 });
    assert.equal(answer.usage.completion_tokens, 8);
    const busy = await client.completions.create(endless);
    setTimeout(() => busy.controller.abort(), 300);
    const [later] = await Promise.all([
      client.completions.create({ ...greedy, prompt }, { maxRetries: 5 }),
      collect(busy).catch(() => {}),
    ]);
    assert.equal(later.usage.completion_tokens, 8);
  },

  async timeouts() {
    const late = client.completions.create({ model: "books", prompt, ignore_eos: true }, { timeout: 50 });
    await assert.rejects(late, OpenAI.APIConnectionTimeoutError);
  },
};

async function main() {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      console.error(`${name}:`, error);
      process.exit(1);
    }
  }
  console.log(`${Object.keys(checks).length} checks`);
}

main();
