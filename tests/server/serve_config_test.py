# SPDX-License-Identifier: Apache-2.0
"""The server's options from a YAML file, from the environment and from the command line, the last of which counts."""

import json
import os
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from comet_server import COMET, MODEL, require_server


def setUpModule():
    require_server()


def environment(variables):
    return {k: v for k, v in os.environ.items() if not k.startswith("COMET_")} | variables


def fetch_status(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code


def refusal(test, text, *options, env=None):
    """Exit code 2 and standard error of a server that does not start with this configuration."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "serve.yaml"
        file.write_text(text)
        command = [COMET, "serve", "--config", file, *options]
        done = subprocess.run(command, env=environment(env or {}), capture_output=True, text=True, timeout=60)
        test.assertEqual(done.returncode, 2, done.stderr)
        return done.stderr.replace(str(file), "FILE")


class Config(unittest.TestCase):
    def served_names(self, text, *options, env=None):
        """Names of the models that a server with this file, environment and options serves, and its log lines."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "serve.yaml"
            file.write_text(text)
            command = [COMET, "serve", "--port", "0", "-q", *options]
            child = subprocess.Popen(
                [str(part) for part in command],
                env=environment({"COMET_CONFIG": str(file)} | (env or {})),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                url = child.stdout.readline().removeprefix("listening on ").strip()
                self.assertTrue(url, "it did not start")
                while fetch_status(url + "/health") == 503:  # it loads the model
                    time.sleep(0.02)
                request = urllib.request.Request(url + "/v1/models", headers={"Authorization": "Bearer k1"})
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return [model["id"] for model in json.load(answer)["data"]]
            finally:
                child.terminate()
                child.communicate(timeout=60)

    def test_file_then_environment_then_command_line(self):
        file = f"model: {MODEL}\nserved_model_name: [of-the-file, second]\nno-request-log: true\nkv-memory: 64MB\n"
        environment_name = {"COMET_SERVED_MODEL_NAME": "of-the-environment"}
        self.assertEqual(self.served_names(file), ["of-the-file", "second"])
        self.assertEqual(self.served_names(file, env=environment_name), ["of-the-environment"])
        self.assertEqual(self.served_names(file, "--served-model-name", "mine", env=environment_name), ["mine"])

    def test_model_of_the_command_line_counts_before_dummy_weights_of_the_file(self):
        self.assertEqual(self.served_names("dummy-weights: nowhere.json\n", MODEL), ["gutenberg-15m"])

    def test_key_of_the_file_is_needed(self):
        with self.assertRaises(urllib.error.HTTPError) as raised:
            self.served_names(f"model: {MODEL}\napi-key: another\n")
        self.assertEqual(raised.exception.code, 401)
        self.assertEqual(
            self.served_names(f"model: {MODEL}\napi-key: another\n", env={"COMET_API_KEY": "k1"})[0][:5], "guten"
        )

    def test_refusals_name_file_and_line(self):
        self.assertIn("FILE:2: there is no option prot", refusal(self, f"model: {MODEL}\nprot: 1\n"))
        self.assertIn("FILE:3: port is given twice", refusal(self, "model: x\nport: 1\nport: 2\n"))
        self.assertIn("FILE:1: port must be a value or a list", refusal(self, "port: {a: 1}\n"))
        self.assertIn("FILE:1: port takes one value", refusal(self, "port: [1, 2]\n"))
        self.assertIn("FILE:2: ", refusal(self, "model: x\nmax-queue: -3\n"))
        self.assertIn("FILE:2: ", refusal(self, "model: x\nno-auth: perhaps\n"))
        self.assertIn("FILE:2: ", refusal(self, "port: [1\n"))
        self.assertIn("FILE: must be a mapping", refusal(self, "- port\n"))
        self.assertIn("COMET_PORT: ", refusal(self, "model: x\n", env={"COMET_PORT": "http"}))
        self.assertIn("model is required", refusal(self, ""))
        done = subprocess.run([COMET, "serve", "--config", "nowhere.yaml"], capture_output=True, text=True)
        self.assertEqual((done.returncode, "nowhere.yaml: cannot be read" in done.stderr), (2, True), done.stderr)


if __name__ == "__main__":
    unittest.main()
