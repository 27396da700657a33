import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from libra_jax import records
from libra_jax.judging.curriculum import CurriculumConfig
from libra_jax.learning import groups
from libra_jax.model import hf
from libra_jax.model.lora import LoraConfig
from libra_jax.parallel.mesh import MeshConfig
from libra_jax.records import Judgement, JudgingExample
from libra_jax.sampling.engine import Sample, SamplingConfig
from libra_jax.stages import rl
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics, preemption
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig

PROMPTS = [(5, 6, 7), (8, 9), (10, 11, 12, 13), (14,)]


@pytest.fixture
def config(tiny_checkpoint):
    return rl.Config(checkpoint=tiny_checkpoint, template="miniature", groups=4, redraws=0,
                     sampling=SamplingConfig(num_samples=4, max_new_tokens=8, batch_size=16),
                     train=training.TrainConfig(num_steps=2, save_every=0, seed=3_000_000_000,
                                           optimizer=OptimizerConfig(learning_rate=1e-2)))


def low_tokens(owners, samples):
    """The share of a sample's tokens below 64, of a vocabulary of 260."""
    return [float(np.mean(sample.tokens < 64)) for sample in samples], {"number": len(owners)}


def test_a_batch_by_hand():
    samples = [Sample(0, 0, np.array([7, 8]), np.array([-1.0, -2.0]), "stop"),
               Sample(0, 1, np.array([9]), np.array([-3.0]), "length")]
    group = groups.Group((1, 2), samples, np.array([1.0, 0.0], np.float32))
    batch = groups.to_batch([group], 2, 8, "std")
    np.testing.assert_array_equal(batch["tokens"], [[1, 2, 7, 8, 1, 2, 9, 0], [0] * 8])
    np.testing.assert_array_equal(batch["advantages"], [[0, 0, 1, 1, 0, 0, -1, 0], [0] * 8])
    np.testing.assert_array_equal(batch["sampler_logprobs"], [[0, 0, -1, -2, 0, 0, -3, 0], [0] * 8])
    np.testing.assert_array_equal(batch["segment_ids"], [[1, 1, 1, 1, 2, 2, 2, 0], [0] * 8])
    np.testing.assert_array_equal(batch["positions"], [[0, 1, 2, 3, 0, 1, 2, 0], [0] * 8])
    np.testing.assert_array_equal(batch["loss_mask"], batch["advantages"] != 0)
    assert groups.to_batch([group], 2, 4, "std")["tokens"].shape == (2, 4)  # no room to share
    assert not groups.to_batch([], 2, 4, "std")["loss_mask"].any()


def test_any_reward_rises(config, tmp_path):
    train = dataclasses.replace(config.train, num_steps=15, optimizer=OptimizerConfig(learning_rate=0.05))
    config = dataclasses.replace(config, groups=16, train=train)
    rl.train(config, PROMPTS, (), low_tokens, tmp_path)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert rows[-1]["reward"] > rows[0]["reward"] + 0.2
    assert rows[0]["number"] == 64 and rows[0]["tokens"] == 8 and rows[0]["cut_off"] == 1.0


@pytest.mark.parametrize("temperature, updates", [(1.0, 1), (0.6, 1), (0.6, 2)])
def test_sampler_and_trainer_agree_at_every_temperature(config, tmp_path, temperature, updates):
    sampling = dataclasses.replace(config.sampling, temperature=temperature)
    config = dataclasses.replace(config, updates=updates, grpo=rl.GrpoConfig(kl_weight=0.1), sampling=sampling)
    rl.train(config, PROMPTS, (), low_tokens, tmp_path)
    for row in metrics.read(tmp_path / "metrics.jsonl"):
        assert 0 < row["sampler_mismatch"] < row["sampler_mismatch_p99"] <= row["sampler_mismatch_max"] < 1e-5
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert rows[1]["kl"] > 1e-5 and (updates == 2 or rows[0]["kl"] < 1e-9)


def test_merged_adapters_sample_and_the_reference_is_what_they_are_added_to(config, tmp_path):
    train = dataclasses.replace(config.train, num_steps=3, lora=LoraConfig(rank=2))
    config = dataclasses.replace(config, grpo=rl.GrpoConfig(kl_weight=0.1), train=train,
                                 sampling=dataclasses.replace(config.sampling, temperature=0.6))
    rl.train(config, PROMPTS, (), low_tokens, tmp_path)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert all(row["sampler_mismatch_max"] < 1e-5 for row in rows)
    assert rows[0]["kl"] < 1e-9 and rows[2]["kl"] > 1e-5


