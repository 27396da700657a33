"""Can the miniature rank, and what does RL on verdicts alone cost its solving? Judging, ranking and solving, measured.

    python benchmarks/mixture.py --demo=runs/demo --workdir=runs/mixture     # after `libra demo --workdir=runs/demo`

1. `libra curate` makes judging and ranking sets (two responses each) of the demo's verified rollouts.
2. The shipped miniature, which never saw a ranking question, is measured on held-out ones.
3. It is taught the form by SFT on generated questions, with the failings of all its texts (arithmetic.Habits): it looks
   at one response after the other and often waves a line through. That is "taught".
4. GRPO from there, with as many groups and steps each: on judging alone, on all three kinds in equal parts, and on
   three parts of judging to one of ranking and one of problems.

Each row is one sample of each of --items questions of other problems than those trained on, one a problem. Writes
mixture.json. How long it takes: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import pathlib
import random
from collections.abc import Iterator

import numpy as np

from libra_jax import records
from libra_jax.data import packing
from libra_jax.judges.model import ModelJudge, ModelJudgeConfig
from libra_jax.judging.prompt import LETTERS, load_template
from libra_jax.judging.ranking import RankingConfig
from libra_jax.judging.v2v import V2VConfig
from libra_jax.learning import mixture
from libra_jax.miniature import arithmetic
from libra_jax.model import hf
from libra_jax.records import JudgingExample, Message, Problem, RankingExample
from libra_jax.sampling import engine
from libra_jax.stages import chain, curate, miniature, rl, sft
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

TEMPLATE = load_template("miniature")
HABITS = arithmetic.Habits()
LENGTH, NEW_TOKENS = 256, 112
CLASSES = {"examples": JudgingExample, "ranking": RankingExample, "problems": Problem}


def ranking_talks(seed: int, count: int) -> Iterator[tuple[Message, ...]]:
    """Ranking questions of two responses with a sloppy thought: the first in which it finds no wrong line is named."""
    for number, problem in enumerate(arithmetic.problems(seed, count)):
        rng = random.Random(f"ranking {seed} {number}")
        right, _ = arithmetic.solution(problem.question, rng, slip=0.0)
        wrong, good = right, True
        while good:
            wrong, good = arithmetic.solution(problem.question, rng, slip=0.4)
        responses = [right, wrong] if rng.random() < 0.5 else [wrong, right]
        thoughts = [arithmetic.thought(text, rng, HABITS)[0] for text in responses]
        fine = [place for place, thought in enumerate(thoughts) if not thought.endswith(" no")]
        letter = LETTERS[fine[0] if fine else rng.randrange(2)]
        thought = "\n".join(f"{name}\n{text}" for name, text in zip(LETTERS, thoughts, strict=False))
        yield TEMPLATE.ranking_target(problem.question, responses, thought, letter)


def teach(workdir: pathlib.Path, num_steps: int) -> str:
    """SFT of the shipped miniature on ranking questions and as many of its own old texts; returns the checkpoint."""
    words = tokenizers.load(chain.CHECKPOINT)
    batch_size = 32
    half = batch_size * num_steps // 2
    talks = [*ranking_talks(911, half), *miniature.conversations(912, half, HABITS, 0.22, 0.06)]
    random.Random(0).shuffle(talks)
    rendered = [chat.render(words, talk) for talk in talks]
    config = sft.Config(checkpoint=str(chain.CHECKPOINT), train=training.TrainConfig(
        num_steps=num_steps, save_every=0,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=10, schedule="cosine")))

    def batch_at(number: int, params: object) -> dict:
        del params
        some = rendered[number * batch_size : (number + 1) * batch_size]
        batch = packing.empty(batch_size, LENGTH)  # one a row
        for row, talk in enumerate(some):
            packing.put(batch, row, 0, 1, talk.tokens, talk.loss_mask)
        return batch | {"denominator": np.float32(batch["loss_mask"].sum())}

    training.fit(config, sft.objective(config), batch_at, "teach", workdir, inputs=("checkpoint",))
    return str(workdir / "export")


def measure(checkpoint: str, files: dict[str, str]) -> dict[str, dict[str, float]]:
    """Of each kind: share right with the half width of its 95 % interval, unparsed, tokens; one sample a question."""
    model, params = hf.load(checkpoint)
    words = tokenizers.load(checkpoint)
    reader = ModelJudge(config=ModelJudgeConfig(), model_config=None, params=None, tokenizer=words, template=TEMPLATE)
    config = rl.Config(checkpoint=checkpoint, template="miniature", **files)
    sampling = engine.SamplingConfig(max_new_tokens=NEW_TOKENS, batch_size=128)
    found = {}
    with contextlib.ExitStack() as stack:
        for kind in mixture.load(config, reader, pathlib.Path(files["examples"]).parent, stack).kinds:
            samples = list(engine.generate(model, params, kind.prompts, sampling, stop_ids=words.stop_ids))
            measured = kind.reward(range(len(samples)), samples)[1]
            share = measured["right"]
            found[kind.name] = measured | {"half_width": 1.96 * math.sqrt(share * (1 - share) / len(samples)),
                                           "tokens": float(np.mean([len(sample.tokens) for sample in samples])),
                                           "questions": len(samples)}
    return found


def sets(demo_folder: pathlib.Path, workdir: pathlib.Path, items: int) -> tuple[dict[str, str], dict[str, str]]:
    """Files of rl.Config to train on, and the held-out ones, cut to `items` questions of as many problems."""
    folder = workdir / "sets"
    curate.run(curate.Config(problems=(str(demo_folder / "answered.jsonl"),),
                             rollouts=(str(demo_folder / "verified.jsonl"),), bench_fraction=0.5,
                             v2v=V2VConfig(near_questions=True), ranking=RankingConfig(responses=2)), folder)
    kept = {each.problem_id for each in records.read(folder / "train.jsonl", JudgingExample)}
    records.write(folder / "problems.jsonl", (
        each for each in records.read(demo_folder / "answered.jsonl", Problem) if each.id in kept))
    train = {"examples": "train.jsonl", "ranking": "ranking_train.jsonl", "problems": "problems.jsonl"}
    held_out = {"examples": folder / "bench.jsonl", "ranking": folder / "ranking_bench.jsonl",
                "problems": demo_folder / "held_out.jsonl"}
    cut = {}
    for name, path in held_out.items():
        first: dict[str, object] = {}
        for each in records.read(path, CLASSES[name]):
            first.setdefault(each.id if name == "problems" else each.problem_id, each)
        cut[name] = str(workdir / f"held_out_{name}.jsonl")
        records.write(cut[name], list(first.values())[:items])
    return {name: str(folder / file) for name, file in train.items()}, cut


def rl_config(checkpoint: str, files: dict[str, str], num_steps: int) -> rl.Config:
    """GRPO as the demo's, with room for two responses to be gone over."""
    return rl.Config(checkpoint=checkpoint, template="miniature", groups=24, redraws=1, updates=2, **files,
                     sampling=engine.SamplingConfig(max_new_tokens=NEW_TOKENS, num_samples=8, batch_size=192),
                     grpo=rl.GrpoConfig(length_expected=NEW_TOKENS, length_maximum=NEW_TOKENS),
                     train=training.TrainConfig(num_steps=num_steps, save_every=0, accumulation=2,
                                                optimizer=OptimizerConfig(learning_rate=3e-4, warmup_steps=3)))


