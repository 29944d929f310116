# SPDX-License-Identifier: Apache-2.0
"""A `comet serve` of the bundled model for tests, and clients of it: whole requests, streams, raw sockets."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMET = Path(os.environ.get("COMET_BUILD_DIR", ROOT / "build")) / "comet"
MODEL = ROOT / "models/gutenberg-15m"
PROMPT = "It was a dark night, and the old man"
TEMPLATE = (
    "{% if messages[0].content == 'fail' %}{{ raise_exception('no such luck') }}{% endif %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if mood is defined %}({{ mood }}) {% endif %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def require_server():
    """Skips where this build has no server, or there is no build."""
    if not COMET.is_file():
        raise unittest.SkipTest(f"{COMET} is not built")
    done = subprocess.run([COMET, "serve", "--help"], capture_output=True, text=True)
    if done.returncode:
        raise unittest.SkipTest("comet has no serve")


class Server:
    """Runs until stop() or kill(). `options` are flags of comet serve; its log lines are in log()."""

    def __init__(self, *options, wait=True, env=None, before=(), model=MODEL, quiet=True):
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        (folder / "chat.jinja").write_text(TEMPLATE)
        self.log_file = folder / "log"
        self.stderr = open(folder / "stderr", "w+b")
        command = [*before, COMET, "serve", *([model] if model else [])]
        command += [] if "--log-file" in options else ["--log-file", self.log_file]
        command += ["-q"] if quiet else []
        command += ["--chat-template", folder / "chat.jinja", *options]
        command += [] if "--port" in options else ["--port", "0"]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.url = self.process.stdout.readline().removeprefix("listening on ").strip()
        match = re.fullmatch(r"(https?)://(.+):(\d+)", self.url)
        if not match:
            code = self.process.wait(10)
            text = self.errors()
            self.close()
            if "built without its server" in text:
                raise unittest.SkipTest(text.strip())
            raise RuntimeError(f"exit code {code}: {text}")
        self.is_tls, self.port = match[1] == "https", int(match[3])
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout=30):
        end = time.monotonic() + timeout
        while self.request("GET", "/ready")[0] != 200:
            if time.monotonic() > end:
                raise RuntimeError(f"not ready: {self.errors()}")
            time.sleep(0.02)

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")

    def log(self):
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def terminate(self):
        self.process.terminate()

    def wait(self, timeout=20):
        return self.process.wait(timeout)

    def close(self):
        """Ends it without questions; safe to call again."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.stderr.close()
        self.folder.cleanup()

    def stop(self):
        self.terminate()
        return self.wait()

    def connect(self, timeout=20):
        if not self.is_tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)

    def request(self, method, path, body=None, headers=None, timeout=20):
        """(status, headers, JSON or text) of one request on a connection of its own."""
        connection = self.connect(timeout)
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def complete(self, prompt=PROMPT, **fields):
        """The JSON of a greedy completion that must succeed."""
        status, _, answer = self.request("POST", "/v1/completions", {"prompt": prompt, "temperature": 0, **fields})
        if status != 200:
            raise AssertionError(f"{status}: {answer}")
        return answer

    def open_stream(self, path, body, timeout=20):
        """(connection, response) of a stream whose head has come."""
        connection = self.connect(timeout)
        data = json.dumps({**body, "stream": True})
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    def stream(self, path, body):
        """All events of a stream, [DONE] left out; it must end with that."""
        connection, response = self.open_stream(path, body)
        try:
            if response.status != 200:
                raise AssertionError(f"{response.status}: {response.read()}")
            return read_events(response)
        finally:
            connection.close()

    def metrics(self):
        """Name with labels -> value."""
        text = self.request("GET", "/metrics")[2]
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def num_running(self):
        values = self.metrics()
        return sum(v for k, v in values.items() if re.match(r"comet:num_requests_(running|waiting)\b", k))

    def wait_idle(self, timeout=1.0):
        """Seconds until no sequence runs or waits; raises after `timeout`."""
        start = time.monotonic()
        while self.num_running() > 0:
            if time.monotonic() - start > timeout:
                raise AssertionError(f"{self.num_running()} sequences are still there after {timeout} s")
            time.sleep(0.02)
        return time.monotonic() - start

    def socket(self, receive_buffer=None):
        s = socket.socket()
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(20)
        s.connect(("127.0.0.1", self.port))
        return s

    def raw(self, data):
        """What comes back, until the server closes, for bytes on a socket."""
        with self.socket() as s:
            try:
                s.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(s)


def exchange(connection, method, path, body=None, headers=None):
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    data = response.read()
    is_json = response.getheader("Content-Type", "").startswith("application/json")
    return response.status, response.headers, json.loads(data) if is_json and data else data.decode()


def read_events(response):
    events = []
    for line in response:
        line = line.decode().rstrip("\n")
        if line == "data: [DONE]":
            rest = response.read()
            if rest.strip():
                raise AssertionError(f"after [DONE]: {rest}")
            return events
        if line.startswith("data: "):
            events.append(json.loads(line[6:]))
        elif line and not line.startswith(":"):
            raise AssertionError(f"not an event: {line}")
    raise AssertionError(f"no [DONE] after {len(events)} events")


def read_all(s):
    data = b""
    try:
        while more := s.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def post(body, path="/v1/completions", extra=""):
    """The bytes of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{extra}"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def statuses(data):
    """Status codes of the responses in raw bytes."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", data)]


def texts_of(events):
    """Text by choice index of a stream's events."""
    texts = {}
    for event in events:
        for choice in event.get("choices", []):
            text = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            texts[choice["index"]] = texts.get(choice["index"], "") + text
    return texts