def test_groups_of_equal_rewards_teach_nothing_and_are_drawn_again(config, tmp_path):
    config = dataclasses.replace(config, redraws=2)
    rl.train(config, PROMPTS, (), lambda owners, samples: ([1.0] * len(samples), {}), tmp_path)
    row = metrics.read(tmp_path / "metrics.jsonl")[0]
    assert row["draws"] == 3 and row["useful_groups"] == 0 and row["grad_norm"] == 0
    before, after = hf.load(config.checkpoint)[1], hf.load(tmp_path / "export")[1]
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_the_length_term_lowers_the_reward(config, tmp_path):
    config = dataclasses.replace(config, grpo=rl.GrpoConfig(length_expected=4, length_maximum=12))
    rl.train(config, PROMPTS, (), lambda owners, samples: ([1.0] * len(samples), {}), tmp_path)
    assert metrics.read(tmp_path / "metrics.jsonl")[0]["reward"] == 0.5  # 8 tokens: half way from 4 to 12


def test_an_interrupted_run_goes_on_to_the_same_bytes(config, tmp_path):
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=5, save_every=2))
    calls = []

    def dies(owners, samples):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return low_tokens(owners, samples)

    with pytest.raises(KeyboardInterrupt):
        rl.train(config, PROMPTS, (), dies, tmp_path / "cut")
    rl.train(config, PROMPTS, (), dies, tmp_path / "cut")
    assert len(calls) == 4 + 3  # from step 2 on
    rl.train(config, PROMPTS, (), low_tokens, tmp_path / "whole")
    for name in ("export/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_judging_examples_end_to_end(config, tmp_path):
    examples = [JudgingExample(id=f"e{n}", problem_id=f"p{n}", question=f"{n}+1?", response=f"It is {n}.",
                               correct=n % 2 == 0, policy="p", source="s") for n in range(6)]
    records.write(tmp_path / "examples.jsonl", examples)
    with open(tmp_path / "examples.jsonl", "a", encoding="utf-8") as lines:
        lines.write("{}\n")
    config = dataclasses.replace(config, examples=str(tmp_path / "examples.jsonl"))
    summary = rl.run(config, tmp_path / "out")
    assert summary["examples"] == 6 and summary["broken_lines"] == 1 and summary["unparsed"] == 1.0
    assert hf.load(summary["path"])[0].num_layers == 1
    records.write(tmp_path / "examples.jsonl", [dataclasses.replace(examples[0], correct=None)])
    with pytest.raises(ValueError, match="'e0' has no label"):
        rl.run(config, tmp_path / "other")


def test_pass_rates_choose_the_examples_and_easy_ones_come_first(config, tmp_path, monkeypatch):
    examples = [JudgingExample(id=f"e{n}", problem_id=f"p{n}", question=f"{n}+1?", response=f"It is {n}.",
                               correct=True, policy="p", source="s") for n in range(6)]
    judgements = [Judgement(example_id=f"e{n}", judge="j", sample=sample, thought="", num_tokens=1,
                            verdict="correct" if sample < right else "incorrect")
                  for n, right in enumerate([4, 2, 0, 3, 1]) for sample in range(4)]
    records.write(tmp_path / "examples.jsonl", examples)
    records.write(tmp_path / "judgements.jsonl", judgements)
    config = dataclasses.replace(config, examples=str(tmp_path / "examples.jsonl"), groups=2,
                                 judgements=str(tmp_path / "judgements.jsonl"),
                                 curriculum=CurriculumConfig(lowest=0.3, highest=0.8, order="easy_first"))
    asked, generate = [], groups.engine.generate
    monkeypatch.setattr(groups.engine, "generate", lambda model, params, prompts, *rest, **options:
                        asked.append(prompts) or generate(model, params, prompts, *rest, **options))
    summary = rl.run(config, tmp_path / "out")
    counts = {"given": 6, "examples": 3, "unjudged": 1, "too_hard": 1, "too_easy": 1, "never_right": 1}
    assert {name: summary[name] for name in counts} == counts
    words = tokenizers.load(config.checkpoint)
    questions = [[next(n for n in range(6) if f"{n}+1?" in words.decode(list(prompt))) for prompt in prompts]
                 for prompts in asked]
    assert questions == [[3, 1], [2, 3]]  # from 3/4 over 1/2 to what was never right, and from the start again
    with pytest.raises(ValueError, match=r"--config\.curriculum chooses by pass rates: give --config\.judgements"):
        rl.run(dataclasses.replace(config, judgements=""), tmp_path / "other")


@pytest.mark.parametrize("sampling", [{"top_p": 0.9}, {"top_k": 5}, {"temperature": 0.0}, {"num_samples": 1}])
def test_sampling_from_another_policy_is_refused(config, tmp_path, sampling):
    config = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, **sampling))
    with pytest.raises(ValueError, match="RL needs a temperature above 0, no filters"):
        rl.train(config, PROMPTS, (), low_tokens, tmp_path)


