# SPDX-License-Identifier: Apache-2.0
"""comet bench serve against a real comet serve, and against servers that refuse, cut streams off or are not there."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree as ElementTree
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))
from comet_server import COMET, Server, require_server  # noqa: E402

EVENT = b'data: {"choices": [{"index": 0, "text": "a", "finish_reason": null}]}\n\n'


def start(url, *options, env=None):
    return subprocess.Popen(
        [str(COMET), "bench", "serve", "--base-url", url, *(str(o) for o in options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k != "COMET_API_KEY"}, **(env or {})},
    )


def bench(url, *options, env=None):
    """(exit code, standard output, standard error)"""
    process = start(url, *options, env=env)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


class Fake:
    """A server with a model list whose completions are what `answer(handler)` writes."""

    def __init__(self, answer):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.reply(200, {"data": [{"id": "fake"}]})

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                answer(self)

            def reply(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class RealServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_server()
        cls.server = Server("--max-batch-seqs", "16", "--kv-memory", "64M", "--served-model-name", "books")
        cls.addClassCleanup(cls.server.close)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_json(self, *options):
        code, out, err = bench(self.server.url, "--json", "-q", *options)
        self.assertEqual(code, 0, err)
        return json.loads(out)

    def test_closed_loop(self):
        output, plot = self.folder / "r.json", self.folder / "r.svg"
        options = ["--concurrency", 8, "--num-prompts", 24, "--input-len", 40, "--output-len", 12, "--warmup", 2]
        files = ["--output", output, "--save-detailed", "--plot", plot]
        limits = ["--goodput", "ttft:600000", "e2el:600000", "--percentiles", "50,99"]
        code, out, err = bench(self.server.url, *options, *files, *limits)
        self.assertEqual(code, 0, err)
        for text in ("requests completed", "24 of 24", "goodput", "TTFT", "TPOT", "ITL", "E2EL", "p99", "us/token"):
            self.assertIn(text, out)
        self.assertIn("24/24", err)
        result = json.loads(output.read_text())
        self.assertEqual(result["model_id"], "books")
        self.assertEqual((result["completed"], result["failed"]), (24, 0))
        self.assertEqual(result["total_input_tokens"], 24 * 40)
        self.assertEqual(result["total_output_tokens"], 24 * 12)
        self.assertAlmostEqual(result["output_throughput"], 24 * 12 / result["duration"])
        self.assertAlmostEqual(result["request_goodput"], result["request_throughput"])
        self.assertEqual(result["median_ttft_ms"], result["p50_ttft_ms"])
        self.assertLessEqual(result["mean_concurrency"], 8)
        self.assertEqual(len(result["requests"]), 24)
        for row in result["requests"]:
            self.assertEqual(row["output_tokens"], 12)
            self.assertLessEqual(row["ttft_ms"], row["e2el_ms"])
            self.assertEqual(row["event_s"], sorted(row["event_s"]))
        ElementTree.parse(plot)
        for label in ("TTFT (ms)", "E2EL (ms)", "output tokens/s", "time since the beginning (s)"):
            self.assertIn(label, plot.read_text())
        self.assertEqual({p.name for p in self.folder.iterdir()}, {"r.json", "r.svg"})  # nothing temporary is left

    def test_open_loop(self):
        options = ["--request-rate", 40, "--num-prompts", 20, "--input-len", 8, "--output-len", 4, "--seed", 3]
        output = self.folder / "r.json"
        result = self.run_json(*options, "--goodput", "ttft:0.0001", "--output", output, "--save-detailed")
        self.assertEqual(result["completed"], 20)
        self.assertEqual(result["request_goodput"], 0)
        rows = json.loads(output.read_text())["requests"]
        planned = [row["planned_s"] for row in rows]
        self.assertEqual(planned, sorted(planned))
        self.assertGreater(planned[-1], 0.1)
        for row in rows:
            self.assertGreaterEqual(row["start_s"], row["planned_s"])
        self.assertIn("p99_lateness_ms", result)

    def test_prefixes_hit_as_an_ideal_cache_does(self):
        options = ["--dataset", "prefix", "--prefix-len", 200, "--num-prefixes", 3, "--suffix-len", 70, "--seed", 11]
        result = self.run_json(*options, "--num-prompts", 12, "--output-len", 2, "--concurrency", 1)
        self.assertEqual(result["cached_tokens"], 9 * 192)  # the first of each prefix misses; 3 whole blocks each
        self.assertEqual(result["ideal_hit_tokens"], 9 * 192)

    def test_mooncake_trace(self):
        trace = self.folder / "trace.jsonl"
        rows = [
            {"timestamp": 0, "input_length": 1500, "output_length": 16, "hash_ids": [5, 6, 7]},
            {"timestamp": 100, "input_length": 1100, "output_length": 8, "hash_ids": [5, 6, 8]},
            {"timestamp": 200, "input_length": 1537, "output_length": 1, "hash_ids": [5, 6, 8, 9]},
            {"timestamp": 300, "input_length": 100000, "output_length": 8, "hash_ids": list(range(196))},
        ]
        trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = ["--dataset", "trace-mooncake", trace, "--length-divisor", 8, "--concurrency", 1]
        result = self.run_json(*options, "--ideal-blocks", 2)
        self.assertEqual(result["completed"], 3)
        self.assertIn("1 requests of the trace do not fit", result["warnings"][0])
        self.assertEqual(result["total_input_tokens"], 188 + 138 + 193)
        self.assertEqual(result["total_output_tokens"], 2 + 1 + 1)
        self.assertEqual(result["cached_tokens"], 128 + 128)
        self.assertEqual(result["ideal_hit_tokens"], 128 + 128)
        self.assertEqual(result["ideal_lru_hit_tokens"], 128 + 128)
        self.assertGreater(result["duration"], 0.2)  # the trace's time
        result = self.run_json(*options, "--trace-speed", "inf")
        self.assertEqual(result["completed"], 3)
        self.assertNotIn("p99_lateness_ms", result)
        self.assertEqual(bench(self.server.url, *options, "--trace-speed", "-1")[0], 1)

    def test_chat(self):
        options = ["--endpoint", "chat", "--num-prompts", 4, "--input-len", 20, "--output-len", 6]
        result = self.run_json(*options)
        self.assertEqual(result["completed"], 4)
        self.assertEqual(result["total_output_tokens"], 24)
        self.assertGreater(result["total_input_tokens"], 4 * 20)

    def test_bad_trace_line(self):
        trace = self.folder / "trace.csv"
        trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\noops\n")
        code, _, err = bench(self.server.url, "--dataset", "trace-azure", trace)
        self.assertEqual(code, 1)
        self.assertIn(f"{trace}:3: expected three fields", err)

    def test_requests_beyond_the_context_are_refused(self):
        code, _, err = bench(self.server.url, "--input-len", 1000, "--output-len", 100)
        self.assertEqual(code, 1)
        self.assertIn("1000 + 100 tokens do not fit the model's context of 1024", err)

    def test_wrong_use(self):
        for options in (["--dataset", "trace-azure"], ["x.csv"], ["--concurrency", 0], ["--dataset", "none"]):
            self.assertEqual(bench(self.server.url, *options)[0], 2, options)
        code, _, err = bench(self.server.url, "--goodput", "ttft=5")
        self.assertEqual(code, 1)
        self.assertIn("expected NAME:MILLISECONDS", err)
        code, _, err = bench(self.server.url, "--model", "nobody")
        self.assertEqual(code, 1)
        self.assertIn("no model nobody; it has books", err)

    def test_interrupt_prints_what_was_done(self):
        output = self.folder / "r.json"
        options = ["--num-prompts", 100000, "--input-len", 8, "--output-len", 8, "--output", output]
        before = self.requests_done()
        process = start(self.server.url, *options)
        end = time.monotonic() + 100
        while self.requests_done() < before + 20 and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1)
        self.assertIn("interrupted", err)
        self.assertIn("not finished", out)
        result = json.loads(output.read_text())
        self.assertTrue(result["interrupted"])
        self.assertGreaterEqual(result["completed"], 10)
        self.assertEqual(result["failed"], 0)
        self.assertEqual(result["completed"] + result["unfinished"], 100000)

    def requests_done(self):
        return sum(v for k, v in self.server.metrics().items() if k.startswith("comet:request_success_total"))


class OtherServers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_server()

    def fake(self, answer):
        fake = Fake(answer)
        self.addCleanup(fake.close)
        return fake.url

    def test_a_full_queue_is_counted(self):
        server = Server("--max-batch-seqs", "1", "--max-queue", "1", "--kv-memory", "16M")
        self.addCleanup(server.close)
        options = ["--concurrency", 8, "--num-prompts", 16, "--input-len", 8, "--output-len", 32, "--json", "-q"]
        code, out, err = bench(server.url, *options)
        self.assertEqual(code, 0, err)
        result = json.loads(out)
        self.assertGreaterEqual(result["completed"], 2)
        self.assertEqual(result["failures"], {"503 queue_full": 16 - result["completed"]})
        self.assertIn("503 queue_full", err)

    def test_all_refused(self):
        url = self.fake(lambda h: h.reply(503, {"error": {"message": "no room", "code": "queue_full"}}))
        code, out, err = bench(url, "--num-prompts", 5)
        self.assertEqual(code, 1)
        self.assertIn("0 of 5", out)
        self.assertIn("failed: 503 queue_full", out)
        self.assertIn("no room", err)

    def test_a_stream_that_is_cut_off(self):
        def answer(handler):
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
            handler.close_connection = True

        code, out, err = bench(self.fake(answer), "--num-prompts", 5)
        self.assertEqual(code, 1)
        self.assertIn("failed: cut off", out)
        self.assertIn("after 1 events", err)

    def test_nobody_there(self):
        fake = Fake(None)
        fake.close()
        code, out, err = bench(fake.url)
        self.assertEqual((code, out), (1, ""))
        self.assertIn(f"cannot reach {fake.url}: Connection refused", err)
        code, _, err = bench("localhost:8000")
        self.assertEqual(code, 1)
        self.assertIn("expected http://HOST:PORT", err)

    def test_keys(self):
        server = Server("--kv-memory", "16M", env={"COMET_API_KEY": "open-sesame"})
        self.addCleanup(server.close)
        options = ["--num-prompts", 2, "--input-len", 4, "--output-len", 2, "-q"]
        code, _, err = bench(server.url, *options)
        self.assertEqual(code, 1)
        self.assertIn("401", err)
        self.assertIn("COMET_API_KEY", err)
        self.assertEqual(bench(server.url, *options, env={"COMET_API_KEY": "open-sesame"})[0], 0)
        self.assertEqual(bench(server.url, *options, "--api-key", "open-sesame")[0], 0)


if __name__ == "__main__":
    unittest.main()
