# SPDX-License-Identifier: Apache-2.0
"""The tree keeps its module edges and house rules, and the checker finds every kind of planted violation."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import layering  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
LAYERS = layering.read_layers(Path(__file__).with_name("layers.txt"))
SPDX = "// SPDX-License-Identifier: Apache-2.0\n"


class Tree(unittest.TestCase):
    def test_tree_is_clean(self):
        problems = layering.check_tree(ROOT, LAYERS)
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def test_table_names_every_module(self):
        for folder in (ROOT / "src").iterdir():
            if folder.is_dir():
                self.assertIn(folder.name, LAYERS)

    def test_backends_do_not_see_each_other(self):
        backends = {"kernels/ref", "kernels/cpu", "kernels/cuda"}
        for module, allowed in LAYERS.items():
            if module not in ("api", "bench", "bench/gemm"):
                self.assertLessEqual(allowed & backends, {module})


class Planted(unittest.TestCase):
    """A small tree that is clean, then one violation at a time."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("src/base/check.h", SPDX)
        self.write("src/kernels/gemm.h", SPDX + '#include "base/check.h"\n#include <vector>\n')
        self.write("src/kernels/cpu/gemm.h", SPDX + '#include "kernels/gemm.h"\n')
        self.write("src/engine/loop.h", SPDX)
        self.write("include/comet/comet.h", SPDX)
        self.write("src/api/api.cc", SPDX + '#include "comet/comet.h"\n#include "kernels/cpu/gemm.h"\n')
        self.write("apps/main.cc", SPDX + "#include <comet/comet.h>\n")

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def problems(self):
        return layering.check_tree(self.root, LAYERS)

    def expect(self, *expected):
        self.assertEqual(self.problems(), list(expected))

    def test_clean(self):
        self.expect()

    def test_upward(self):
        self.write("src/base/a.cc", SPDX + '\n#include "engine/loop.h"\n')
        self.expect("src/base/a.cc:3: base must not include engine (engine/loop.h)")

    def test_sideways(self):
        self.write("src/kernels/ref/a.cc", SPDX + '#include "kernels/cpu/gemm.h"\n')
        self.expect("src/kernels/ref/a.cc:2: kernels/ref must not include kernels/cpu (kernels/cpu/gemm.h)")

    def test_backend_above_the_table(self):
        self.write("src/model/a.cc", SPDX + "#include <kernels/cpu/gemm.h>\n")
        self.expect("src/model/a.cc:2: model must not include kernels/cpu (kernels/cpu/gemm.h)")

    def test_app_past_the_api(self):
        self.write("apps/a.cc", SPDX + '#  include "base/check.h"\n')
        self.expect("apps/a.cc:2: apps must not include base (base/check.h)")

    def test_public_header(self):
        self.write("include/comet/a.h", SPDX + '#include "base/check.h"\n')
        self.expect("include/comet/a.h:2: comet must not include base (base/check.h)")

    def test_dot_dot(self):
        self.write("src/base/a.cc", SPDX + '#include "../engine/loop.h"\n')
        self.expect("src/base/a.cc:2: include ../engine/loop.h by its module path, not with ..")

    def test_missing_header(self):
        self.write("src/base/a.cc", SPDX + '#include "base/gone.h"\n')
        self.expect("src/base/a.cc:2: base/gone.h does not exist")

    def test_tests_are_no_module(self):
        self.write("tests/engine/sample.h", SPDX)
        self.write("src/engine/a.cc", SPDX + '#include "tests/engine/sample.h"\n')
        self.expect("src/engine/a.cc:2: tests/engine/sample.h belongs to no module of the layer table")

    def test_path_from_the_root(self):
        self.write("bench/cpu/a.h", SPDX)
        self.write("bench/cpu/a.cc", SPDX + '#include "bench/cpu/a.h"\n#include "kernels/cpu/gemm.h"\n')
        self.expect()

    def test_module_outside_src(self):
        self.write("bench/gemm/a.h", SPDX)
        self.write("bench/gemm/a.cc", SPDX + '#include "bench/gemm/a.h"\n#include "kernels/cpu/gemm.h"\n')
        self.expect("bench/gemm/a.cc:3: bench/gemm must not include kernels/cpu (kernels/cpu/gemm.h)")

    def test_unknown_module(self):
        self.write("src/extra/a.cc", SPDX)
        self.expect("src/extra/a.cc:1: belongs to no module of the layer table")

    def test_folder_name(self):
        self.write("src/engine/utils/a.txt", "")
        self.expect("src/engine/utils:1: no folder is called utils")

    def test_licence(self):
        self.write("tools/a", "#!/bin/sh\n")
        self.expect("tools/a:1: no SPDX line")

    def test_length(self):
        self.write("src/base/a.cc", SPDX + "\n" * layering.MAX_LINES)
        self.expect("src/base/a.cc:801: 801 lines, at most 800")

    def test_machine_path(self):
        self.write("tests/a.cc", SPDX + 'open("/' + 'tmp/x");\n// and /' + "work/x, but not a/work or x/tmp/y\n")
        self.expect("tests/a.cc:2: machine path /" + "tmp", "tests/a.cc:3: machine path /" + "work")

    def test_table_with_a_cycle(self):
        self.write("layers.txt", "a: b\nb: a\n")
        with self.assertRaises(ValueError):
            layering.read_layers(self.root / "layers.txt")


if __name__ == "__main__":
    unittest.main()
