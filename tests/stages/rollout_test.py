import dataclasses
import json
import pathlib
import shutil

import pytest

from libra_jax import records, runs
from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Problem, Rollout
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import rollout


@pytest.fixture
def config(tmp_path, tiny_checkpoint):
    problems = tmp_path / "problems.jsonl"
    records.write(problems, [Problem(id=f"p{number}", source="s", question=f"{number}+1?") for number in range(5)])
    return rollout.Config(problems=str(problems), checkpoint=tiny_checkpoint, template="miniature",
                          sampling=SamplingConfig(max_new_tokens=8, num_samples=3, batch_size=6))


def test_writes_every_sample_of_every_problem_in_order(config, tmp_path, capsys):
    summary = rollout.run(config, tmp_path / "out")
    rows = list(records.read(tmp_path / "out" / "rollouts.jsonl", Rollout))
    assert [(row.problem_id, row.sample) for row in rows] == [(f"p{p}", s) for p in range(5) for s in range(3)]
    assert {row.policy for row in rows} == {"tiny"}
    assert all((row.num_tokens == 8) if row.finish == "length" else (0 < row.num_tokens <= 8) for row in rows)
    assert all("<|im_end|>" not in row.text for row in rows)
    assert summary["rollouts"] == 15 and "rollouts=15" in capsys.readouterr().out


@pytest.mark.parametrize("num_whole, torn", [(0, ""), (4, '{"problem_id": "p1"'), (6, ""), (14, "{")])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(config, tmp_path, num_whole, torn):
    rollout.run(config, tmp_path / "whole")
    wanted = (tmp_path / "whole" / "rollouts.jsonl").read_bytes()
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "rollouts.jsonl.config.json").write_bytes((tmp_path / "whole/rollouts.jsonl.config.json").read_bytes())
    lines = wanted.splitlines(keepends=True)
    (killed / "rollouts.jsonl.partial").write_bytes(b"".join(lines[:num_whole]) + torn.encode())
    rollout.run(config, killed)
    assert (killed / "rollouts.jsonl").read_bytes() == wanted
    assert not (killed / "rollouts.jsonl.partial").exists()


def test_a_response_depends_on_its_problem_not_on_the_others(config, tmp_path):
    rollout.run(config, tmp_path / "whole")
    records.write(config.problems, [Problem(id="p3", source="s", question="3+1?")])
    rollout.run(config, tmp_path / "one")
    whole = (tmp_path / "whole" / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    assert (tmp_path / "one" / "rollouts.jsonl").read_text(encoding="utf-8").splitlines() == whole[9:12]


def test_a_policy_may_be_spread_over_devices_and_compute_in_bfloat16(config, tmp_path, monkeypatch):
    given, load = [], hf.load
    monkeypatch.setattr(hf, "load", lambda *args, **kwargs: given.append(load(*args, **kwargs)) or given[0])
    spread = dataclasses.replace(config, mesh=meshes.MeshConfig(data=1, fsdp=8), compute_dtype="bfloat16")
    assert rollout.run(spread, tmp_path)["rollouts"] == 15
    model_config, params = given[0]
    assert model_config.dtype == params["embedding"].dtype == "bfloat16"
    assert params["embedding"].sharding.mesh.shape["fsdp"] == 8


def test_results_of_another_config_are_not_mixed_or_passed_off(config, tmp_path):
    rollout.run(config, tmp_path)
    assert rollout.run(config, tmp_path)["rollouts"] == 15  # finished: nothing to do
    warmer = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, temperature=1.5))
    with pytest.raises(ValueError, match=r"sampling\.temperature=1\.0, now sampling\.temperature=1\.5"):
        rollout.run(warmer, tmp_path)
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(pathlib.Path(config.problems).read_bytes())
    rollout.run(dataclasses.replace(config, problems=str(moved)), tmp_path)  # what counts is what is read
    records.write(moved, [Problem(id="p0", source="s", question="other")])
    with pytest.raises(ValueError, match="problems="):
        rollout.run(dataclasses.replace(config, problems=str(moved)), tmp_path)


def test_a_checkpoint_with_other_weights_is_another_input(config, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(config.checkpoint, copy)
    assert runs.fingerprint(copy) == runs.fingerprint(pathlib.Path(config.checkpoint))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert runs.fingerprint(copy) != runs.fingerprint(pathlib.Path(config.checkpoint))
    with pytest.raises(FileNotFoundError, match="No such file or folder"):
        runs.fingerprint(tmp_path / "none")


def test_broken_lines_are_set_aside_and_counted(config, tmp_path):
    with open(config.problems, "a", encoding="utf-8") as file:
        file.write('{"id": "p9", "source": "s"}\n')
    summary = rollout.run(config, tmp_path / "out")
    assert summary["broken_lines"] == 1 and summary["problems"] == 5
    note = json.loads((tmp_path / "out" / "problems.rejected.jsonl").read_text(encoding="utf-8"))
    assert note["line"] == 6 and "question" in note["error"]


def test_missing_paths_and_devices_are_named(config, tmp_path):
    with pytest.raises(ValueError, match=r"--config\.checkpoint is empty"):
        rollout.run(dataclasses.replace(config, checkpoint=""), tmp_path)
    with pytest.raises(ValueError, match="7 does not divide"):
        rollout.run(dataclasses.replace(config, mesh=meshes.MeshConfig(data=-1, fsdp=7)), tmp_path)


def test_a_file_of_broken_lines_alone_is_named(tmp_path, tiny_checkpoint):
    (tmp_path / "p.jsonl").write_text('{"id":"1","source":"m","question":"q","answer":14}\n')
    config = rollout.Config(problems=str(tmp_path / "p.jsonl"), checkpoint=tiny_checkpoint)
    with pytest.raises(ValueError, match=r"all lines are broken \(1\); line 1: .*answer: expected"):
        rollout.run(config, tmp_path / "out")
    assert not (tmp_path / "out/rollouts.jsonl").exists()
