# SPDX-License-Identifier: Apache-2.0
"""Holds the source tree against the layer table and the house rules: python3 layering.py [ROOT]."""

import re
import sys
from pathlib import Path

CODE = {".h", ".cc", ".cu", ".cuh", ".c"}
SOURCE = CODE | {".rs", ".py", ".cmake", ".sh"}
FOLDERS = ["src", "include", "apps", "bench", "python", "tests", "tools", "cmake", ".ci"]
BAD_FOLDERS = {"utils", "util", "common", "misc"}
MAX_LINES = 800
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
MACHINE_PATH = re.compile(r"(?<![\w.$}*~-])/(work|tmp|home|root|mnt|Users)\b")


def read_layers(path):
    """The table as {module: set of all modules it may include, itself too}."""
    direct = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        module, colon, below = line.partition(":")
        if not colon or module in direct:
            raise ValueError(f"{path}:{number}: expected one line `module: modules` per module")
        for name in below.split():
            # Only modules further up may be named, so the table cannot contain a cycle.
            if name not in direct:
                raise ValueError(f"{path}:{number}: {module} names {name}, which has no line above it")
        direct[module] = below.split()
    closed = {}
    for module, below in direct.items():
        closed[module] = {module}.union(*(closed[name] for name in below))
    return closed


def module_of(path, layers):
    """The module of a path relative to the root, such as src/kernels/cpu/gemm.h; None outside of all of them."""
    parts = path.parts
    if parts[0] in ("src", "include"):
        parts = parts[1:]
    for length in range(len(parts) - 1, 0, -1):
        name = "/".join(parts[:length])
        if name in layers:
            return name
    return None


def include_problems(root, path, layers):
    """Broken edges of one source file outside tests/."""
    owner = module_of(path, layers)
    if owner is None:
        yield f"{path}:1: belongs to no module of the layer table"
        return
    for number, line in enumerate((root / path).read_text(errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match[1]
        if ".." in Path(name).parts:
            yield f"{path}:{number}: include {name} by its module path, not with .."
            continue
        bases = (path.parent, Path("src"), Path("include"), Path())
        found = [base / name for base in bases if (root / base / name).is_file()]
        target = module_of(found[0] if found else Path("src") / name, layers)
        if found and target is None:
            yield f"{path}:{number}: {name} belongs to no module of the layer table"
        elif not found and target is not None:
            yield f"{path}:{number}: {name} does not exist"
        elif target is not None and target not in layers[owner]:
            yield f"{path}:{number}: {owner} must not include {target} ({name})"


def is_source(path):
    if path.suffix in SOURCE or path.name in ("CMakeLists.txt", "Makefile"):
        return True
    return path.suffix == "" and path.is_file() and path.read_bytes()[:2] == b"#!"


def file_problems(root, path):
    """What every source file has to keep: licence line, length, no path of one machine."""
    lines = (root / path).read_text(errors="replace").splitlines()
    if not any("SPDX-License-Identifier:" in line for line in lines[:3]):
        yield f"{path}:1: no SPDX line"
    if len(lines) > MAX_LINES:
        yield f"{path}:{MAX_LINES + 1}: {len(lines)} lines, at most {MAX_LINES}"
    for number, line in enumerate(lines, 1):
        match = MACHINE_PATH.search(line)
        if match:
            yield f"{path}:{number}: machine path {match[0]}"


def check_tree(root, layers):
    """All problems of the tree as `file:line: text`."""
    problems = []
    files = [root / name for name in ("CMakeLists.txt", "Makefile") if (root / name).is_file()]
    for folder in FOLDERS:
        files += sorted((root / folder).rglob("*"))
    for file in files:
        path = file.relative_to(root)
        if "__pycache__" in path.parts or "target" in path.parts:
            continue
        if file.is_dir():
            if path.name in BAD_FOLDERS:
                problems.append(f"{path}:1: no folder is called {path.name}")
        elif is_source(file):
            problems += file_problems(root, path)
            if file.suffix in CODE and path.parts[0] in ("src", "include", "apps", "bench", "python"):
                problems += include_problems(root, path, layers)
    return problems


def main():
    here = Path(__file__).resolve().parent
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else here.parents[1]
    problems = check_tree(root, read_layers(here / "layers.txt"))
    print("\n".join(problems) or "layering: clean")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
