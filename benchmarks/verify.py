r"""Answers a second of libra_jax.verify.batch against math-verify alone, on the same real rollouts, and who is right.

    LIBRA_SHARED=FOLDER python benchmarks/verify.py                    # 400 pairs of each file, a minute on two cores
    LIBRA_SHARED=FOLDER python benchmarks/verify.py --pairs=50 --repeats=1

Needs $LIBRA_SHARED/data/rollouts (default ../shared beside the repository) with gsm8k_gpt3_solutions.jsonl.gz
(example_model_solutions.jsonl of openai/grade-school-math) and math_qwen2.5_math.jsonl.gz (eval_rm_maj_example of
QwenLM/Qwen2.5-Math). No network and no accelerator.

math-verify alone is what its README shows: parse("$gold$"), parse(text), verify(gold, text), with its defaults and its
own time-outs, in a multiprocessing pool. Two variants: "text" gives both the whole response; "answers" gives both the
answer that ours extracted, so that extraction plays no part. Each measurement starts fresh processes, as many for one
as for the other and with the same limit of memory; warms them up; and then times one pass over the pairs, so that no
cache holds an answer from an earlier pass. What starting and warming up took is a column of its own. Ours and theirs
take turns, and their order changes with every repeat.

Who is right is told by the published labels, of the problems whose published reference is whole (stages/verify.py).
Response text is data: the only characters that math-verify's plain-text extraction lets through to sympy's
evaluating parser are digits, blanks and ". + - * / ^ ( )"; ours lets none through. Exits with 1 where ours is not
--need times as fast, or is right less often.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import multiprocessing
import os
import pathlib
import random
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from importlib import metadata

from absl import app, flags

from libra_jax.stages import verify
from libra_jax.verify import batch, equal, extract, workers

FILES = {"gsm8k_gpt3": "gsm8k_gpt3_solutions.jsonl.gz", "math_qwen": "math_qwen2.5_math.jsonl.gz"}
VARIANTS = ("text", "answers")
OURS, THEIRS = "libra_jax", "math-verify"
SHOWN = 60  # characters of an answer in a listed disagreement
# Answers of the kinds that the rollouts hold: math-verify's grammar learns them before the clock runs.
WARM_UP = ("18", "1,200", "0.5", r"\frac{1}{2}", r"12\frac{3}{5}", r"3\sqrt{5}", "2^{10}", "(1,-2)", "x+1", "50%",
           r"\text{Evelyn}", r"\frac{\pi}{4}", "[0,1]", r"\begin{pmatrix}1\\2\end{pmatrix}", "10.833333333333332")

FLAGS = flags.FLAGS
flags.DEFINE_list("files", list(FILES), f"Which published files, of {', '.join(FILES)}.")
flags.DEFINE_list("variants", list(VARIANTS), "What is compared: text (whole responses), answers (extracted ones).")
flags.DEFINE_integer("pairs", 400, "Pairs drawn of each file; 0 for all.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Of the draw.")
flags.DEFINE_integer("repeats", 3, "Measurements of each; the table shows their median.", lower_bound=1)
flags.DEFINE_integer("num_workers", 0, "Processes of each; 0 for one a core.", lower_bound=0)
flags.DEFINE_float("timeout", 5.0, "Seconds that ours may take for a pair; math-verify's own default is 5.")
flags.DEFINE_float("limit", 900.0, "Seconds after which a pass of math-verify is given up.")
flags.DEFINE_float("need", 10.0, "How many times as fast ours must be.")
flags.DEFINE_integer("show", 5, "Kinds of disagreement listed of each file and variant.", lower_bound=0)
flags.DEFINE_string("json", "", "A file for the results, disagreements all included.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A response and its reference; `answer`: what ours extracts; `label`: as published, None where by a damaged
    reference."""

    name: str
    text: str
    answer: str | None
    reference: str
    label: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pass:
    """One measurement: seconds to start and warm up, seconds of the pass, decisions and what was found in each text."""

    start: float
    seconds: float
    decisions: tuple[bool | None, ...]
    found: tuple[str | None, ...]


