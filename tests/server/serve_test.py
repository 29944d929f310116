# SPDX-License-Identifier: Apache-2.0
"""comet serve's API: answers whole and streamed, every option of a request, errors, the prefix cache, leaks."""

import json
import re
import subprocess
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from comet_server import COMET, MODEL, PROMPT, Server, require_server, texts_of  # noqa: E402

CHAT = [{"role": "user", "content": "Who is there?"}]


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_server()
        cls.server = Server("--max-batch-seqs", "32", "--served-model-name", "books", "--kv-memory", "64M")
        cls.addClassCleanup(cls.server.close)

    def refused(self, body, param, path="/v1/completions", status=400):
        """Checks the error's shape; returns its message."""
        got, _, answer = self.server.request("POST", path, body)
        self.assertEqual(got, status, answer)
        error = answer["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertEqual(error["param"], param, error)
        return error["message"]

    def test_completion_has_openai_shape(self):
        answer = self.server.complete(max_tokens=8, ignore_eos=True)
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["model"], "books")
        self.assertRegex(answer["id"], "^cmpl-")
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        usage = answer["usage"]
        self.assertEqual(usage["completion_tokens"], 8)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 8)

    def test_chat_has_openai_shape(self):
        body = {"messages": CHAT, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        status, headers, answer = self.server.request("POST", "/v1/chat/completions", body, {"X-Request-Id": "mine-1"})
        self.assertEqual(status, 200, answer)
        self.assertEqual(headers["X-Request-Id"], "mine-1")
        self.assertEqual(answer["object"], "chat.completion")
        self.assertEqual(answer["choices"][0]["message"]["role"], "assistant")
        events = self.server.stream("/v1/chat/completions", body)
        self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertEqual({e["object"] for e in events}, {"chat.completion.chunk"})
        self.assertEqual(len({e["id"] for e in events}), 1)
        self.assertEqual(texts_of(events)[0], answer["choices"][0]["message"]["content"])
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")

    def test_stream_equals_whole(self):
        for fields in (
            {"temperature": 0},
            {"temperature": 1.3, "seed": 5},
            {"temperature": 1, "seed": -9, "n": 3, "top_p": 0.9, "top_k": 50, "min_p": 0.01},
            {"temperature": 0, "repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.5},
        ):
            with self.subTest(fields=fields):
                body = {"prompt": PROMPT, "max_tokens": 24, **fields}
                whole = self.server.complete(**body)
                events = self.server.stream("/v1/completions", body)
                expected = {c["index"]: c["text"] for c in whole["choices"]}
                self.assertEqual(texts_of(events), expected)
                self.assertEqual(len(expected), fields.get("n", 1))

    def test_tokens_are_those_of_complete(self):
        args = [COMET, "complete", MODEL, "-p", PROMPT, "--max-tokens", "48", "--temp", "0", "--json", "-q"]
        done = subprocess.run(args, capture_output=True, text=True, check=True)
        expected = json.loads(done.stdout)
        answer = self.server.complete(max_tokens=48)
        self.assertEqual(answer["choices"][0]["text"], expected["text"])
        self.assertEqual(answer["usage"]["completion_tokens"], expected["completion_tokens"])

    def test_64_clients_get_what_they_get_alone(self):
        bodies = [
            {
                "prompt": PROMPT[: 4 + i % 32] + " " * (i % 2) + "was",
                "max_tokens": 4 + i % 13,
                "temperature": 0 if i % 3 else 0.9,
                "seed": i,
            }
            for i in range(64)
        ]
        alone = [self.server.complete(**body)["choices"][0]["text"] for body in bodies[:16]]
        together = [None] * len(bodies)

        def run(i):
            together[i] = texts_of(self.server.stream("/v1/completions", bodies[i]))[0]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertNotIn(None, together)
        self.assertEqual(together[:16], alone)

    def test_seed(self):
        body = {"prompt": PROMPT, "max_tokens": 16, "temperature": 1.0}
        first, again, other = (self.server.complete(**body, seed=s)["choices"][0]["text"] for s in (1, 1, 2))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_prompts_in_four_forms(self):
        ids = self.server.request("POST", "/tokenize", {"prompt": PROMPT})[2]["tokens"]
        text = self.server.complete(max_tokens=6)["choices"][0]["text"]
        for prompt, count in ((ids, 1), ([PROMPT, PROMPT], 2), ([ids, ids, ids], 3)):
            answer = self.server.complete(prompt, max_tokens=6)
            self.assertEqual([c["text"] for c in answer["choices"]], [text] * count)
            self.assertEqual([c["index"] for c in answer["choices"]], list(range(count)))
            self.assertEqual(answer["usage"]["prompt_tokens"], len(ids) * count)

    def test_tokenize_and_back(self):
        _, _, tokens = self.server.request("POST", "/tokenize", {"prompt": PROMPT})
        self.assertEqual(tokens["count"], len(tokens["tokens"]))
        _, _, back = self.server.request("POST", "/detokenize", {"tokens": tokens["tokens"]})
        self.assertIn(PROMPT, back["prompt"])
        _, _, chat = self.server.request("POST", "/tokenize", {"messages": CHAT, "add_generation_prompt": False})
        _, _, back = self.server.request("POST", "/detokenize", {"tokens": chat["tokens"]})
        self.assertEqual(back["prompt"], "user: Who is there?\n")
        self.assertIn("2147483647", self.refused({"tokens": [2147483647]}, None, "/detokenize"))

    def test_chat_template_gets_its_variables(self):
        body = {"messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}]}, *CHAT]}
        _, _, ids = self.server.request("POST", "/tokenize", {**body, "chat_template_kwargs": {"mood": "calm"}})
        _, _, back = self.server.request("POST", "/detokenize", {"tokens": ids["tokens"]})
        self.assertEqual(back["prompt"], "system: a\nuser: Who is there?\n(calm) assistant:")
        message = self.refused({"messages": [{"role": "user", "content": "fail"}]}, None, "/v1/chat/completions")
        self.assertIn("no such luck", message)

    def test_stop(self):
        text = self.server.complete(max_tokens=40)["choices"][0]["text"]
        word = re.findall(r"\w{3,}", text)[2]
        answer = self.server.complete(max_tokens=40, stop=["never seen", word])
        self.assertEqual(answer["choices"][0]["text"], text[: text.index(word)])
        self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
        events = self.server.stream("/v1/completions", {"prompt": PROMPT, "temperature": 0, "stop": word})
        self.assertEqual(texts_of(events)[0], text[: text.index(word)])

    def test_echo(self):
        plain = self.server.complete(max_tokens=5)["choices"][0]["text"]
        self.assertEqual(self.server.complete(max_tokens=5, echo=True)["choices"][0]["text"], PROMPT + plain)
        events = self.server.stream(
            "/v1/completions", {"prompt": PROMPT, "temperature": 0, "max_tokens": 5, "echo": True}
        )
        self.assertEqual(texts_of(events)[0], PROMPT + plain)

    def test_usage_of_streams(self):
        body = {"prompt": PROMPT, "max_tokens": 7, "temperature": 0, "ignore_eos": True}
        events = self.server.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}})
        self.assertEqual(events[-1]["choices"], [])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 7)
        self.assertTrue(all("usage" not in e for e in self.server.stream("/v1/completions", body)))
        options = {"stream_options": {"continuous_usage_stats": True}}
        counts = [e["usage"]["completion_tokens"] for e in self.server.stream("/v1/completions", {**body, **options})]
        self.assertEqual(counts, sorted(counts))
        self.assertEqual(counts[-1], 7)

    def test_logprobs_of_completions(self):
        body = {"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "logprobs": 3}
        choice = self.server.complete(**body)["choices"][0]
        lists = choice["logprobs"]
        self.assertEqual({len(lists[k]) for k in lists}, {6})
        self.assertEqual("".join(lists["tokens"]), choice["text"])
        for token, logprob, top, offset in zip(*(lists[k] for k in lists), strict=True):
            self.assertEqual(max(top.values()), logprob)  # greedy takes the best
            self.assertIn(token, top)
            self.assertTrue(choice["text"][offset:].startswith(token))
        streamed = {k: [] for k in lists}
        for event in self.server.stream("/v1/completions", body):
            for k, values in (event["choices"][0]["logprobs"] or {}).items():
                streamed[k] += values
        self.assertEqual(streamed, lists)

    def test_logprobs_of_the_prompt(self):
        tokens = self.server.request("POST", "/tokenize", {"prompt": PROMPT})[2]["tokens"]
        body = {"prompt": [tokens, tokens], "max_tokens": 2, "temperature": 0, "logprobs": 1, "echo": True}
        for choice in self.server.complete(**body)["choices"]:
            lists = choice["logprobs"]
            self.assertEqual({len(lists[k]) for k in lists}, {len(tokens) + 2})
            self.assertEqual("".join(lists["tokens"]), choice["text"])
            self.assertEqual((lists["token_logprobs"][0], lists["top_logprobs"][0]), (None, None))
            # What a prompt's token is said to have is what it has as an answer's first.
            part = self.server.complete(tokens[:5], max_tokens=1, logprobs=1)["choices"][0]["logprobs"]
            self.assertEqual(lists["top_logprobs"][5].keys() >= part["top_logprobs"][0].keys(), True)
        streamed = {k: [] for k in lists}
        for event in self.server.stream("/v1/completions", {**body, "prompt": PROMPT}):
            for k, values in (event["choices"][0]["logprobs"] or {}).items():
                streamed[k] += values
        self.assertEqual(streamed, lists)

    def test_logprobs_of_the_prompt_for_every_choice(self):
        body = {"prompt": PROMPT, "max_tokens": 3, "temperature": 1, "seed": 3, "logprobs": 2, "echo": True, "n": 4}
        ignore = {"ignore_eos": True}
        choices = self.server.complete(**body, **ignore)["choices"]
        count = len(self.server.request("POST", "/tokenize", {"prompt": PROMPT})[2]["tokens"])
        streamed = {i: [] for i in range(4)}
        for event in self.server.stream("/v1/completions", {**body, **ignore}):
            for choice in event["choices"]:
                streamed[choice["index"]] += (choice["logprobs"] or {}).get("token_logprobs", [])
        for choice in choices:
            values = choice["logprobs"]["token_logprobs"]
            self.assertEqual(values[:count], choices[0]["logprobs"]["token_logprobs"][:count])
            self.assertEqual(len(values), count + 3)
            self.assertEqual(streamed[choice["index"]], values)

    def test_nothing_but_the_prompt(self):
        one = self.server.complete(max_tokens=1, logprobs=2, echo=True)["choices"][0]["logprobs"]
        body = {"prompt": [PROMPT, PROMPT], "temperature": 0, "max_tokens": 0, "echo": True, "logprobs": 2, "n": 2}
        answer = self.server.complete(**body)
        events = self.server.stream("/v1/completions", body)
        self.assertEqual(answer["usage"]["completion_tokens"], 0)
        self.assertEqual(len(answer["choices"]), 4)
        for choice in answer["choices"]:
            self.assertEqual((choice["text"], choice["finish_reason"]), (PROMPT, "length"))
            self.assertEqual(choice["logprobs"], {k: v[:-1] for k, v in one.items()})
            self.assertEqual(texts_of(events)[choice["index"]], PROMPT)
        self.assertEqual(self.server.complete(max_tokens=0, echo=True)["choices"][0]["text"], PROMPT)

    def test_logprobs_of_chat(self):
        body = {"messages": CHAT, "max_tokens": 5, "temperature": 0, "logprobs": True, "top_logprobs": 2}
        _, _, answer = self.server.request("POST", "/v1/chat/completions", body)
        content = answer["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), 5)
        text = b"".join(bytes(e["bytes"]) for e in content).decode()
        self.assertEqual(text, answer["choices"][0]["message"]["content"])
        self.assertTrue(all(len(e["top_logprobs"]) == 2 for e in content))
        streamed = []
        for event in self.server.stream("/v1/chat/completions", body):
            streamed += (event["choices"][0]["logprobs"] or {}).get("content", [])
        self.assertEqual(streamed, content)

    def test_errors_name_the_field(self):
        p = {"prompt": "x"}
        for fields, param in (
            ({"temperature": -5}, "temperature"),
            ({"temperature": "hot"}, "temperature"),
            ({"top_p": 0}, "top_p"),
            ({"top_k": 18446744073709551615}, "top_k"),
            ({"n": 0}, "n"),
            ({"n": 129}, "n"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": 2.5}, "max_tokens"),
            ({"stop": ["a", ""]}, "stop[1]"),
            ({"logit_bias": {"x": 1}}, "logit_bias"),
            ({"logit_bias": {"5": 101}}, "logit_bias.5"),
            ({"logprobs": 21}, "logprobs"),
            ({"prompt": [1, -2]}, "prompt[1]"),
            ({"prompt": []}, "prompt"),
            ({"tools": []}, "tools"),
            ({"response_format": {"type": "json_object"}}, "response_format"),
            ({"temprature": 1}, "temprature"),
            ({"stream_options": {"include_usage": True}}, "stream_options"),
            ({"best_of": 2}, "best_of"),
            ({"priority": -1}, "priority"),
            ({"min_tokens": 9, "max_tokens": 3}, "min_tokens"),
        ):
            with self.subTest(fields=fields):
                self.refused({**p, **fields}, param)
        self.assertIn("temperature", self.refused({**p, "temprature": 1}, "temprature"))
        chat = "/v1/chat/completions"
        self.refused({}, "messages", chat)
        self.refused({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", chat)
        self.refused({"messages": CHAT, "top_logprobs": 2}, "top_logprobs", chat)
        self.refused({"prompt": "x", "model": "llama"}, "model", status=404)

    def test_errors_of_the_prompt(self):
        self.assertIn("context", self.refused({"prompt": "word " * 3000}, None))
        self.assertIn("context", self.refused({"prompt": "x", "max_tokens": 100000}, None))
        self.assertIn("99999", self.refused({"prompt": [99999]}, None))

    def test_bodies_that_are_no_json(self):
        for body in ("", "{", "[1]", "nonsense", b"\xff\xfe", "[" * 100000, '{"prompt": "x", "temperature": 1e999}'):
            with self.subTest(body=body[:20]):
                status, _, answer = self.server.request("POST", "/v1/completions", body)
                self.assertEqual(status, 400, answer)

    def test_models_version_load(self):
        _, _, models = self.server.request("GET", "/v1/models")
        self.assertEqual([m["id"] for m in models["data"]], ["books"])
        self.assertEqual(self.server.request("GET", "/v1/models/books")[2], models["data"][0])
        self.assertEqual(self.server.request("GET", "/v1/models/b%6foks")[0], 200)
        for path in ("/v1/models/other", "/v1/models/books%2F", "/v1/models/%00%ff%"):
            self.assertEqual(self.server.request("GET", path)[0], 404)
        self.assertRegex(self.server.request("GET", "/version")[2]["version"], r"^\d+\.\d+")
        self.assertEqual(self.server.request("GET", "/load")[2], {"server_load": 0})
        _, _, document = self.server.request("GET", "/openapi.json")
        self.assertIn("/v1/chat/completions", document["paths"])

    def test_prefix_cache(self):
        prompt = "".join(f"Chapter {i} of this long book begins here. " for i in range(60))
        answers = [self.server.complete(prompt, max_tokens=12) for _ in range(2)]
        salted = self.server.complete(prompt, max_tokens=12, cache_salt="other")
        cached = [a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in [*answers, salted]]
        self.assertEqual(cached[0], 0)
        self.assertGreaterEqual(cached[1], answers[0]["usage"]["prompt_tokens"] - 128)
        self.assertEqual(cached[2], 0)
        self.assertEqual(len({a["choices"][0]["text"] for a in [*answers, salted]}), 1)

    def test_log_has_ids_and_no_prompts(self):
        secret = "Persephone"
        self.server.request(
            "POST", "/v1/completions", {"prompt": secret, "max_tokens": 1}, {"X-Request-Id": "look-for-me"}
        )
        self.server.request("POST", "/v1/completions", {"prompt": secret, "max_tokens": "many"})
        lines = self.server.log()
        mine = [line for line in lines if line.get("request_id") == "look-for-me"]
        self.assertEqual([line["status"] for line in mine], [200])
        self.assertEqual(mine[0]["completion_tokens"], 1)
        self.assertNotIn(secret, json.dumps(lines))

    def test_nothing_leaks(self):
        def level():
            proc = Path(f"/proc/{self.server.process.pid}")
            rss = int(re.search(r"VmRSS:\s+(\d+)", (proc / "status").read_text())[1])
            return len(list((proc / "fd").iterdir())), rss

        def some(count):
            for i in range(count):
                self.server.complete("abc " * 4 + str(i), max_tokens=1 + i % 3, logprobs=2 if i % 5 == 0 else None)

        some(50)
        self.server.wait_idle()
        fds, rss = level()
        some(500)
        self.server.wait_idle()
        fds_after, rss_after = level()
        self.assertLessEqual(fds_after, fds + 1)
        self.assertLess(rss_after, rss + 16 * 1024)  # KiB: touched pages of the KV cache, allocator slack
        self.assertEqual(self.server.request("GET", "/load")[2], {"server_load": 0})


if __name__ == "__main__":
    unittest.main()
