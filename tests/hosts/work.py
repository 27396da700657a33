"""The stages that two_processes_test.py runs, in one process of eight devices and in two of four.

As a script, one of the two: work.py HOST:PORT NUMBER FOLDER. It joins the other, works through `together`, leaves what
it saw in FOLDER/seen.NUMBER.json, and goes on with a run that one process began, in which the second process dies.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time

import jax
import numpy as np

from libra_jax import records, runs
from libra_jax.learning import seen
from libra_jax.miniature import arithmetic
from libra_jax.model import hf, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes
from libra_jax.parallel.mesh import MeshConfig
from libra_jax.records import Judgement, JudgingExample, PreferencePair
from libra_jax.sampling import engine
from libra_jax.stages import cli, dpo, reject, rl, rollout, sft
from libra_jax.train import run as training
from libra_jax.train import step as steps
from libra_jax.train import watching
from libra_jax.train.optimizer import OptimizerConfig

CHECKPOINT = str(pathlib.Path(arithmetic.__file__).parent / "checkpoint")
SAMPLING = engine.SamplingConfig(max_new_tokens=24, num_samples=2, batch_size=8)
# Each process holds one copy of the parameters, spread over its devices: what the layers say to each other for every
# token stays within it, which is quicker. DPO's parameters are spread over both.
SPREAD = MeshConfig(data=2, fsdp=4)
NUM_CONVERSATIONS = 45  # 24 fill a row, 21 share the other 8: four batches of 8 rows are one epoch


def write_inputs(folder: pathlib.Path) -> None:
    """A small random checkpoint, problems, judging examples, judgements to train on and preference pairs."""
    tiny = ModelConfig(vocab_size=320, num_layers=1, model_size=16, num_heads=2, num_kv_heads=1, head_size=8,
                       feedforward_size=16)
    hf.save(folder / "tiny", tiny, transformer.init(tiny, key=jax.random.key(0)), tokenizer_from=CHECKPOINT)
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


def tiny(folder: pathlib.Path) -> dict:
    return {"checkpoint": str(folder / "tiny"), "template": "miniature"}


def sft_config(folder: pathlib.Path) -> sft.Config:
    return sft.Config(**tiny(folder), examples=str(folder / "examples.jsonl"), kept=str(folder / "kept.jsonl"),
                      batch_size=8, sequence_length=240, train=train_config(4, SPREAD, save_every=2))


def rl_config(folder: pathlib.Path) -> rl.Config:
    return rl.Config(**tiny(folder), groups=4, updates=2, train=train_config(3, SPREAD),
                     sampling=dataclasses.replace(SAMPLING, max_new_tokens=8, num_samples=4, batch_size=16))


def low_tokens(owners, samples) -> tuple[list[float], dict[str, float]]:
    """A reward: the share of a sample's tokens in the lower half of the vocabulary."""
    return [float(np.mean(sample.tokens < 160)) for sample in samples], {}


def low_held_out(seen: seen.Seen) -> dict[str, float]:
    """A watch: the same of samples that are not trained on; ends the run after its second step."""
    samples = seen.sample([(5, 6), (7,)], dataclasses.replace(SAMPLING, max_new_tokens=8, num_samples=4, batch_size=16))
    measured = {"held_out": low_tokens((), samples)[0][0]}
    if seen.step == 2:
        raise watching.Enough(f"after {[row.get('held_out') for row in seen.rows]}", measured)
    return measured


def together(folder: pathlib.Path, out: pathlib.Path, left_behind: pathlib.Path) -> dict:
    """Runs the stages on `folder`'s inputs into folders of `out`; returns what this process saw of their insides.

    `left_behind` becomes what the SFT run would have left if it had been killed in step 4.
    """
    seen: dict = {}
    answering = rollout.Config(**tiny(folder), problems=str(folder / "problems.jsonl"), sampling=SAMPLING,
                               mesh=MeshConfig(data=2, fsdp=1, tensor=4), compute_dtype="bfloat16")
    rejecting = reject.Config(checkpoint=CHECKPOINT, template="miniature", examples=str(folder / "few.jsonl"),
                              sampling=SAMPLING, mesh=SPREAD)
    with watched(seen, "rollout"):
        rollout.run(answering, out / "rollout")
    with watched(seen, "reject"):
        seen["never right"] = reject.run(rejecting, out / "reject")["never_right"]
    try:
        rollout.run(dataclasses.replace(answering, policy="other"), out / "rollout")
    except ValueError as error:
        seen["refused"] = str(error)
    with watched(seen, "sft"), at_step_3(lambda at: shutil.copytree(at, left_behind) if runs.is_first() else None):
        sft.run(sft_config(folder), out / "sft")
    spread = meshes.make(MeshConfig(fsdp=1, tensor=8))  # both processes hold all rows
    shares, own = meshes.shares(8, spread)
    rows = steps.put({"rows": np.arange(8.0)[shares[own]]}, spread)["rows"]
    seen["rows on both"] = [list(rows.shape), len(shares), float(rows.sum())]
    with watched(seen, "rl"):
        ended = rl.train(rl_config(folder), [(5, 6, 7), (8, 9), (10, 11, 12, 13), (14,)], range(300, 320), low_tokens,
                         out / "rl", watch=low_held_out, watch_every=1)
        seen["stopped"] = ended["stopped"]
    dpo.run(dpo.Config(**tiny(folder), pairs=str(folder / "pairs.jsonl"), batch_size=8, sequence_length=128,
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


@contextlib.contextmanager
def at_step_3(do):
    """Calls do(workdir) in a training run that is about to begin step 4, once the checkpoint of step 2 is whole."""
    fit = training.fit

    def fitting(config, loss_fn, batch_at, label, workdir, **kwargs):
        def noticing(number, params):
            if number == 3:
                deadline = time.monotonic() + 60
                while not (workdir / "checkpoints/2").is_dir() and time.monotonic() < deadline:
                    time.sleep(0.01)  # Orbax writes behind the loop's back
                do(workdir)
            return batch_at(number, params)
        return fit(config, loss_fn, noticing, label, workdir, **kwargs)

    training.fit = fitting
    try:
        yield
    finally:
        training.fit = fit


def main(where: str, number: int, folder: pathlib.Path) -> None:
    cli.join(f"{where},2,{number}", patience=10)
    assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 4, 8)
    seen = together(folder, folder / "two", left_behind=folder / "begun by two")
    (folder / f"seen.{number}.json").write_text(json.dumps(seen), encoding="utf-8")
    with at_step_3(lambda _: os.kill(os.getpid(), signal.SIGKILL) if number else None):
        sft.run(sft_config(folder), folder / "begun by one")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]))
