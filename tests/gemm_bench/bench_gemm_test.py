# SPDX-License-Identifier: Apache-2.0
"""comet bench gemm where no GPU is needed: saved results, errors, exit codes."""

import json
import os
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMET = Path(os.environ.get("COMET_BUILD_DIR", ROOT / "build")) / "comet"


def bench(*options):
    """(exit code, standard output, standard error)"""
    command = [COMET, "bench", "gemm", *options]
    # Also where there is a GPU this test is about not having one.
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return done.returncode, done.stdout, done.stderr


def row(shape, m, share4, speedup):
    beside = {"us": 10 * speedup, "ours_us": 10, "mhz": 1900, "ours_mhz": 1900}
    return {"shape": shape, "m": m, "n": 4096, "k": 4096, "share4": share4, "us": 10, "fp16": beside, "fused": beside}


class BenchGemm(unittest.TestCase):
    def setUp(self):
        if not COMET.is_file():
            self.skipTest(f"{COMET} is not built")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name, *rows):
        file = self.folder / name
        file.write_text(json.dumps({"gpu": "a GPU", "sms": 1, "rows": rows}))
        return file

    def test_saved_results_become_tables_and_a_plot(self):
        one = self.write("one.json", row("8B.o", 2, 0, 2.0), row("8B.qkv", 2, 0, 8.0))
        two = self.write("two.json", row("8B.o", 64, 75, 3.0))
        svg = self.folder / "all.svg"
        code, out, err = bench("--from", one, two, "--plot", svg)
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"geometric mean +4\.00")
        self.assertRegex(out, r"4-bit  75%, over RMSNorm \+ cuBLAS fp16 +- +3\.00 \(3\.00\)")
        self.assertTrue(ElementTree.parse(svg).getroot().tag.endswith("svg"))

    def test_a_machine_that_cannot_measure(self):
        code, out, err = bench()
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(err, r"\Acomet: bench gemm (needs a Hopper GPU|measures CUDA kernels).*\n\Z")

    def test_options_that_cannot_be(self):
        for options, code, text in (
            (["--shapes", "8B.qvk"], 1, "did you mean 8B.qkv"),
            (["--m", "0"], 1, "--m 0: expected 1 to 65536"),
            (["--m", "many"], 2, "--m"),
            (["--resume"], 1, "--resume goes with --json"),
            (["--ablation"], 1, "in the program comet-bench-gemm only"),
            (["--lm-head", "--quantize"], 1, "--lm-head has neither"),
            (["--ablation", "--sweep"], 1, "--ablation has neither"),
            (["--from", self.folder / "no.json"], 2, "no.json"),
            (["--from", self.write("bad.json", {"shape": "a"})], 1, "bad.json: not what comet bench gemm writes"),
        ):
            with self.subTest(options=options):
                done = bench(*options)
                self.assertEqual(done[0], code, done)
                self.assertIn(text, done[2])

    def test_help_has_examples(self):
        code, out, _ = bench("--help")
        self.assertEqual(code, 0)
        self.assertIn("--resume", out)
        self.assertIn("comet bench gemm --from gemm.json --plot gemm.svg", out)


if __name__ == "__main__":
    unittest.main()