def test_drawing_ahead_is_one_step_behind_and_resumes_exactly(config, tmp_path):
    """Four devices draw with the parameters of the step before while four train."""
    train = dataclasses.replace(config.train, num_steps=5, save_every=2)
    ahead = dataclasses.replace(config, overlap=True, sampling_devices=4, train=train,
                                sampling_mesh=MeshConfig(data=2, fsdp=1, tensor=2))
    rl.train(ahead, PROMPTS, (), low_tokens, tmp_path / "whole")
    whole = metrics.read(tmp_path / "whole" / "metrics.jsonl")
    assert [row["steps_behind"] for row in whole] == [0, 1, 0, 1, 0]  # none is drawn ahead of a checkpoint
    assert whole[0]["sampler_mismatch_max"] < 1e-4 < whole[1]["sampler_mismatch_max"]
    plain = dataclasses.replace(config, train=dataclasses.replace(train, mesh=MeshConfig()))
    rl.train(plain, PROMPTS, (), low_tokens, tmp_path / "plain")
    at_once = metrics.read(tmp_path / "plain" / "metrics.jsonl")
    assert at_once[0]["reward"] == pytest.approx(whole[0]["reward"], abs=1e-6)  # the same samples
    assert max(row["sampler_mismatch_max"] for row in at_once) < 1e-4
    calls = []

    def dies(owners, samples):
        calls.append(0)
        if len(calls) == 4:
            raise KeyError("killed")
        return low_tokens(owners, samples)

    with pytest.raises(KeyError):
        rl.train(ahead, PROMPTS, (), dies, tmp_path / "cut")
    rl.train(ahead, PROMPTS, (), dies, tmp_path / "cut")
    assert metrics.read(tmp_path / "cut" / "metrics.jsonl") == whole


@pytest.mark.parametrize("where", [{}, {"overlap": True, "sampling_devices": 4}])
def test_a_draw_is_left_in_the_midst_at_a_sigterm(config, tmp_path, monkeypatch, where):
    config = dataclasses.replace(config, **where, sampling=dataclasses.replace(config.sampling, max_new_tokens=200))
    rl.train(config, PROMPTS, (), low_tokens, tmp_path / "whole")
    generate, rewarded = groups.engine.generate, []

    def signalled(*args, progress, **options):
        def first(seen):
            assert seen.num_finished == 0
            os.kill(os.getpid(), signal.SIGTERM)
            progress(seen)

        return generate(*args, progress=first, **options)

    monkeypatch.setattr(groups.engine, "generate", signalled)
    with pytest.raises(preemption.Preempted):
        rl.train(config, PROMPTS, (), lambda *given: rewarded.append(given), tmp_path / "cut")
    assert not rewarded, "the draw went on to its end"
    monkeypatch.undo()
    rl.train(config, PROMPTS, (), low_tokens, tmp_path / "cut")
    assert metrics.read(tmp_path / "cut" / "metrics.jsonl") == metrics.read(tmp_path / "whole" / "metrics.jsonl")


@pytest.mark.parametrize("change, message", [
    ({"overlap": True}, r"sampling_devices=0 of 8 devices: with overlap=True expected 1 to 7"),
    ({"overlap": True, "sampling_devices": 8}, "sampling_devices=8 of 8"),
    ({"overlap": True, "sampling_devices": 3}, "sampling_devices=3 of 8: expected a divisor of the 5"),
    ({"sampling_devices": 2}, "only with overlap=True")])
def test_devices_that_cannot_be_divided_are_refused(config, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        rl.train(dataclasses.replace(config, **change), PROMPTS, (), low_tokens, tmp_path)


def test_parameters_may_lie_otherwise_while_they_sample(config, tmp_path):
    spread = dataclasses.replace(config, sampling_mesh=MeshConfig(data=2, fsdp=1, tensor=4))
    for name, each in (("same", config), ("other", spread)):
        rl.train(each, PROMPTS, (), low_tokens, tmp_path / name)
    same, other = (metrics.read(tmp_path / name / "metrics.jsonl") for name in ("same", "other"))
    assert [row["reward"] for row in other] == pytest.approx([row["reward"] for row in same], abs=1e-6)
