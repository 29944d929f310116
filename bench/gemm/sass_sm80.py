#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the sm_80 machine code of GEMM and quantize_act out of a program: checks, counts, projects A100 and L40S."""

import argparse
import collections
import heapq
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SKIP = 77  # exit code of a check that cannot run here
TILES = (16, 32, 64, 128)
WARPS = 4
# Pipes that take 16 lanes a clock, so a warp's instruction two clocks; all others only take an issue slot.
MULTIPLIER = ("IMAD", "FFMA", "FMUL", "FADD")
LOGIC = ("LOP3", "SHF", "IADD3", "PRMT", "LEA", "ISETP", "SEL", "MOV", "IMNMX", "PLOP3", "VIADD")

SHAPES = {  # LLaMA-3: n, k
    "8B.qkv": (6144, 4096),
    "8B.o": (4096, 4096),
    "8B.gate_up": (28672, 4096),
    "8B.down": (4096, 14336),
    "70B.qkv": (10240, 8192),
    "70B.o": (8192, 8192),
    "70B.gate_up": (57344, 8192),
    "70B.down": (8192, 28672),
}
# imma: clocks of one warp's m16n8k64 u4 x s4 and m16n8k32 u8 x s8 (A100: 4096 and 2048 products a clock and SM, Ada:
# half of that). fp16: TFLOP/s that cuBLAS is taken to reach, 85% of the peak; memory: TB/s, 88% of the peak.
DEVICES = {
    "A100": {"sms": 108, "ghz": 1.41, "imma4": 8, "imma8": 8, "fp16": 265, "memory": 1.8, "shared": 164},
    "L40S": {"sms": 142, "ghz": 2.52, "imma4": 16, "imma8": 16, "fp16": 308, "memory": 0.76, "shared": 100},
}
ATTAINED = 0.85  # of the bound, as cuBLAS is taken to reach of its own
LAUNCH_US = 2.0
EPILOGUE = 20  # issue slots an accumulator (16 to 23 were counted): staging, conversion, scales, store


