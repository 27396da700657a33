"""Precision and recall of "has a wrong step", of verify/steps.py against 350 real solutions labelled by hand.

    LIBRA_SHARED=FOLDER python benchmarks/steps.py     # seconds; no network, no accelerator

Needs $LIBRA_SHARED/data/rollouts (default ../shared beside the repository) with gsm8k_gpt3_solutions.jsonl.gz and
math_qwen2.5_math.jsonl.gz. The labels are tests/verify/step_labels.jsonl; docs/criteria.md says what counts as a wrong
step, and how the samples were drawn. Precision is of the labelled solutions that are flagged. Recall sets the
flagged ones of all that the sample was drawn from, times precision, against the missed ones: those missed in each
stratum, times its size over its labelled ones. Intervals (95 %) are percentiles of 10,000 draws of these shares from
their Beta posteriors with Jeffreys's prior, so that a stratum in which nothing was missed still counts as one in which
something may be; they are wide for recall, since most solutions lie in strata of which few were labelled.
"""

from __future__ import annotations

import collections
import gzip
import json
import os
import pathlib

import numpy as np

from libra_jax.verify import steps

ROOT = pathlib.Path(__file__).parents[1]
LABELS = ROOT / "tests/verify/step_labels.jsonl"
# Solutions of each stratum when its sample was drawn, by what the code of that time flagged; the second and the third
# sample are of those that the earlier ones left over.
SIZES = {1: {"flagged": 112, "unflagged_wrong": 1531, "unflagged_right": 997},
         2: {"flagged": 66, "unflagged_wrong": 1457, "unflagged_right": 967},
         3: {"flagged": 42, "unflagged_wrong": 1440, "unflagged_right": 958}}


def estimate(rows: list[dict], flags: list[bool], sizes: dict[str, int], num_flagged: int, *,
             draws: int = 10_000) -> np.ndarray:
    """[precision, recall] x [value, low, high] of the flags of labelled rows (`stratum`, `wrong`).

    Of `sizes` solutions in all, the code flags `num_flagged`. Worked: 10 flagged, of which one of two labelled ones is
    wrong, and in a stratum of 90 a missed one among 18 labelled: precision 1/2, recall 5 / (5 + 5).
    """
    generator = np.random.default_rng(0)

    def share(hits: int, of: int) -> np.ndarray:
        drawn = generator.beta(hits + 0.5, of - hits + 0.5, draws)
        return np.concatenate([[hits / of], drawn])

    marked = list(zip(rows, flags, strict=True))
    precision = share(sum(row["wrong"] for row, flag in marked if flag), sum(flags))
    missed = 0
    for name, size in sizes.items():
        here = [row["wrong"] and not flag for row, flag in marked if row["stratum"] == name]
        if not all(flag for row, flag in marked if row["stratum"] == name):
            missed = missed + size * share(sum(here), len(here))
    recall = num_flagged * precision / (num_flagged * precision + missed)
    bounds = [(rate[0], *np.quantile(rate[1:], [0.025, 0.975])) for rate in (precision, recall)]
    return np.array([(value, min(low, value), max(high, value)) for value, low, high in bounds])


def _show(sample: str, code: str, rows: list[dict], flags: list[bool], sizes: dict[str, int], num_flagged: int) -> None:
    rates = ["{:5.1%} [{:.1%}, {:.1%}]".format(*rate) for rate in estimate(rows, flags, sizes, num_flagged)]
    wrong = sum(row["wrong"] for row in rows)
    print(f"{sample:<7}{code:<19}{len(rows):>9}{wrong:>6}{sum(flags):>8}  {rates[0]:<22}{rates[1]}")


def main() -> None:
    """Prints the table, and what is found and flagged in all solutions of both files."""
    folder = pathlib.Path(os.environ.get("LIBRA_SHARED", ROOT.parent / "shared")) / "data/rollouts"
    with gzip.open(folder / "gsm8k_gpt3_solutions.jsonl.gz", "rt", encoding="utf-8") as lines:
        solutions = [{name: value["solution"] for name, value in json.loads(line).items() if isinstance(value, dict)}
                     for line in lines]
    labels = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    flagged = {(problem, policy) for problem, row in enumerate(solutions) for policy, text in row.items()
               if steps.first_wrong(text)}
    print(f"{'sample':<7}{'code':<19}{'labelled':>9}{'wrong':>6}{'flagged':>8}  precision             recall")
    for sample, sizes in SIZES.items():
        rows = [row for row in labels if row["sample"] == sample]
        earlier = {(row["problem"], row["policy"]) for row in labels if row["sample"] < sample}
        _show(str(sample), "when it was drawn", rows, [row["stratum"] == "flagged" for row in rows], sizes,
              sizes["flagged"])
        _show("", "now", rows, [(row["problem"], row["policy"]) in flagged for row in rows], sizes,
              len(flagged - earlier))
    # The samples follow each other in one order, and their strata differ by a few solutions: one sample of all.
    _show("all", "now", labels, [(row["problem"], row["policy"]) in flagged for row in labels], SIZES[1], len(flagged))
    with gzip.open(folder / "math_qwen2.5_math.jsonl.gz", "rt", encoding="utf-8") as lines:
        responses = [response for line in lines for response in json.loads(line)["response"]]
    for name, texts in (("gsm8k_gpt3", [text for row in solutions for text in row.values()]), ("math_qwen", responses)):
        counts = collections.Counter()
        for text in texts:
            found = [step.correct for step in steps.steps(text)]
            counts.update(steps=len(found), wrong=found.count(False), flagged=not all(found))
        print(f"{name}: {len(texts):,} responses, {counts['steps']:,} steps, {counts['wrong']:,} of them wrong, "
              f"in {counts['flagged']:,} responses")


if __name__ == "__main__":
    main()