def main() -> None:
    """Runs all four parts, skipping what is done, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demo", type=pathlib.Path, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--teach_steps", type=int, default=300)
    parser.add_argument("--rl_steps", type=int, default=20)
    given = parser.parse_args()
    workdir = given.workdir
    train, held_out = sets(given.demo, workdir, given.items)
    rows = {}

    def show(name: str, checkpoint: str) -> None:
        rows[name] = measure(checkpoint, held_out)
        cells = [f"{kind} {each['right']:.1%} +- {each['half_width']:.1%}, unparsed {each['unparsed']:.1%}, "
                 f"{each['tokens']:.0f} tokens" for kind, each in rows[name].items()]
        print(f"{name}: " + "; ".join(cells), flush=True)
        records.write_json(workdir / "mixture.json", rows)

    show("shipped", str(chain.CHECKPOINT))
    taught = teach(workdir / "teach", given.teach_steps)
    show("taught", taught)
    mixed = rl_config(taught, train, given.rl_steps)
    for name, config in {"judging alone": dataclasses.replace(mixed, ranking="", problems=""), "three kinds": mixed,
                         "3 to 1 to 1": dataclasses.replace(mixed, weights=(0.6, 0.2, 0.2))}.items():
        folder = workdir / name.replace(" ", "_")
        rl.run(config, folder)
        show(name, str(folder / "export"))
        print(json.dumps(metrics.read(folder / "metrics.jsonl")[-1]))


if __name__ == "__main__":
    main()
