import dataclasses
import pathlib
import random

import jax
import numpy as np
import pytest

from libra_jax import records
from libra_jax.bench.divergence import Divergence
from libra_jax.judges.graders import Solution
from libra_jax.learning import looks
from libra_jax.miniature import arithmetic
from libra_jax.model import hf
from libra_jax.records import Problem
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import improve, judge, rl
from libra_jax.train import metrics, preemption
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig
from libra_jax.verify import batch

CHECKPOINT = str(pathlib.Path(arithmetic.__file__).parent / "checkpoint")


@pytest.fixture
def config(tmp_path):
    problems = list(arithmetic.problems(5, 12))
    records.write(tmp_path / "open.jsonl", [dataclasses.replace(each, answer=None) for each in problems[:6]])
    records.write(tmp_path / "known.jsonl", problems[4:])
    return improve.Config(
        problems=str(tmp_path / "open.jsonl"),
        judge=judge.Config(checkpoint=CHECKPOINT, template="miniature",
                           sampling=SamplingConfig(max_new_tokens=48, num_samples=2, batch_size=32)),
        rl=rl.Config(checkpoint=CHECKPOINT, template="miniature", groups=4, redraws=0,
                     sampling=SamplingConfig(num_samples=4, max_new_tokens=40, batch_size=16),
                     train=training.TrainConfig(num_steps=1, save_every=0,
                                                optimizer=OptimizerConfig(learning_rate=1e-4))))


def test_a_judge_rewards_and_the_run_is_watched(config, tmp_path):
    config = dataclasses.replace(config, watch=improve.WatchConfig(problems=str(tmp_path / "known.jsonl"), every=0,
                                                                   num_samples=3))
    summary = improve.run(config, tmp_path / "out")
    before, after = metrics.read(tmp_path / "out/metrics.jsonl")
    assert before.keys() == {"step", "held_out_reward", "held_out_accuracy"} and after["step"] == 1
    assert 0.2 < before["held_out_accuracy"] < 1 and 0.2 < before["held_out_reward"] < 1
    assert 0 < after["judge_score"] < 1 and after["judge_score"] == after["reward"] and "held_out_reward" in after
    assert summary["problems"] == 6 and summary["held_out_also_trained_on"] == 2 and "stopped" not in summary
    assert not (tmp_path / "out/best").exists() and summary["best_step"] in (0, 1)
    assert hf.load(summary["path"])[0].num_layers
    with pytest.raises(ValueError, match=r"out/reward was made with .*; use another --workdir"):
        improve.run(dataclasses.replace(config, reward="majority"), tmp_path / "out")
    other = dataclasses.replace(config.judge, sampling=dataclasses.replace(config.judge.sampling, num_samples=3))
    with pytest.raises(ValueError, match=r"judge\.sampling\.num_samples=2, now"):
        improve.run(dataclasses.replace(config, judge=other), tmp_path / "out")


def test_a_judge_says_the_same_again_whoever_else_is_judged(config):
    problems = list(arithmetic.problems(5, 6))
    rng = random.Random(0)
    written = [Solution(problem=each, group=0, text=arithmetic.solution(each.question, rng, slip=0.5)[0])
               for each in problems]
    first, again = improve.by_judge(config)(written)[0], improve.by_judge(config)(written[::-1][:3])[0]
    assert again == first[::-1][:3] and 0 < sum(first) < 6
    with preemption.Notice() as notice, pytest.raises(preemption.Preempted):  # a SIGTERM does not wait for the judge
        notice.asked = True
        improve.by_judge(config)(written)


def test_the_verifier_rewards_by_the_answers(config, tmp_path):
    known = str(tmp_path / "known.jsonl")
    improve.run(dataclasses.replace(config, problems=known, reward="verifier", judge=judge.Config()), tmp_path / "out")
    (row,) = metrics.read(tmp_path / "out/metrics.jsonl")
    assert 0.2 < row["accuracy"] <= 1 and row["accuracy"] == row["reward"] and "judge_score" not in row