def find_tool(name):
    """On PATH, in CUDA_HOME, or beside the nvcc of tools/setup --cuda; None where it is not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "comet"
    folders = [os.environ.get("PATH", ""), os.environ.get("CUDA_HOME", "") + "/bin", str(cache / "cuda-13.0/bin")]
    return shutil.which(name, path=os.pathsep.join(folders))


class Instruction(NamedTuple):
    address: int
    predicated: bool
    op: str
    operands: str


def functions(program, arch):
    """Mangled name -> the instructions of every kernel in the program."""
    args = [find_tool("cuobjdump"), "--dump-sass", "-arch", arch, str(program)]
    text = subprocess.run(args, check=True, capture_output=True, text=True).stdout
    found = {}
    for part in text.split("Function : ")[1:]:
        lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);", part)
        found[part.split("\n", 1)[0]] = [Instruction(int(a, 16), p != "", op, rest.strip()) for a, p, op, rest in lines]
    return found


def named(found, pattern, key):
    """The kernels whose name matches, by what key makes of the match."""
    matches = ((re.search(pattern, name), code) for name, code in found.items())
    return {key(match): code for match, code in matches if match}


def gemm_kernels(found):
    """tile_m -> the instructions of gemm_w4ax_sm80."""
    return named(found, r"gemm_w4ax_sm80INS0_8TileSm80ILi(\d+)E", lambda match: int(match[1]))


def quantize_kernels(found):
    """(rows, groups of a lane, threads) -> the instructions of quantize_act_ax_sm80."""
    pattern = r"quantize_act_ax_sm80_kernelINS0_\d(?:PickedRowI(f)|PickedRowI(?=NS)|(Any|Silu)Row).*?ELi(\d+)ELi(\d+)E"
    return named(found, pattern, lambda m: (m[2] or ("Picked f32" if m[1] else "Picked bf16"), int(m[3]), int(m[4])))


def following(code, at, index):
    """Where execution may go on after an instruction."""
    instruction = code[at]
    if instruction.op in ("EXIT", "RET") and not instruction.predicated:
        return []
    if not instruction.op.startswith("BRA") or instruction.op == "BRA.DIV":  # .DIV: where a warp has come apart
        return [at + 1]
    target = index[int(re.search(r"0x([0-9a-f]+)$", instruction.operands)[1], 16)]
    conditional = instruction.predicated or "P" in instruction.operands
    return [target, at + 1] if conditional else [target]


def shortest_path(code, start, end):
    """Fewest instructions executed from index start until index end, which is left out."""
    index = {instruction.address: i for i, instruction in enumerate(code)}
    queue, came = [(0, start, -1)], {}
    while end not in came or end == start:
        cost, at, previous = heapq.heappop(queue)
        if at in came:
            continue
        came[at] = previous
        if at == end:
            break
        for to in following(code, at, index):
            heapq.heappush(queue, (cost + 1, to, at))
    path, at = [], came[end]
    while at >= 0:
        path.append(at)
        at = came[at]
    return path[::-1]


def steps(code):
    """Step kind -> opcodes that a warp executes for one step, the copies of a later step included."""
    ops = [instruction.op for instruction in code]
    first = next(i for i, op in enumerate(ops) if op == "DEPBAR.LE" and not code[i].operands.endswith("0x0"))
    copy = next(i for i in range(first, len(code)) if ops[i].startswith("LDGSTS"))
    commit = ops.index("LDGDEPBAR", copy)
    last_copy = copy  # of the block that begins there
    for i in range(copy, commit):
        if ops[i].startswith("BRA"):
            break
        if ops[i].startswith("LDGSTS"):
            last_copy = i
    products, block = collections.defaultdict(list), 0  # by block of the loop
    for i in range(commit, len(code)):
        if ops[i].startswith("IMMA"):
            products[block].append(i)
        if ops[i].startswith("BRA"):
            block = i
    head = shortest_path(code, first, copy) + list(range(copy, last_copy)) + shortest_path(code, last_copy, commit)
    found = {}
    for inside in products.values():
        body = shortest_path(code, commit, inside[0]) + list(range(inside[0], inside[-1]))
        path = [ops[i] for i in head + body + shortest_path(code, inside[-1], first)]
        if ops[inside[0]].endswith("U4.S4"):
            kind = "int4"
        else:  # 8-bit groups read parameters, constants do not
            kind = "int8" if any(ops[i] == "LDS.U16" for i in body) else "zero"
        found[kind] = path
    return found


def count(ops):
    """Instructions by pipe; shared: clocks of shared memory for a whole CTA."""
    loads = sum(4 if op == "LDS.128" else 1 for op in ops if op.startswith("LDS"))
    copies = sum(op.startswith("LDGSTS") for op in ops)
    return {
        "all": len(ops),
        "imma": sum(op.startswith("IMMA") for op in ops),
        "multiplier": sum(op.startswith(MULTIPLIER) for op in ops),
        "logic": sum(op.startswith(LOGIC) for op in ops),
        "shared": WARPS * (loads + 4 * copies),
    }


QUANTIZE = [("Any", 0), ("Picked bf16", 1), ("Picked f32", 1), ("Picked f32", 1), ("Silu", 1), ("Silu", 2)]


def check_quantize(program, all_kernels):
    """No local memory, or an exception that says which kernel."""
    found = quantize_kernels(all_kernels)
    if sorted(key[:2] for key in found) != QUANTIZE:
        raise SystemExit(f"{program}: kernels of quantize_act_ax_sm80 for {sorted(found)}, expected {QUANTIZE}")
    for key, code in found.items():
        local = [instruction.op for instruction in code if instruction.op.startswith(("LDL", "STL"))]
        if local:
            raise SystemExit(f"quantize_act_ax_sm80 {key}: local memory {local}")
    return found


def token_loop(code, units):
    """What a warp executes for a token of 4-bit rotated groups: loads, rotation, codes, stores; no rare path, no sum of
    squares and not warp 0's share."""
    runs = [[]]  # of instructions that always follow each other
    for i, instruction in enumerate(code):
        runs[-1].append(i)
        if instruction.op.startswith(("BRA", "EXIT", "RET")) and instruction.op != "BRA.DIV":
            runs.append([])
    shuffles = [[i for i in run if code[i].op.startswith("SHFL")] for run in runs]
    rotations = [inside[0] for inside in shuffles if len(inside) >= 24]
    stores = [i for i, instruction in enumerate(code) if instruction.op.startswith("STG.E.64")]
    if len(stores) != units or len(rotations) != 2 * units:  # for each: all groups rotated, or where the regions meet
        raise SystemExit(
            f"{len(rotations)} rotations and {len(stores)} stores of 4-bit codes for {units} groups a lane"
        )
    best = None
    for choice in range(2):
        way = [rotations[2 * unit + choice] for unit in range(units)] + stores
        path = [i for start, end in zip(way, [*way[1:], way[0]], strict=True) for i in shortest_path(code, start, end)]
        best = path if best is None or len(path) < len(best) else best
    return [code[i].op for i in best]


def check(program):
    """Native INT4 products and no local memory, or an exception that says which kernel."""
    all_kernels = functions(program, "sm_80")
    check_quantize(program, all_kernels)
    found = gemm_kernels(all_kernels)
    if sorted(found) != sorted(TILES):
        raise SystemExit(f"{program}: kernels for tiles of {sorted(found)} tokens, expected {TILES}")
    for tile_m, code in found.items():
        ops = collections.Counter(instruction.op for instruction in code)
        local = [op for op in ops if op.startswith(("LDL", "STL"))]
        if ops["IMMA.16864.U4.S4"] == 0 or local:
            raise SystemExit(f"tile of {tile_m}: {ops['IMMA.16864.U4.S4']} native INT4 products, local memory {local}")
    return found


