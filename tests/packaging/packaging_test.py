# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` brings: a foreign program links it; the metrics of the dashboard, the unit's options exist."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("COMET_BUILD_DIR", ROOT / "build")).resolve()
sys.path.insert(0, str(ROOT / "tests/server"))
from comet_server import MODEL, PROMPT, Server, require_server  # noqa: E402


def run(*command, code=0):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    if done.returncode != code:
        raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require_server()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.prefix = Path(cls.folder.name) / "prefix"
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)

    def test_a_foreign_program_finds_and_uses_the_library(self):
        build = Path(self.folder.name) / "consumer"
        source = ROOT / "tests/packaging/consumer"
        run("cmake", "-S", source, "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", build)
        text = run(build / "consumer", MODEL, PROMPT)
        command = [self.prefix / "bin/comet", "complete", MODEL, "-p", PROMPT, "--temp", "0", "-n", "12", "-q"]
        self.assertEqual(text, run(*command).rstrip("\n"))
        run(build / "consumer", self.prefix, PROMPT, code=3)

    def test_the_library_shows_our_interface_only(self):
        names = run("nm", "-DC", "--defined-only", self.prefix / "lib/libcomet.so").splitlines()
        shown = [line.split(maxsplit=2)[2] for line in names if line.split()[1] in "TWVBDR"]
        self.assertIn("comet::api::is_user_error(std::exception const&)", shown)
        self.assertEqual([name for name in shown if "comet::api::" not in name], [])

    def test_the_unit_is_valid(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze")
        unit = (self.prefix / "lib/systemd/system/comet.service").read_text()
        program = re.search(r"ExecStart=(\S+) serve (.*)", unit)
        for option in re.findall(r"--[a-z-]+", program[2]):
            self.assertIn(option, run(self.prefix / "bin/comet", "serve", "--help"))
        file = Path(self.folder.name) / "comet.service"
        file.write_text(unit.replace(program[1], str(self.prefix / "bin/comet")))
        done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_example_configuration_has_options_that_exist(self):
        text = (self.prefix / "share/comet/serve.yaml").read_text()
        file = Path(self.folder.name) / "serve.yaml"
        file.write_text(re.sub(r"(?m)^# (?=[a-z-]+: )", "", text).replace("/srv/models/my-model-w4ax", "/nowhere"))
        command = [self.prefix / "bin/comet", "serve", "--config", file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)  # not 2: the options are fine, the model is not there
        self.assertIn("/nowhere", done.stderr)

    def test_the_dashboard_asks_for_metrics_that_exist(self):
        server = Server()
        self.addCleanup(server.close)
        server.complete(max_tokens=2)
        metrics = "\n".join(server.metrics())
        dashboard = json.loads((self.prefix / "share/comet/grafana.json").read_text())
        asked = {t["expr"] for panel in dashboard["panels"] for t in panel["targets"]}
        names = {name for expr in asked for name in re.findall(r"\$\{prefix\}:(\w+)", expr)}
        self.assertGreater(len(names), 12)
        for name in names:
            self.assertRegex(metrics, rf"(?m)^comet:{name}\{{model_name=", name)


if __name__ == "__main__":
    unittest.main()
