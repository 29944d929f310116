# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own Python and Node clients and lm_eval, unchanged, against comet serve."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from comet_server import MODEL, PROMPT, ROOT, Server, require_server  # noqa: E402

CLIENTS = ROOT / ".venv-clients/lib"
LM_EVAL = ROOT / ".venv-clients/bin/lm_eval"
NODE_MODULES = ROOT / ".venv-clients/node/node_modules"
NODE_TEST = Path(__file__).parent / "node/client_test.cjs"
CHAT = [{"role": "user", "content": "Who is there?"}]
GREEDY = {"model": "books", "temperature": 0, "max_tokens": 8, "extra_body": {"ignore_eos": True}}
ENDLESS = {"model": "books", "prompt": PROMPT, "temperature": 1, "extra_body": {"ignore_eos": True}}

for folder in CLIENTS.glob("python*/site-packages"):
    sys.path.append(str(folder))
try:
    import openai
except ImportError:
    openai = None


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_server()
        if openai is None:
            raise unittest.SkipTest("the openai client is not installed: tools/setup --clients")
        cls.server = Server("--served-model-name", "books", env={"COMET_API_KEY": "secret"}, wait=False)
        cls.addClassCleanup(cls.server.close)
        cls.server.wait_ready()
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="secret", max_retries=0, timeout=30)
        cls.addClassCleanup(cls.client.close)

    def wait_idle(self):
        headers, end = {"Authorization": "Bearer secret"}, time.monotonic() + 5
        while self.server.request("GET", "/load", headers=headers)[2]["server_load"]:
            self.assertLess(time.monotonic(), end, "the server goes on for a client that left")
            time.sleep(0.02)

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models], ["books"])
        self.assertEqual(self.client.models.retrieve("books"), models[0])
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("org/other")

    def test_chat(self):
        answer = self.client.chat.completions.create(messages=CHAT, **GREEDY)
        choice = answer.choices[0]
        self.assertEqual((choice.message.role, choice.finish_reason), ("assistant", "length"))
        usage = answer.usage
        self.assertEqual((usage.completion_tokens, usage.total_tokens), (8, usage.prompt_tokens + 8))
        options = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(self.client.chat.completions.create(messages=CHAT, **options, **GREEDY))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, choice.message.content)
        self.assertEqual(chunks[-2].choices[0].finish_reason, "length")
        self.assertEqual((chunks[-1].choices, chunks[-1].usage.total_tokens), ([], usage.total_tokens))

    def test_chat_logprobs(self):
        asked = {"messages": CHAT, "logprobs": True, "top_logprobs": 3, **GREEDY}
        choice = self.client.chat.completions.create(**asked).choices[0]
        content = choice.logprobs.content
        self.assertEqual(b"".join(bytes(t.bytes) for t in content).decode(), choice.message.content)
        self.assertTrue(all(t.logprob == t.top_logprobs[0].logprob for t in content))
        self.assertEqual({len(t.top_logprobs) for t in content}, {3})
        streamed = []
        for chunk in self.client.chat.completions.create(stream=True, **asked):
            streamed += chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else []
        self.assertEqual([t.model_dump() for t in streamed], [t.model_dump() for t in content])

    def test_chat_helpers(self):
        raw = self.client.chat.completions.with_raw_response.create(messages=CHAT, **GREEDY)
        text = raw.parse().choices[0].message.content
        self.assertTrue(raw.headers["x-request-id"])
        word = text.split()[-1]  # the helper takes an answer of finish_reason "length" for a failure
        with self.client.chat.completions.stream(messages=CHAT, stop=word, **GREEDY) as stream:
            told = "".join(event.delta for event in stream if event.type == "content.delta")
            final = stream.get_final_completion().choices[0]
        self.assertEqual((told, final.finish_reason), (text[: text.index(word)], "stop"))
        self.assertEqual(final.message.content, told)

    def test_completions(self):
        answer = self.client.completions.create(prompt=[PROMPT, "The sea"], n=2, logprobs=2, **GREEDY)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2, 3])
        for choice in answer.choices:
            self.assertEqual("".join(choice.logprobs.tokens), choice.text)
            tops = [max(top.values()) for top in choice.logprobs.top_logprobs]
            self.assertEqual(choice.logprobs.token_logprobs, tops)
        texts = [""] * 4
        for chunk in self.client.completions.create(prompt=[PROMPT, "The sea"], n=2, stream=True, **GREEDY):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        self.assertEqual(texts, [c.text for c in answer.choices])

    def test_echo_without_tokens(self):
        answer = self.client.completions.create(model="books", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1)
        choice = answer.choices[0]
        self.assertEqual((choice.text, answer.usage.completion_tokens), (PROMPT, 0))
        self.assertEqual("".join(choice.logprobs.tokens), PROMPT)
        self.assertIsNone(choice.logprobs.token_logprobs[0])

    def test_errors(self):
        create = self.client.completions.create
        with self.assertRaises(openai.BadRequestError) as caught:
            create(model="books", prompt="x", temperature=-1)
        self.assertEqual((caught.exception.param, caught.exception.type), ("temperature", "invalid_request_error"))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(
                model="books", messages=CHAT, tools=[{"type": "function", "function": {"name": "f"}}]
            )
        self.assertEqual(caught.exception.param, "tools")
        with self.assertRaises(openai.NotFoundError) as caught:
            create(model="gpt-4", prompt="x")
        self.assertEqual((caught.exception.param, caught.exception.code), ("model", "model_not_found"))
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="wrong").models.list()

    def test_client_that_leaves(self):
        stream = self.client.completions.create(stream=True, **ENDLESS)
        next(stream)
        stream.close()
        self.wait_idle()
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.1).completions.create(n=4, **ENDLESS)
        self.wait_idle()

    def test_retries(self):
        server = Server("--served-model-name", "books", "--max-queue", "0", "--max-batch-seqs", "1")
        self.addCleanup(server.close)
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(client.close)
        busy = client.completions.create(stream=True, **ENDLESS)
        next(busy)
        asked = {"prompt": PROMPT, **GREEDY}
        with self.assertRaises(openai.InternalServerError) as caught:
            client.completions.create(**asked)
        self.assertEqual((caught.exception.status_code, caught.exception.code), (503, "queue_full"))
        freeing = threading.Timer(0.3, busy.close)
        freeing.start()
        answer = client.with_options(max_retries=5).completions.create(**asked)
        freeing.join()
        self.assertEqual(answer.usage.completion_tokens, 8)
        refused = [line for line in server.log() if line.get("status") == 503]
        self.assertGreaterEqual(len(refused), 2)