def read(name: str, num_pairs: int, seed: int) -> list[Pair]:
    """Pairs of a published file, in its order. FileNotFoundError says where it was looked for."""
    folder = pathlib.Path(os.environ.get("LIBRA_SHARED", pathlib.Path(__file__).parents[2] / "shared"))
    path = folder / "data" / "rollouts" / FILES[name]
    if not path.is_file():
        raise FileNotFoundError(f"no rollouts at {path}; set LIBRA_SHARED to the folder that holds data/rollouts/ "
                                f"(this file's docstring says where {FILES[name]} comes from)")
    published = verify.READERS[name](str(path))
    pairs = []
    for rollout, label in zip(published.rollouts, published.labels, strict=True):
        reference = published.problems[rollout.problem_id].answer or ""
        whole = reference == published.references[rollout.problem_id]
        pairs.append(Pair(name=f"{rollout.problem_id} {rollout.policy} {rollout.sample}", text=rollout.text,
                          answer=extract.extract(rollout.text), reference=reference, label=label if whole else None))
    drawn = random.Random(seed).sample(range(len(pairs)), min(num_pairs or len(pairs), len(pairs)))
    return [pairs[index] for index in sorted(drawn)]


def ours(variant: str, pairs: Sequence[Pair], num_workers: int) -> Pass:
    """A pass of libra_jax over the pairs."""
    with batch.Pool(num_workers=num_workers, timeout=FLAGS.timeout) as pool:
        given = [(pair.text if variant == "text" else pair.answer, pair.reference) for pair in pairs]
        begin = time.perf_counter()
        pool.start()
        start = time.perf_counter() - begin
        gc.collect()
        begin = time.perf_counter()
        decisions = list(pool.decide(given) if variant == "text" else pool.compare(given))
        seconds = time.perf_counter() - begin
    return Pass(start=start, seconds=seconds, decisions=tuple(decision.correct for decision in decisions),
                found=tuple(decision.extracted for decision in decisions))


