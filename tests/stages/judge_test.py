import dataclasses

import jax
import numpy as np
import pytest

from libra_jax import records
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import judge


@pytest.fixture
def config(tmp_path, tiny_checkpoint):
    examples = [JudgingExample(id=f"e{number}", problem_id=f"p{number // 2}", question=f"{number // 2}+1?",
                               response=f"The answer is {number}.", correct=number % 2 == 0, policy="p", source="s")
                for number in range(6)]
    records.write(tmp_path / "examples.jsonl", examples)
    return judge.Config(examples=str(tmp_path / "examples.jsonl"), checkpoint=tiny_checkpoint, template="miniature",
                        sampling=SamplingConfig(max_new_tokens=6, num_samples=2, batch_size=4))


def test_a_model_judges_every_example(config, tmp_path):
    summary = judge.run(config, tmp_path / "out")
    rows = list(records.read(tmp_path / "out" / "judgements.jsonl", Judgement))
    assert [(row.example_id, row.sample) for row in rows] == [(f"e{e}", s) for e in range(6) for s in range(2)]
    assert {row.judge for row in rows} == {"tiny"}
    assert summary["judgements"] == 12 == sum(summary[name] for name in ("correct", "incorrect", "unparsed"))


def test_a_judge_may_be_spread_over_devices_and_compute_in_bfloat16(config, tmp_path):
    spread = dataclasses.replace(config, mesh=meshes.MeshConfig(data=1, fsdp=4, tensor=2), compute_dtype="bfloat16")
    made = judge.make(spread)
    assert made.model_config.dtype == "bfloat16" and made.mesh.shape["tensor"] == 2
    assert {leaf.dtype for leaf in jax.tree.leaves(made.params)} == {np.dtype("bfloat16")}
    assert made.params["embedding"].sharding.spec == jax.sharding.PartitionSpec("tensor", "fsdp")
    plain = judge.make(config)
    assert {leaf.dtype for leaf in jax.tree.leaves(plain.params)} == {np.dtype("float32")}
    assert plain.params["embedding"].sharding.is_fully_replicated and plain.mesh.shape["data"] == 8
    assert judge.run(spread, tmp_path)["judgements"] == 12


def test_thinking_changes_the_prompt(config, tmp_path):
    judge.run(config, tmp_path / "thinking")
    judge.run(dataclasses.replace(config, thinking=False), tmp_path / "quick")
    quick = list(records.read(tmp_path / "quick" / "judgements.jsonl", Judgement))
    assert all(row.thought == "" for row in quick)
    assert quick != list(records.read(tmp_path / "thinking" / "judgements.jsonl", Judgement))


@pytest.mark.parametrize("name", ["model", "majority_answer"])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(config, tmp_path, name):
    config = dataclasses.replace(config, judge=name)
    judge.run(config, tmp_path / "whole")
    wanted = (tmp_path / "whole" / "judgements.jsonl").read_bytes()
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "judgements.jsonl.partial").write_bytes(b"".join(wanted.splitlines(keepends=True)[:5]) + b'{"exa')
    summary = judge.run(config, killed)
    assert (killed / "judgements.jsonl").read_bytes() == wanted
    assert summary["judgements"] == len(wanted.splitlines())


@pytest.mark.parametrize("name", ["majority_answer", "response_length", "always_correct"])
def test_baselines_need_no_checkpoint(config, tmp_path, name):
    summary = judge.run(dataclasses.replace(config, judge=name, checkpoint=""), tmp_path)
    rows = list(records.read(tmp_path / "judgements.jsonl", Judgement))
    assert [row.judge for row in rows] == [name] * 6 and summary["unparsed"] == 0


def test_a_model_needs_one(config, tmp_path):
    with pytest.raises(ValueError, match=r"--config\.checkpoint is empty"):
        judge.run(dataclasses.replace(config, checkpoint=""), tmp_path)
