"""What benchmarks/train.py makes of its runs: medians, ratios, a GPU's utilisation, whether all train the same."""

from __future__ import annotations

import re
import statistics

from train_sides import Setting

# Dense bfloat16 FLOP/s, from NVIDIA's data sheets (which print twice as much for H100, H200 and L4: with sparsity).
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12,
         "L4": 121e12}


# Differences of losses that are rounding: before the first step, and in any step of the same batches.
TOLERANCES = {"float32": (1e-4, 5e-3), "bfloat16": (2e-2, 1e-1)}


def utilisation(model_flops: float, seconds: float, device: str) -> float | None:
    """Share of the device's dense bfloat16 peak (PEAKS); None for a device whose peak is not known.

    Worked: 989e12 FLOPs in 2 s on an "NVIDIA H100 80GB HBM3" are 0.5.
    """
    for name, peak in PEAKS.items():  # the more particular names come first
        if re.search(rf"\b{name}\b", device):
            return model_flops / seconds / peak
    return None


def summary(runs: dict[str, list[dict]], model: dict, how: Setting) -> dict:
    """The figures of each side, the ratios between them, and what is wrong (empty: the sides train the same)."""
    sides: dict[str, dict] = {}
    for side, found in runs.items():
        speeds = [run["useful"] / run["seconds"] for run in found]
        last = found[-1]
        shares = [utilisation(run["useful"] * model["flops_per_token"], run["seconds"], run["device"]) for run in found]
        sides[side] = {
            "tokens_per_second": statistics.median(speeds), "all_tokens_per_second": speeds,
            "padding": 1 - last["useful"] / last["places"], "seconds_per_step": statistics.median(
                run["seconds"] for run in found) / how.num_steps, "cpu_seconds_per_step": statistics.median(
                run["cpu_seconds"] for run in found) / how.num_steps,
            "first_batch_before": last["before"], "first_batch_after": last["after"], "first_step": last["losses"][0],
            "last_step": last["losses"][-1], "compiling_seconds": statistics.median(r["compiling"] for r in found),
            "programs": last["programs"], "rows": last["rows"], "device": last["device"],
            "utilisation": None if None in shares else statistics.median(shares)}
    ratios, cpu_ratios = {}, {}
    for over, under in (("packed", "transformers"), ("unpacked", "transformers"), ("packed", "unpacked")):
        if over in runs and under in runs:
            for which, name in ((ratios, "seconds"), (cpu_ratios, "cpu_seconds")):
                each = [(a["useful"] / a[name]) / (b["useful"] / b[name])
                        for a, b in zip(runs[over], runs[under], strict=True)]
                which[f"{over}/{under}"] = {"median": statistics.median(each), "least": min(each), "most": max(each)}
    return {"sides": sides, "ratios": ratios, "cpu_ratios": cpu_ratios,
            "wrong": differences(runs, TOLERANCES[how.dtype])}


def differences(runs: dict[str, list[dict]], tolerance: tuple[float, float]) -> list[str]:
    """Where losses of the sides lie further apart than (before the first step, in a step of the same batches)."""
    found = []
    (name, first), *others = ((side, each[-1]) for side, each in runs.items())
    for side, run in others:
        if not abs(run["before"] - first["before"]) <= tolerance[0]:
            found.append(f"loss of the first batch before the first step: {first['before']:.6f} of {name}, "
                         f"{run['before']:.6f} of {side}")
    if {"transformers", "unpacked"} <= runs.keys():
        pairs = zip(*(runs[side][-1]["losses"] for side in ("transformers", "unpacked")), strict=True)
        for number, (theirs, ours) in enumerate(pairs):
            if not abs(theirs - ours) <= tolerance[1]:
                found.append(f"loss of step {number}: {theirs:.6f} of transformers, {ours:.6f} of unpacked")
    return found


def show(found: dict) -> None:
    """The tables of a summary."""
    print(f"\n{'side':13} {'useful tokens/s':>15} {'(least .. most)':>18} {'padding':>8} {'s/step':>7} {'CPU s':>6} "
          f"{'rows':>5} {'compiling':>10} {'first batch before, after':>26} "
          f"{'step first, last':>17} {'of bf16 peak':>13}")
    for side, row in found["sides"].items():
        speeds, share = row["all_tokens_per_second"], row["utilisation"]
        print(f"{side:13} {row['tokens_per_second']:15,.0f} {f'({min(speeds):,.0f} .. {max(speeds):,.0f})':>18} "
              f"{row['padding']:8.1%} {row['seconds_per_step']:7.2f} "
              f"{row['cpu_seconds_per_step']:6.2f} {row['rows']:5} "
              f"{row['compiling_seconds']:8.1f} s "
              f"{row['first_batch_before']:18.5f}, {row['first_batch_after']:.4f} "
              f"{row['first_step']:9.4f}, {row['last_step']:.4f} {'-' if share is None else f'{share:.1%}':>13}")
    for title, key in (("a second", "ratios"), ("a CPU second", "cpu_ratios")):
        print(f"\n{'useful tokens ' + title + ', ratio':37} {'median':>7} {'least':>7} {'most':>7}")
        for name, ratio in found[key].items():
            print(f"{name:37} {ratio['median']:7.2f} {ratio['least']:7.2f} {ratio['most']:7.2f}")
    print()
    for name in sorted({row["device"] for row in found["sides"].values()}):
        if utilisation(1.0, 1.0, name) is None:
            print(f"device {name!r}: " + ("no GPU, so no share of a peak" if name.startswith("cpu") else
                                          f"no peak known (of {', '.join(PEAKS)}), so no share of it"))
    for line in found["wrong"]:
        print(f"FAIL: {line}")