def bound_clocks(counts, device, kind):
    """Clocks that the busiest unit of an SM needs for one step of one CTA."""
    imma = device["imma4"] if kind == "int4" else device["imma8"]
    return max(counts["imma"] * imma, 2 * counts["multiplier"], 2 * counts["logic"], counts["all"], counts["shared"])


def choose_tile_m(m):
    """As gemm_plan_sm80.cc."""
    for tile_m in (16, 32, 64):
        if m <= tile_m:
            return tile_m
    return 64 if -(-m // 128) * 128 * 4 > -(-m // 64) * 64 * 5 else 128


def project_us(device, counts, m, n, k, share4):
    """Ours by the busiest unit or by bytes, and cuBLAS fp16 by its rate or by bytes."""
    groups = k // 128
    int4 = round(groups * share4)
    zero = math.ceil(groups / 32) - (groups - int4) // 32 if int4 else 0
    tile_m = choose_tile_m(m)
    tiles = math.ceil(m / tile_m) * math.ceil(n / 128)
    by_kind = {kind: bound_clocks(counts[tile_m][kind], device, kind) for kind in ("int8", "zero", "int4")}
    mainloop = 2 * (groups - int4) * by_kind["int8"] + zero * by_kind["zero"] + int4 * by_kind["int4"]
    compute = tiles * (mainloop + EPILOGUE * tile_m) / device["sms"] / device["ghz"] / 1e3
    padded_n = math.ceil(n / 128) * 128
    steps_of_k = 2 * (groups - int4) + zero + int4
    moved = padded_n * (groups * 65 + math.ceil(groups / 32) * 32) + m * steps_of_k * 64 + 2 * m * n
    memory = moved / device["memory"] / 1e6
    fp16 = max(2 * m * n * k / device["fp16"] / 1e6, 2 * (n * k + m * k + m * n) / device["memory"] / 1e6)
    return max(compute / ATTAINED, memory) + LAUNCH_US, fp16 + LAUNCH_US


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


def report(program, path):
    result = {"counts": {}, "speedup_over_fp16": {}}
    counts = {}
    for tile_m, code in sorted(check(program).items()):
        counts[tile_m] = {kind: count(ops) for kind, ops in steps(code).items()}
        for kind, c in counts[tile_m].items():
            print(  # 128 rows x tile_m tokens over 128 threads: tile_m accumulators a thread
                f"tile {tile_m:3} {kind}: {c['all']} instructions ({c['all'] / tile_m:.2f} an accumulator), "
                f"{c['imma']} imma, {c['multiplier']} multiplier, {c['logic']} logic, {c['shared']} clocks shared"
            )
    result["counts"] = counts
    result["quantize"] = {}
    for (rows, units, threads), code in sorted(quantize_kernels(functions(program, "sm_80")).items()):
        if units == 0:
            continue
        ops, channels = token_loop(code, units), 16 * units
        of = {"all": len(ops), "float": sum(op.startswith(("FFMA", "FADD", "FMUL")) for op in ops)}
        result["quantize"][f"{rows}, {units} groups a lane, {threads} threads"] = of
        print(
            f"quantize {rows} rows, {units} groups a lane, {threads} threads: {of['all'] / channels:.1f} instructions "
            f"a channel, {of['float'] / channels:.1f} of them fp32"
        )
    for name, device in DEVICES.items():
        for share4 in (0.75, 1.0, 0.0):
            row = {}
            for m in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
                times = [project_us(device, counts, m, n, k, share4) for n, k in SHAPES.values()]
                row[m] = round(geometric_mean([fp16 / ours for ours, fp16 in times]), 2)
            row["16, 64, 256"] = round(geometric_mean([row[m] for m in (16, 64, 256)]), 2)
            result["speedup_over_fp16"][f"{name} {share4:.0%} 4-bit"] = row
            print(f"{name}, {share4:.0%} 4-bit groups: " + "  ".join(f"M {m}: {v}" for m, v in row.items()))
    if path:
        Path(path).write_text(json.dumps(result, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="holds the kernels: test_kernels_cuda")
    parser.add_argument("--check", action="store_true", help="only: native INT4 products, no local memory")
    parser.add_argument("--json", help="writes counts and projection there")
    options = parser.parse_args()
    if not find_tool("cuobjdump"):
        print("no cuobjdump: tools/setup --cuda gets it")
        return SKIP
    if options.check:
        check(options.program)
    else:
        report(options.program, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