class NodeClient(unittest.TestCase):
    def test_client(self):
        require_server()
        node = shutil.which("node")
        if node is None:
            self.skipTest("there is no node: tools/setup --clients")
        if not (NODE_MODULES / "openai").is_dir():
            self.skipTest("the openai package for Node is not installed: tools/setup --clients")
        server = Server("--served-model-name", "books", "--max-queue", "0", "--max-batch-seqs", "1")
        self.addCleanup(server.close)
        command, env = [node, NODE_TEST, server.url + "/v1"], {**os.environ, "NODE_PATH": str(NODE_MODULES)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(int(re.search(r"^(\d+) checks$", done.stdout, re.MULTILINE)[1]), 6)


# Each has the model's own ending for a choice besides these.
BEGINNINGS = (
    "It was a dark and stormy",
    "The old man sat down by the",
    "She opened the door and went into the",
    "They crossed the river in a",
    "He took off his hat and",
    "Once upon a",
    "The captain of the",
    "My dear",
    "In the morning the sun",
    "At last the king",
)
ENDINGS = (" night", " fire, and said nothing", " time", " spoon")
TASK = """task: TASK
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/data.jsonl}}
test_split: test
doc_to_text: "{{text}}"
target_delimiter: ""
"""
CHOICE = """output_type: multiple_choice
doc_to_choice: "{{endings}}"
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
GENERATE = """output_type: generate_until
doc_to_target: "{{endings[0]}}"
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 12}
metric_list: [{metric: bypass, aggregation: bypass, higher_is_better: true}]
"""


class LmEval(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_server()
        if not LM_EVAL.is_file():
            raise unittest.SkipTest("lm_eval is not installed: tools/setup --clients")
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        folder = Path(cls.folder.name)
        cls.own = {text: cls.server.complete(text, max_tokens=4, logprobs=0)["choices"][0] for text in BEGINNINGS}
        lines = [json.dumps({"text": t, "endings": [own["text"], *ENDINGS]}) for t, own in cls.own.items()]
        (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
        for name, rest in (("comet_choice", CHOICE), ("comet_generate", GENERATE)):
            head = TASK.replace("TASK", name).replace("FOLDER", str(folder))
            (folder / f"{name}.yaml").write_text(head + rest)
        args = f"model={MODEL.name},base_url={cls.server.url}/v1/completions,tokenizer={MODEL}"
        args += ",tokenizer_backend=huggingface,max_length=512,num_concurrent=4"
        command = [LM_EVAL, "run", "--model", "local-completions", "--model_args", args, "--include_path", folder]
        command += ["--tasks", "comet_choice,comet_generate", "--output_path", folder / "out", "--log_samples"]
        env = {**os.environ, "HF_HOME": f"{folder}/hf", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=400)
        if done.returncode:
            raise AssertionError(done.stdout[-2000:] + done.stderr[-4000:])

    def samples(self, task):
        (path,) = Path(self.folder.name).rglob(f"samples_{task}_*.jsonl")
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        return {sample["doc"]["text"]: sample for sample in samples}

    def tokens(self, text):
        return self.server.request("POST", "/tokenize", {"prompt": text})[2]["tokens"]

    def test_loglikelihoods(self):
        samples, num_own = self.samples("comet_choice"), 0
        self.assertEqual(set(samples), set(BEGINNINGS))
        for text, sample in samples.items():
            own = self.own[text]["logprobs"]
            values = [(float(value), str(is_greedy) == "True") for value, is_greedy in sample["filtered_resps"]]
            self.assertEqual(len(values), 1 + len(ENDINGS))
            for ending, got in zip((self.own[text]["text"], *ENDINGS), values, strict=True):
                count, ids = len(self.tokens(text)), self.tokens(text + ending)
                echoed = self.server.complete(ids, max_tokens=0, echo=True, logprobs=1)["choices"][0]["logprobs"]
                logprobs, tops = echoed["token_logprobs"][count:], echoed["top_logprobs"][count:]
                self.assertAlmostEqual(got[0], sum(logprobs), delta=1e-4)
                self.assertEqual(got[1], logprobs == [max(top.values()) for top in tops])
                if echoed["tokens"][count:] == own["tokens"]:  # as generated, not split into other tokens
                    num_own += 1
                    self.assertAlmostEqual(got[0], sum(own["token_logprobs"]), delta=1e-4)
                    self.assertTrue(got[1])
        self.assertGreater(num_own, 5)

    def test_generations(self):
        for text, sample in self.samples("comet_generate").items():
            expected = self.server.complete(text, max_tokens=12, stop=["\n", "."])["choices"][0]["text"]
            self.assertEqual(sample["filtered_resps"], [expected])


if __name__ == "__main__":
    unittest.main()
