#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fits the cost model of src/kernels/cuda/gemm_plan.cc to timed plans.

    python3 tools/fit_gemm_plan.py [--near] [PLANS.json]

The file is docs/results/gemm_plans_h200.json or what `comet bench gemm --sweep --share4 0 --json FILE` wrote. Prints
the constants and, for every problem, how much slower the plan that the model picks is than the best one timed. The rule
of gemm_plan.cc for power (kPowerShare) is not in it: plans are timed in turn, at one clock. --near: no fit from afar,
only small steps from the constants in use, as after a change of the kernels that leaves most plans' order.
"""

import json
import math
import random
import sys
from pathlib import Path

START = {  # of gemm_plan.cc
    "launch": 1.525,
    "epilogue": 0.01087,
    "split": 1.349,
    "add_token": 0.004355,
    "leave_token": 0.009441,
    "split_stage": 1.438,
    "cluster": 0.8537,
    "cluster_cta": 0.368,
    "cluster_token": 0.01447,
    "token_byte": 0.04864,
    "alone32": 0.2385,
    "alone64": 0.2794,
    "alone96": 0.2675,
    "alone128": 0.3339,
    "alone192": 0.4375,
    "alone256": 0.6252,
    "paired32": 0.309,
    "paired64": 0.5217,
    "sides": 1.28,
    "sides32": 0.167,
    "sides64": 0.197,
    "rows192x64": 0.3772,
    "rows192x128": 0.5901,
}
SMS, CLUSTER_SHARE, BYTES_PER_US = 132, 0.82, 4.1e6


def ceil_div(a, b):
    return -(-a // b)


def per_sm(tile_m):
    return 2 if tile_m <= 64 else 1


def read_rows(path):
    """Rows as in gemm_plans_h200.json; of a file of the bench, one for each plan that it timed."""
    rows = json.loads(path.read_text())["rows"]
    if not isinstance(rows[0], dict):
        return rows
    names = ("tile_m", "sides", "rows", "ctas", "full", "owned", "range", "cluster", "us")
    plans = {
        tuple([row["shape"], row["m"], row["n"], row["k"], *(plan[name] for name in names)])
        for row in rows
        for plan in row.get("sweep", [])
    }
    return sorted(plans)


def is_offered(row):
    """Clusters of three or more above this share of the machine are never candidates."""
    _, _, _, _, tile_m, sides, _, ctas, _, _, _, cluster, _ = row
    room = SMS * (1 if sides == 2 else per_sm(tile_m))
    return tile_m > 0 and not (cluster > 2 and ctas > CLUSTER_SHARE * room)


def predicted_us(c, row):
    """gemm_plan.cc: predicted_us(), but for power."""
    _, m, n, k, tile_m, sides, rows, ctas, whole, owned, run, cluster, _ = row
    groups, tiles_n = k // 128, ceil_div(n, rows)
    paired = tile_m <= 64 and ctas > SMS
    kind = "sides" if sides == 2 else "paired" if paired else "alone"
    stage, epilogue = c[f"rows{rows}x{tile_m}" if rows > 128 else f"{kind}{tile_m}"], c["epilogue"] * tile_m
    busy = 0.0 if sides == 2 else ceil_div(whole, ctas) * (groups * stage + epilogue)
    if cluster > 1 or sides == 2:
        busy += (
            ceil_div(groups, cluster) * stage
            + c["sides" if sides == 2 else "cluster"]
            + c["cluster_cta"] * cluster
            + c["cluster_token"] * tile_m * (cluster - 1) / cluster
            + epilogue / min(cluster * sides, tile_m // 16)
        )
    elif run:
        parts = ceil_div(run, groups - owned)
        helper = run * stage + (c["split"] + c["leave_token"] * tile_m) * parts
        adds = c["split"] + c["add_token"] * tile_m + epilogue
        if whole:  # helpers have long left their parts
            busy += max(owned * stage + adds, helper) * c["split_stage"]
        else:
            busy += max(owned * stage, helper) * c["split_stage"] + adds
    memory = (ceil_div(n, 16) * groups * 1040 + c["token_byte"] * tiles_n * m * k) / BYTES_PER_US
    return c["launch"] + (busy**4 + memory**4) ** 0.25


def regrets(c, rows):
    """Time of the plan the model picks over the best time, for each (shape, m)."""
    points = {}
    for row in rows:
        points.setdefault((row[0], row[1]), []).append((predicted_us(c, row), -row[-1]))
    return {key: -min(plans)[1] / min(-us for _, us in plans) for key, plans in points.items()}


def loss(c, rows, best, picks):
    """Errors of plans near the best count; so does picking a slow one, `picks` times."""
    error = weight = 0.0
    for row in rows:
        w = math.exp(-4 * (row[-1] / best[row[0], row[1]] - 1))
        error += w * math.log(predicted_us(c, row) / row[-1]) ** 2
        weight += w
    picked = regrets(c, rows).values()
    return error / weight + picks * sum(math.log(x) ** 2 + 0.1 * math.log(x) for x in picked) / len(picked)


def descend(c, rows, best, picks, rng, rounds, step=0.3):
    """Moves one constant at a time while that helps."""
    now = loss(c, rows, best, picks)
    for _ in range(rounds):
        for name in c:
            for factor in (1 + step, 1 / (1 + step), 1 + step * rng.random(), 1 / (1 + step * rng.random())):
                tried = dict(c, **{name: c[name] * factor})
                value = loss(tried, rows, best, picks)
                if value < now:
                    c, now = tried, value
        step = max(0.01, step * 0.92)
    return c


def fit(rows, seeds=6):
    """First the times, then mostly the picks; the best of a few walks from different starts."""
    best = {}
    for row in rows:
        best[row[0], row[1]] = min(row[-1], best.get((row[0], row[1]), math.inf))
    walks = []
    for seed in range(seeds):
        rng = random.Random(seed)
        start = {name: value * math.exp(0.2 * rng.gauss(0, 1)) for name, value in START.items()}
        c = descend(start, rows, best, 2.0, rng, 30)
        c = descend(c, rows, best, 40.0, rng, 40, 0.1)
        walks.append((loss(c, rows, best, 40.0), seed, c))
    return min(walks)[2]


def miss(c, rows):
    """What picks lose; powers of two count thrice."""
    return sum((3 if m & (m - 1) == 0 else 1) * math.log(x) for (_, m), x in regrets(c, rows).items())


def polish(start, rows, steps=1500, seed=0):
    """Small random steps, 15% away at most, for the picks alone."""

    rng, c, now = random.Random(seed), start, miss(start, rows)
    for _ in range(steps):
        tried = dict(c)
        for name in rng.sample(sorted(c), rng.randint(1, 4)):
            step = c[name] * math.exp(0.05 * rng.gauss(0, 1))
            tried[name] = min(max(step, start[name] / 1.15), start[name] * 1.15)
        if (value := miss(tried, rows)) <= now:
            c, now = tried, value
    return c


def main():
    root = Path(__file__).resolve().parents[1]
    names = [argument for argument in sys.argv[1:] if argument != "--near"]
    path = Path(names[0]) if names else root / "docs/results/gemm_plans_h200.json"
    rows = [row for row in read_rows(path) if is_offered(row) and row[1] <= 8 * row[4]]
    if "--near" in sys.argv:
        constants = min((polish(START, rows, seed=seed) for seed in range(6)), key=lambda c: miss(c, rows))
    else:
        constants = polish(fit(rows), rows)
    for name, value in constants.items():
        print(f"{name:14s} {value:.4g}")
    picked = regrets(constants, rows)
    mean = math.exp(sum(math.log(x) for x in picked.values()) / len(picked))
    print(f"picked plans: {mean:.3f}x of the best in the mean")
    for (shape, m), x in sorted(picked.items(), key=lambda item: -item[1])[:8]:
        print(f"  {shape} m {m}: {x:.2f}x")


if __name__ == "__main__":
    main()