def test_rules_are_the_graders_of_their_name():
    some = [Solution(problem=Problem(id="p", source="s", question="q", answer="2"), group=0, text=f"A: {answer}")
            for answer in (3, 3, 2)]
    with batch.Pool(num_workers=1) as pool:
        assert improve.by_rules("majority", pool)(some) == ([1, 1, 0], {"agreement": 2 / 3, "answerless": 0})
        assert improve.by_rules("verifier", pool)(some) == ([0, 0, 1], {"accuracy": 1 / 3, "undecided": 0})


def test_a_reward_that_comes_apart_from_the_truth_ends_the_run(config, tmp_path, tiny_checkpoint, monkeypatch):
    accuracies, rewards = iter([0.6, 0.7, 0.6, 0.5]), iter([0.1, 0.2, 0.3, 0.4])
    kept = []
    monkeypatch.setattr(improve.hf, "save", lambda path, *rest, save=improve.hf.save, **options: (
        kept.append(path.name), save(path, *rest, **options)))

    def by_rules(name, pool):
        values = accuracies if name == "verifier" else rewards
        return lambda some: ([float(n % 2) for n in range(16)] if some[0].problem.answer is None
                             else [next(values)] * len(some), {})

    monkeypatch.setattr(improve, "by_rules", by_rules)
    train = dataclasses.replace(config.rl.train, num_steps=9)
    rule = Divergence(drop=0.15, window=2)
    watch = improve.WatchConfig(problems=str(tmp_path / "known.jsonl"), every=1, num_samples=3, divergence=rule,
                                keep_best=True)
    tiny = dataclasses.replace(config.rl, checkpoint=tiny_checkpoint, train=train)
    config = dataclasses.replace(config, reward="majority", watch=watch, rl=tiny)
    summary = improve.run(config, tmp_path / "out")
    rows = metrics.read(tmp_path / "out/metrics.jsonl")
    assert [row["held_out_accuracy"] for row in rows] == pytest.approx([0.6, 0.7, 0.6, 0.5])
    assert summary["stopped"].startswith("after step 3/9: in 2 looks the reward rose from 0.200 to 0.400")
    assert (summary["best_step"], summary["best_held_out_accuracy"]) == (1, pytest.approx(0.7))
    assert kept == ["best", "best", "export"]  # looks 0 and 1, and the end
    best, last = (hf.load(tmp_path / "out" / name)[1] for name in ("best", "export"))
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, best, last)))


@pytest.mark.parametrize("change, message", [
    ({"reward": "verifier"}, "reward=verifier: problem 'mini-5-000000' has no answer"),
    ({"judge": judge.Config(judge="endpoint")}, "judge.judge=endpoint"),
    ({"judge": judge.Config()}, r"--config\.checkpoint is empty"),
    ({"rl": rl.Config(checkpoint="x", overlap=True)}, "rl.overlap=True with reward=judge"),
    ({"rl": rl.Config(checkpoint="x", examples="y")}, "rl.examples=y: that is for those who learn to judge"),
    ({"rl": rl.Config(checkpoint="x", ranking="y")}, "rl.ranking=y: that is for those who learn to judge"),
    ({"rl": rl.Config(checkpoint="x", watch=looks.WatchConfig(every=3))}, r"rl\.watch=.*every=3"),
    ({"rl": rl.Config()}, r"--config\.checkpoint is empty"),
])
def test_a_reward_that_cannot_be_had_is_refused(config, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        improve.run(dataclasses.replace(config, **change), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.config.json"))


def test_what_is_watched_needs_answers_and_a_majority_voters(config, tmp_path):
    watch = improve.WatchConfig(problems=config.problems)
    with pytest.raises(ValueError, match=r"watch\.problems: problem 'mini-5-000000' has no answer"):
        improve.run(dataclasses.replace(config, watch=watch), tmp_path / "out")
    two = improve.WatchConfig(problems=str(tmp_path / "known.jsonl"), num_samples=2)
    with pytest.raises(ValueError, match=r"watch\.num_samples=2 with reward=majority"):
        improve.run(dataclasses.replace(config, reward="majority", watch=two), tmp_path / "out")
