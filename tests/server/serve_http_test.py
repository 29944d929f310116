# SPDX-License-Identifier: Apache-2.0
"""comet serve against clients that misbehave: HTTP, limits, disconnects, slow readers, keys, origins, TLS."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from comet_server import (  # noqa: E402
    PROMPT,
    Server,
    exchange,
    post,
    read_all,
    read_events,
    require_server,
    statuses,
    texts_of,
)

LONG = {"prompt": "word " * 900, "temperature": 0, "max_tokens": 1}
ENDLESS = {"prompt": PROMPT, "temperature": 0, "max_tokens": 900, "ignore_eos": True}


class Priority(unittest.TestCase):
    def test_a_better_one_overtakes(self):
        require_server()
        server = Server("--scheduling-policy", "priority", "--max-batch-seqs", "1")
        self.addCleanup(server.close)
        slow = server.open_stream("/v1/completions", {**ENDLESS, "priority": 5})
        self.addCleanup(slow[0].close)
        slow[1].readline()  # the first event: it runs
        self.assertEqual(server.complete(max_tokens=2, priority=4)["usage"]["completion_tokens"], 2)
        self.assertEqual(server.num_running(), 1)  # the slow one has not ended before
        self.assertEqual(len(read_events(slow[1])), ENDLESS["max_tokens"] - 1)


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_server()
        limits = ("--header-timeout", "1", "--body-timeout", "1", "--idle-timeout", "3", "--max-body", "100000")
        slow = ("--send-buffer", "4096", "--write-timeout", "1")
        cls.server = Server(*limits, *slow, "--max-batch-tokens", "64", "--cors-origin", "https://good.example")
        cls.addClassCleanup(cls.server.close)

    def tearDown(self):
        self.server.wait_idle(5)
        self.assertEqual(self.server.request("GET", "/health")[0], 200)

    def test_keep_alive(self):
        connection = self.server.connect()
        self.addCleanup(connection.close)
        for path, status in (("/version", 200), ("/nothing", 404), ("/v1/models", 200)):
            self.assertEqual(exchange(connection, "GET", path)[0], status)
        connection.request("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 3, "stream": True}),
                           {"Content-Type": "application/json"})  # fmt: skip
        self.assertEqual(len(read_events(connection.getresponse())), 3)
        self.assertEqual(exchange(connection, "GET", "/version")[0], 200)

    def test_pipelined(self):
        body = {"prompt": PROMPT, "max_tokens": 2, "temperature": 0}
        last = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        data = self.server.raw(post(body) + post({**body, "stream": True}) + post({"max_tokens": 1}) + last)
        self.assertEqual(statuses(data), [200, 200, 400, 200])
        self.assertEqual(data.count(b"[DONE]"), 1)

    def test_http_1_0(self):
        data = self.server.raw(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        self.assertEqual(statuses(data), [200])
        body = post({**ENDLESS, "max_tokens": 3, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0")
        data = self.server.raw(body)
        self.assertEqual(statuses(data), [200])
        self.assertNotIn(b"chunked", data)
        self.assertTrue(data.endswith(b"data: [DONE]\n\n"))

    def test_head(self):
        data = self.server.raw(b"HEAD /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertEqual(statuses(data), [200])
        self.assertTrue(data.endswith(b"\r\n\r\n"))

    def test_expect_100(self):
        body = post({"prompt": PROMPT, "max_tokens": 1}, extra="Expect: 100-continue\r\nConnection: close\r\n")
        head, rest = body.split(b"\r\n\r\n", 1)
        with self.server.socket() as s:
            s.sendall(head + b"\r\n\r\n")
            self.assertEqual(s.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(rest)
            self.assertEqual(statuses(read_all(s)), [200])
        with self.server.socket() as s:  # what the header already refuses is not asked for
            s.sendall(head.replace(b"application/json", b"text/plain") + b"\r\n\r\n")
            self.assertEqual(statuses(s.recv(1000)), [415])

    def test_chunked_body(self):
        body = json.dumps({"prompt": PROMPT, "max_tokens": 1}).encode()
        parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:9], body[9:])) + b"0\r\n\r\n"
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        data = self.server.raw(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + parts)
        self.assertEqual(statuses(data), [200])
        big = b"1000\r\n" + b" " * 4096 + b"\r\n"
        data = self.server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + big * 40 + b"0\r\n\r\n")
        self.assertEqual(statuses(data), [413])

    def test_malformed(self):
        host = b"Host: localhost\r\n"
        for data in (
            b"nonsense\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost localhost\r\n\r\n",
            b"POST /v1/completions HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n",
            b"POST /v1/completions HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
        ):
            with self.subTest(data=data[:60]):
                self.assertEqual(statuses(self.server.raw(data)), [400])

    def test_too_large(self):
        big = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"x" * 20000 + b"\r\n\r\n"
        self.assertEqual(statuses(self.server.raw(big)), [431])
        self.assertEqual(statuses(self.server.raw(post(b" " * 100001))), [413])
        self.assertEqual(self.server.request("POST", "/tokenize", {"prompt": "x" * 99000})[0], 200)

    def test_wrong_method_path_type(self):
        status, headers, _ = self.server.request("GET", "/v1/completions")
        self.assertEqual((status, headers["Allow"]), (405, "POST"))
        self.assertEqual(self.server.request("POST", "/health", {})[0], 405)
        self.assertEqual(self.server.request("GET", "/v1/nothing?x=1")[0], 404)
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            got = self.server.request("POST", "/v1/completions", b"{}", {"Content-Type": content_type})
            self.assertEqual(got[0], 415)

    def test_slow_header_and_body(self):
        for start in (b"GET /health HTTP/1.1\r\nHo", post({"prompt": PROMPT})[:-5]):
            with self.subTest(start=start[:20]), self.server.socket() as s:
                begin = time.monotonic()
                s.sendall(start)
                self.assertEqual(read_all(s), b"")
                self.assertLess(time.monotonic() - begin, 3)

    def test_foreign_pages_are_refused(self):
        for headers, status in (
            ({"Host": "evil.example"}, 403),
            ({"Host": "127.evil.example"}, 403),
            ({"Host": "localhost:99"}, 200),
            ({"Host": "[::1]:99"}, 200),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "https://good.example"}, 200),
        ):
            with self.subTest(headers=headers):
                self.assertEqual(self.server.request("GET", "/v1/models", headers=headers)[0], status)

    def test_cors_preflight(self):
        asked = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
        status, headers, _ = self.server.request("OPTIONS", "/v1/chat/completions", headers=asked)
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "https://good.example"))
        self.assertIn("Authorization", headers["Access-Control-Allow-Headers"])
        refused = {**asked, "Origin": "https://bad.example"}
        self.assertEqual(self.server.request("OPTIONS", "/v1/chat/completions", headers=refused)[0], 403)

    def test_disconnect_during_prefill(self):
        for stream in (False, True):
            with self.subTest(stream=stream), self.server.socket() as s:
                prompt = f"{stream} " + LONG["prompt"]
                s.sendall(post({**LONG, "prompt": prompt, "max_tokens": 90, "stream": stream}))
                while not self.server.num_running():
                    time.sleep(0.005)
                s.close()
                self.server.wait_idle(1.0)

    def test_disconnect_during_stream(self):
        for extra in (b"", b"GET /version HTTP/1.1\r\n"):  # bytes that wait to be read hide the end
            with self.subTest(extra=extra), self.server.socket() as s:
                s.sendall(post({**ENDLESS, "stream": True}) + extra)
                while b"data:" not in s.recv(4096):
                    pass
                s.close()
                self.server.wait_idle(1.0)

    def test_slow_reader_is_cut_off(self):
        heavy = {**ENDLESS, "stream": True, "logprobs": 20, "n": 4, "temperature": 1}
        with self.server.socket(receive_buffer=4096) as slow:
            slow.sendall(post(heavy))
            others = [None] * 3

            def run(i):
                others[i] = texts_of(self.server.stream("/v1/completions", {**ENDLESS, "max_tokens": 30}))[0]

            threads = [threading.Thread(target=run, args=(i,)) for i in range(len(others))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(set(others)), 1)
            self.server.wait_idle(8)
            with self.assertRaises(ConnectionResetError):  # what it did not take is not kept for it
                while slow.recv(1 << 16):
                    pass

    def test_metrics_count(self):
        before = self.server.metrics()
        self.server.complete(max_tokens=5, ignore_eos=True)
        after = self.server.metrics()

        def grown(stem, labels=""):
            name = f'comet:{stem}{{model_name="gutenberg-15m"{labels}}}'
            return after[name] - before.get(name, 0)

        self.assertEqual(grown("generation_tokens_total"), 5)
        self.assertEqual(grown("request_success_total", ',finished_reason="length"'), 1)
        self.assertEqual(grown("time_to_first_token_seconds_count"), 1)
        self.assertEqual(grown("inter_token_latency_seconds_count"), 4)
        self.assertEqual(grown("http_responses_total", ',route="/v1/completions",status="200"'), 1)


class StartsServers(unittest.TestCase):
    """Each test starts a server of its own."""

    @classmethod
    def setUpClass(cls):
        require_server()

    def start(self, *options, **kwargs):
        server = Server(*options, **kwargs)
        self.addCleanup(server.close)
        return server


class OwnServer(StartsServers):
    def test_queue_full(self):
        server = self.start("--max-queue", "0", "--max-batch-seqs", "1")
        with server.socket() as s:
            s.sendall(post({**ENDLESS, "stream": True}))
            while b"data:" not in s.recv(4096):
                pass
            status, headers, answer = server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})
            self.assertEqual((status, headers["Retry-After"]), (503, "1"))
            self.assertEqual(answer["error"]["code"], "queue_full")
        server.wait_idle()
        server.complete(max_tokens=1)

    def test_keys_and_rate(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("# keys\nfirst\n\nsecond\n")
            file.flush()
            options = ("--api-key-file", file.name, "--rate-limit", "5")
            server = self.start(*options, env={"COMET_API_KEY": "third"}, wait=False)
        while server.request("GET", "/ready")[0] != 200:
            time.sleep(0.02)
        self.assertEqual(server.request("GET", "/health")[0], 200)
        _, _, text = server.request("GET", "/openapi.json", headers={"Authorization": "Bearer first"})
        for path, operations in text["paths"].items():
            for method in operations:
                status = server.request(method.upper(), path)[0]
                self.assertEqual(status, 200 if path in ("/health", "/ready") else 401, path)
        self.assertEqual(server.request("GET", "/nothing")[0], 404)
        for key, status in (("second", 200), ("third", 200), ("firs", 401), ("firstly", 401), ("", 401)):
            got = server.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
            self.assertEqual(got[0], status, key)
        self.assertEqual(got[1]["WWW-Authenticate"], "Bearer")
        codes = [server.request("GET", "/version", headers={"Authorization": "Bearer first"})[0] for _ in range(60)]
        self.assertEqual(set(codes), {200, 429})
        self.assertEqual(server.request("GET", "/version", headers={"Authorization": "Bearer third"})[0], 200)

    def test_open_address_needs_keys(self):
        with self.assertRaisesRegex(RuntimeError, "exit code 1.*--no-auth"):
            Server("--host", "0.0.0.0")

    def test_taken_port(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            with self.assertRaisesRegex(RuntimeError, "exit code 1.*cannot listen"):
                Server("--port", str(s.getsockname()[1]))

    def test_tls(self):
        if not shutil.which("openssl"):
            self.skipTest("there is no openssl program to make a certificate")
        with tempfile.TemporaryDirectory() as folder:
            cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
            command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
            subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
            with self.assertRaisesRegex(RuntimeError, "exit code 1"):
                Server("--tls-cert", cert)
            server = self.start("--tls-cert", cert, "--tls-key", key)
        body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8}
        text = server.complete(max_tokens=8)["choices"][0]["text"]
        self.assertEqual(texts_of(server.stream("/v1/completions", body))[0], text)
        connection, response = server.open_stream("/v1/completions", ENDLESS)
        response.readline()
        response.close()
        connection.close()
        server.wait_idle(1.0)
        plain = socket.create_connection(("127.0.0.1", server.port), 5)
        with plain:
            plain.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            self.assertNotIn(b"200", read_all(plain))
        self.assertEqual(server.stop(), 0)


class Lifecycle(StartsServers):
    def test_health_while_loading(self):
        server = self.start(wait=False)
        seen = {server.request("GET", "/health")[0]}
        while server.request("GET", "/ready")[0] != 200:
            status, _, answer = server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})
            seen.add(status)
            time.sleep(0.005)
        self.assertLessEqual(seen, {200, 503})
        self.assertEqual(server.request("GET", "/health")[0], 200)
        self.assertEqual(server.stop(), 0)

    def test_term_while_loading(self):
        server = self.start(wait=False)
        self.assertEqual(server.stop(), 0)

    def test_model_that_is_not_there(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(RuntimeError, "exit code 1"):
            Server(model=folder)

    def open_streams(self, server, body, count):
        streams = []
        for _ in range(count):
            connection, response = server.open_stream("/v1/completions", body)
            self.addCleanup(connection.close)
            response.readline()
            response.readline()
            streams.append(response)
        return streams

    def test_drain_lets_streams_finish(self):
        server = self.start()
        streams = self.open_streams(server, {**ENDLESS, "max_tokens": 100}, 4)
        idle = server.socket()  # keeps nobody waiting
        half = server.socket()
        half.sendall(b"GET /heal")
        server.terminate()
        for response in streams:
            self.assertEqual(read_events(response)[-1]["choices"][0]["finish_reason"], "length")
        self.assertEqual(server.wait(), 0)
        for s in (idle, half):
            self.assertEqual(read_all(s), b"")
            s.close()

    def test_drain_has_a_limit(self):
        server = self.start("--drain-timeout", "0.3", "--max-model-len", "1024")
        streams = self.open_streams(server, {**ENDLESS, "n": 8}, 4)
        waiting = server.socket()
        waiting.sendall(post({**ENDLESS, "n": 8}))
        time.sleep(0.1)
        begin = time.monotonic()
        server.terminate()
        for response in streams:
            events = read_events(response)  # ends with [DONE]
            self.assertEqual(events[-1]["error"]["code"], "shutting_down")
        self.assertEqual(statuses(read_all(waiting)), [503])
        waiting.close()
        self.assertEqual(server.wait(), 0)
        self.assertLess(time.monotonic() - begin, 3)

    def test_second_signal_ends_at_once(self):
        server = self.start("--drain-timeout", "60")
        streams = self.open_streams(server, {**ENDLESS, "n": 8}, 2)
        server.terminate()
        time.sleep(0.2)
        self.assertIsNone(server.process.poll())
        begin = time.monotonic()
        server.terminate()
        self.assertEqual(server.wait(), 0)
        self.assertLess(time.monotonic() - begin, 1.5)
        for response in streams:
            with self.assertRaises((AssertionError, http.client.HTTPException, OSError)):
                read_events(response)


if __name__ == "__main__":
    unittest.main()
