"""The stages that two_processes_test.py runs, in one process of eight devices and in two of four.

As a script, one of the two: work.py HOST:PORT NUMBER FOLDER. It joins the other, works through `together`, leaves what
it saw in FOLDER/seen.NUMBER.json, and ends in a run whose second process dies.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import signal
import sys
import time

import jax
import numpy as np

from libra_jax import records
from libra_jax.miniature import arithmetic
from libra_jax.parallel import mesh as meshes
from libra_jax.parallel.mesh import MeshConfig
from libra_jax.records import Judgement, JudgingExample, PreferencePair
from libra_jax.sampling import engine
from libra_jax.stages import cli, dpo, reject, rl, rollout, sft
from libra_jax.train import run as training
from libra_jax.train import step as steps
from libra_jax.train.optimizer import OptimizerConfig

CHECKPOINT = str(pathlib.Path(arithmetic.__file__).parent / "checkpoint")
SAMPLING = engine.SamplingConfig(max_new_tokens=48, num_samples=2, batch_size=16)
COMMON = {"checkpoint": CHECKPOINT, "template": "miniature"}
NUM_CONVERSATIONS = 45  # 24 fill a row, 21 share the other 8: four batches of 8 rows are one epoch


def write_inputs(folder: pathlib.Path) -> None:
    """Problems, judging examples, judgements to train on and preference pairs."""
    problems = list(arithmetic.problems(0, NUM_CONVERSATIONS))
    records.write(folder / "problems.jsonl", problems[:6])
    examples, kept, pairs = [], [], []
    for number, problem in enumerate(problems):
        rng = random.Random(number)
        response, right = arithmetic.solution(problem.question, rng, slip=0.4)
        examples.append(JudgingExample(id=problem.id, problem_id=problem.id, question=problem.question, correct=right,
                                       response=response, policy="p", source=problem.source))
        kept.append(Judgement(example_id=problem.id, judge="j", sample=0, num_tokens=9,
                              thought=arithmetic.thought(response, rng, arithmetic.Habits())[0]
                              + "!" * (130 if number < 24 else 0), verdict="correct" if right else "incorrect"))
        pairs.append(PreferencePair(problem_id=problem.id, question=problem.question, chosen=response, rejected="?",
                                    chosen_score=1.0, rejected_score=0.0))
    records.write(folder / "examples.jsonl", examples)
    records.write(folder / "few.jsonl", examples[:8])
    records.write(folder / "kept.jsonl", kept)
    records.write(folder / "pairs.jsonl", pairs[:11])


def train_config(num_steps: int, mesh: MeshConfig, save_every: int = 0) -> training.TrainConfig:
    return training.TrainConfig(num_steps=num_steps, save_every=save_every, mesh=mesh,
                                optimizer=OptimizerConfig(learning_rate=1e-3))


def sft_config(folder: pathlib.Path) -> sft.Config:
    return sft.Config(**COMMON, examples=str(folder / "examples.jsonl"), kept=str(folder / "kept.jsonl"), batch_size=8,
                      sequence_length=240, train=train_config(4, MeshConfig(data=2, fsdp=2, tensor=2), save_every=2))


def rl_config(folder: pathlib.Path) -> rl.Config:
    return rl.Config(**COMMON, examples=str(folder / "few.jsonl"), groups=4, redraws=0, updates=2,
                     sampling=dataclasses.replace(SAMPLING, num_samples=4),
                     grpo=rl.GrpoConfig(length_expected=32, length_maximum=64),
                     train=train_config(2, MeshConfig(fsdp=-1)))


def together(folder: pathlib.Path, out: pathlib.Path) -> dict:
    """Runs the stages on `folder`'s inputs into folders of `out`; returns what this process saw of their insides."""
    seen: dict = {}
    mesh = MeshConfig(data=2, fsdp=1, tensor=4)
    answering = rollout.Config(**COMMON, problems=str(folder / "problems.jsonl"), sampling=SAMPLING)
    rejecting = reject.Config(**COMMON, examples=str(folder / "few.jsonl"), mesh=mesh, compute_dtype="bfloat16",
                              sampling=SAMPLING)
    with watched(seen, "rollout"):
        rollout.run(answering, out / "rollout")
    with watched(seen, "reject"):
        seen["never right"] = reject.run(rejecting, out / "reject")["never_right"]
    try:
        rollout.run(dataclasses.replace(answering, policy="other"), out / "rollout")
    except ValueError as error:
        seen["refused"] = str(error)
    with watched(seen, "sft"):
        sft.run(sft_config(folder), out / "sft")
    spread = meshes.make(MeshConfig(fsdp=1, tensor=8))  # both processes hold all rows
    shares, own = meshes.shares(8, spread)
    rows = steps.put({"rows": np.arange(8.0)[shares[own]]}, spread)["rows"]
    seen["rows on both"] = [rows.shape, len(shares), float(rows.sum())]
    with watched(seen, "rl"):
        rl.run(rl_config(folder), out / "rl")
    dpo.run(dpo.Config(**COMMON, pairs=str(folder / "pairs.jsonl"), batch_size=8, sequence_length=128,
                       train=train_config(2, MeshConfig())), out / "dpo")
    return seen


@contextlib.contextmanager
def watched(seen: dict, name: str):
    """Notes in seen[name] a hash of every sample that the engine gives, and the conversations that SFT renders."""
    digest, generate = hashlib.sha256(), engine.generate
    rendered, render, measure = [], sft.Conversations.__getitem__, sft.measure

    def generating(*args, **kwargs):
        for sample in generate(*args, **kwargs):
            digest.update(f"{sample.prompt} {sample.sample} {sample.tokens.tolist()}\n".encode())
            yield sample

    def rendering(talks, index):
        rendered.append(int(index))
        return render(talks, index)

    def measuring(talks, vocab_size):
        counts = measure(talks, vocab_size)
        seen[f"{name} measured"] = sorted(set(rendered))
        rendered.clear()
        return counts

    engine.generate, sft.Conversations.__getitem__, sft.measure = generating, rendering, measuring
    try:
        yield
    finally:
        engine.generate, sft.Conversations.__getitem__, sft.measure = generate, render, measure
    seen[name], seen[f"{name} rendered"] = digest.hexdigest(), sorted(set(rendered))


def cut_sft(folder: pathlib.Path, workdir: pathlib.Path, stop) -> None:
    """The SFT of `together`, in which `stop` is called once the checkpoint of step 2 is whole and step 3 is done."""
    fit = training.fit

    def fitting(config, loss_fn, batch_at, *args, **kwargs):
        def stopping(number, params):
            if number == 3:
                deadline = time.monotonic() + 60
                while not (workdir / "checkpoints/2").is_dir() and time.monotonic() < deadline:
                    time.sleep(0.01)  # Orbax writes behind the loop's back
                stop()
            return batch_at(number, params)
        return fit(config, loss_fn, stopping, *args, **kwargs)

    training.fit = fitting
    try:
        sft.run(sft_config(folder), workdir)
    finally:
        training.fit = fit


def main(where: str, number: int, folder: pathlib.Path) -> None:
    cli.join(f"{where},2,{number}")
    assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 4, 8)
    seen = together(folder, folder / "two")
    sft.run(sft_config(folder), folder / "begun by one")
    (folder / f"seen.{number}.json").write_text(json.dumps(seen), encoding="utf-8")
    cut_sft(folder, folder / "begun by two", lambda: os.kill(os.getpid(), signal.SIGKILL) if number else None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]))