def theirs(variant: str, pairs: Sequence[Pair], num_workers: int) -> Pass:
    """A pass of math-verify alone over the pairs. RuntimeError when its processes do not start or do not end."""
    given = [(pair.text if variant == "text" else f"${pair.answer}$", f"${pair.reference}$") for pair in pairs]
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    begin = time.perf_counter()
    with context.Pool(num_workers, initializer=_load, initargs=(ready,)) as pool:
        for _ in range(num_workers):
            if not ready.acquire(timeout=workers.START):
                raise RuntimeError(f"math-verify's processes did not start in {workers.START:g} s; try by hand: "
                                   f"{sys.executable} -c 'import math_verify'")
        start = time.perf_counter() - begin
        gc.collect()
        begin = time.perf_counter()
        running = pool.map_async(_decide, given, chunksize=max(1, min(16, len(given) // (4 * num_workers))))
        try:
            decided = running.get(FLAGS.limit)
        except multiprocessing.TimeoutError:
            raise RuntimeError(f"math-verify has not decided {len(given)} pairs in {FLAGS.limit:g} s; give fewer "
                               "--pairs or a longer --limit") from None
        seconds = time.perf_counter() - begin
    return Pass(start=start, seconds=seconds, decisions=tuple(correct for correct, _ in decided),
                found=tuple(found for _, found in decided))


def _load(ready: multiprocessing.Semaphore) -> None:
    """The start of one of math-verify's processes."""
    resource.setrlimit(resource.RLIMIT_AS, (workers.MEMORY, workers.MEMORY))
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it logs whole responses
    for answer in WARM_UP:
        _decide((f"The answer is {answer}, so $\\boxed{{{answer}}}$", f"${answer}$"))
    ready.release()


def _decide(given: tuple[str, str]) -> tuple[bool, str | None]:
    """math-verify as its README has it, and what it found: parse ends with the string that it read."""
    from math_verify import parse, verify

    text, reference = given
    gold = parse(reference)
    answer = parse(text)
    found = answer[-1][:batch.KEPT] if answer and isinstance(answer[-1], str) else None
    return bool(verify(gold, answer)), found


def measure(name: str, variant: str, num_workers: int) -> dict:
    """All figures of one file in one variant."""
    drawn = read(name, FLAGS.pairs, FLAGS.seed)
    pairs = [pair for pair in drawn if variant == "text" or pair.answer is not None]
    passes: dict[str, list[Pass]] = {OURS: [], THEIRS: []}
    sides = [(OURS, ours), (THEIRS, theirs)]
    for repeat in range(FLAGS.repeats):
        for side, run in sides if repeat % 2 == 0 else reversed(sides):
            passes[side].append(run(variant, pairs, num_workers))
    ratios = [b.seconds / a.seconds for a, b in zip(passes[OURS], passes[THEIRS], strict=True)]
    row = {"file": name, "variant": variant, "pairs": len(pairs), "without_answer": len(drawn) - len(pairs),
           "ratio": statistics.median(ratios), "ratios": ratios}
    for side in passes:
        row[side] = {
            "pairs_per_second": len(pairs) / statistics.median(each.seconds for each in passes[side]),
            "seconds": [each.seconds for each in passes[side]],
            "start_seconds": statistics.median(each.start for each in passes[side]),
            "changed_between_repeats": sum(len(set(each)) > 1 for each in
                                           zip(*(each.decisions for each in passes[side]), strict=True))}
    return row | compare(pairs, passes[OURS][0], passes[THEIRS][0])


def compare(pairs: Sequence[Pair], one: Pass, other: Pass) -> dict:
    """Both sides' decisions against each other and against the labels; undecided is never right.

    `algebra` counts pairs that our exact path leaves to computer algebra, which is math-verify again.
    """
    against = [{"pair": pair.name, "reference": pair.reference, "label": pair.label, OURS: mine, THEIRS: its,
                f"{OURS}_found": found, f"{THEIRS}_found": its_found}
               for pair, mine, found, its, its_found in
               zip(pairs, one.decisions, one.found, other.decisions, other.found, strict=True) if mine is not its]
    labelled = [index for index, pair in enumerate(pairs) if pair.label is not None]
    right = {side: sum(each.decisions[index] is pairs[index].label for index in labelled)
             for side, each in ((OURS, one), (THEIRS, other))}
    counts = {"agree": len(pairs) - len(against),
              "only_libra_jax_right": sum(each["label"] is not None and each[OURS] is each["label"]
                                          for each in against),
              "only_math_verify_right": sum(each["label"] is not None and each[THEIRS] is each["label"]
                                            for each in against),
              "differ_unlabelled": sum(each["label"] is None for each in against),
              "undecided": sum(correct is None for correct in one.decisions),
              "algebra": sum(pair.answer is not None and equal.fast_equal(pair.answer, pair.reference) is None
                             for pair in pairs), "labelled": len(labelled)}
    accuracy = {side: count / max(1, len(labelled)) for side, count in right.items()}
    return {"decisions": counts, "accuracy": accuracy, "disagreements": against}


def passed(row: dict) -> bool:
    """Fast enough at every repeat, and right at least as often."""
    return min(row["ratios"]) >= FLAGS.need and row["accuracy"][OURS] >= row["accuracy"][THEIRS]


def show(rows: Sequence[dict]) -> None:
    """Prints the tables of speed and of decisions, and the first disagreements."""
    print(f"\n{'':20} {'':>6} {'pairs a second':^23} {'ratio':^21} {'start and warm-up, s':^23}\n"
          f"{'file':11}{'variant':9} {'pairs':>6} {OURS:>11} {THEIRS:>11} {'median':>7} {'(lowest-highest)':>13} "
          f"{OURS:>10} {THEIRS:>11}")
    for row in rows:
        mine, its = row[OURS], row[THEIRS]
        spread = f"({min(row['ratios']):.0f}-{max(row['ratios']):.0f})"
        print(f"{row['file']:11}{row['variant']:9} {row['pairs']:6} {mine['pairs_per_second']:11,.0f} "
              f"{its['pairs_per_second']:11,.1f} {row['ratio']:7.0f} {spread:>16} {mine['start_seconds']:7.1f} "
              f"{its['start_seconds']:11.1f}  {'PASS' if passed(row) else 'FAIL'}")
    print(f"\n{'':28} {'differ, right by the label':^27} {'':26} {'right, of labelled pairs':^32}\n"
          f"{'file':11}{'variant':9} {'agree':>7} {OURS:>12} {THEIRS:>14} {'no label':>8} {'undecided':>9} "
          f"{'algebra':>7} {OURS:>11} {THEIRS:>11} {'labelled':>8}")
    for row in rows:
        counts, accuracy = row["decisions"], row["accuracy"]
        print(f"{row['file']:11}{row['variant']:9} {counts['agree']:7} {counts['only_libra_jax_right']:12} "
              f"{counts['only_math_verify_right']:14} {counts['differ_unlabelled']:8} {counts['undecided']:9} "
              f"{counts['algebra']:7} {accuracy[OURS]:11.2%} {accuracy[THEIRS]:11.2%} {counts['labelled']:8}")
    for row in rows:
        for side in (OURS, THEIRS):
            if row[side]["changed_between_repeats"]:
                print(f"{row['file']} {row['variant']}: {side} decided {row[side]['changed_between_repeats']} pairs "
                      "otherwise in another repeat")
        _list(row)


def _list(row: dict) -> None:
    """Prints the first disagreements, those of the same answers as one."""
    alike: dict[tuple, list[dict]] = {}
    for each in row["disagreements"]:
        alike.setdefault(tuple(each[key] for key in each if key != "pair"), []).append(each)
    if alike and FLAGS.show:
        print(f"\n{row['file']} {row['variant']}: {len(row['disagreements'])} disagreements, of {len(alike)} kinds")
    for each, *others in list(alike.values())[:FLAGS.show]:
        label = {True: "correct", False: "incorrect", None: "none, its reference is damaged"}[each["label"]]
        print(f"  {each['pair']}{f' and {len(others)} like it' if others else ''}: reference "
              f"{_short(each['reference'])}; published label: {label}\n"
              f"    {OURS:12} {_name(each[OURS]):9} read {_short(each[f'{OURS}_found'])}\n"
              f"    {THEIRS:12} {_name(each[THEIRS]):9} read {_short(each[f'{THEIRS}_found'])}")


def _name(correct: bool | None) -> str:
    return {True: "correct", False: "incorrect", None: "undecided"}[correct]


def _short(answer: str | None) -> str:
    return "nothing" if answer is None else repr(answer if len(answer) <= SHOWN else answer[:SHOWN] + "...")


def main(argv: Sequence[str]) -> None:
    """Prints the tables, writes the JSON; exits with 1 where ours falls short."""
    for flag, known in (("files", tuple(FILES)), ("variants", VARIANTS)):
        for value in FLAGS[flag].value:
            if value not in known:
                raise app.UsageError(f"--{flag}={value}: expected some of {', '.join(known)}")
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; flags begin with --")
    num_workers = FLAGS.num_workers or os.cpu_count() or 1
    version = metadata.version("math-verify")
    print(f"math-verify {version}; {num_workers} processes each on {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f} before; {FLAGS.repeats} repeats, seed {FLAGS.seed}", flush=True)
    try:
        rows = [measure(name, variant, num_workers) for name in FLAGS.files for variant in FLAGS.variants]
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    show(rows)
    if FLAGS.json:
        result = {"math_verify": version, "num_workers": num_workers, "cores": os.cpu_count(), "seed": FLAGS.seed,
                  "repeats": FLAGS.repeats, "need": FLAGS.need, "passed": all(map(passed, rows)), "rows": rows}
        pathlib.Path(FLAGS.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(int(not all(map(passed, rows))))


if __name__ == "__main__":
    app.run(main)
