"""The paper's rows at full size: what they say, which programs they run, and their shapes.

How their files connect: tests/launch/paper_test.py.
"""

import dataclasses
import functools
import importlib
import importlib.util
import math
import pathlib
import shlex
import textwrap

import jax
import pytest

from libra_jax import config as configs
from libra_jax import records
from libra_jax.model import transformer
from libra_jax.model.published import PUBLISHED
from libra_jax.parallel import mesh as meshes
from libra_jax.parallel import topologies
from libra_jax.stages import downstream, dpo, judge, plan, reject, rl, rollout, sft
from libra_jax.train import optimizer as optimizers
from libra_jax.train import run as training
from libra_jax.train import state as states

ROOT = pathlib.Path(__file__).parents[3]
SIZES = ("32b", "8b")
ROWS = {"rollout": rollout, "reject": reject, "sft": sft, "sft_any": sft, "sft_no_thought": sft, "sft_other_data": sft,
        "rl": rl, "rl_alone": rl, "rl_no_length": rl, "rl_short": rl, "rl_other_data": rl, "judge": judge,
        "judge_no_thought": judge, "answers": rollout, "pairs": downstream, "dpo": dpo, "plan": plan}
POLICY = {"32b": "Qwen/Qwen3-8B", "8b": "Qwen/Qwen3-1.7B"}
LARGEST = PUBLISHED["Qwen/Qwen2.5-32B"]  # of the policies that answer
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


def file(size, name):
    return ROOT / f"configs/paper/{size}/{name}.py"


def load(size, name):
    return configs.load(str(file(size, name)), ROWS[name].Config)


@functools.cache
def devices(size):
    return topologies.devices(load(size, "plan").topology)


def commands(text):
    text = text.replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("libra ")]


@pytest.mark.parametrize("size", SIZES)
def test_each_size_has_the_same_rows(size):
    assert {path.stem for path in (ROOT / f"configs/paper/{size}").glob("*")} - {"__pycache__"} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("size", SIZES)
def test_a_row_belongs_to_its_stage_and_says_how_it_is_run(size, name):
    text = file(size, name).read_text(encoding="utf-8")
    load(size, name)
    found = commands(text)
    assert found
    for words in found:
        assert f"libra_jax.stages.{words[1]}" == ROWS[name].__name__
        assert words[2].startswith(f"--workdir=runs/paper/{size}/")
        assert f"--config=configs/paper/{size}/{name}.py" in words
        flags = [f"--config={file(size, name)}" if word.startswith("--config=") else word for word in words[2:]]
        assert len(configs.parse(flags, importlib.import_module(ROWS[name].__name__).Config())[1]) == 1
    topology = load(size, "plan").topology
    assert "Time and score:" in text and "Hardware:" in text and topology in text
    assert name == "plan" or "Before it:" in text
    assert not any(other in text for other in ("paper/8b", "v6e:8x8") if size == "32b")
    assert not any(other in text for other in ("paper/32b", "v5p", "Qwen2.5") if size == "8b")


@pytest.mark.parametrize("size", SIZES)
def test_rows_run_the_programs_that_are_planned(size):
    """They differ in what no program sees: files, weights of kinds, and numbers of the reward."""
    planned = load(size, "plan")
    for name, module in ROWS.items():
        if module is sft:
            plain = dataclasses.replace(load(size, name), checkpoint="", examples="", kept="", learn="kept",
                                        problems="", solutions="", solution_share=0.0)
            assert plain == dataclasses.replace(planned.sft, checkpoint="", examples="", kept=""), name
        elif module is rl:
            how = load(size, name)
            grpo = dataclasses.replace(how.grpo, length_expected=planned.rl.grpo.length_expected,
                                       length_maximum=planned.rl.grpo.length_maximum)
            plain = dataclasses.replace(how, checkpoint="", examples="", problems="", grpo=grpo,
                                        weights=planned.rl.weights)
            assert plain == dataclasses.replace(planned.rl, checkpoint="", examples=""), name
    shipped = configs.load(str(ROOT / f"configs/libra_rm_{size}.py"), plan.Config)
    assert planned.model == shipped.model and planned.topology in ("v5p:4x4x4", shipped.topology)


@pytest.mark.parametrize("size", SIZES)
def test_a_judge_may_think_as_long_wherever_it_thinks(size):
    drawn = [load(size, "reject"), load(size, "judge"), load(size, "pairs").judge, load(size, "rl")]
    assert {how.sampling.max_new_tokens for how in drawn} == {12288}
    trained = load(size, "sft")
    assert trained.sequence_length == load(size, "rl").prompt_length + 12288
    assert load(size, "rollout").sampling.max_new_tokens < load(size, "rl").prompt_length
    assert load(size, "rollout").sampling.max_new_tokens < load(size, "dpo").sequence_length
    for name, how in ((name, load(size, name)) for name, module in ROWS.items() if module is rl):
        assert how.grpo.length_maximum <= how.sampling.max_new_tokens, name


def test_the_correlation_of_the_guide_is_made_of_the_files_that_there_are(tmp_path, monkeypatch, capsys):
    guide = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
    code = textwrap.dedent(guide[guide.index("    import json, pathlib"):].partition("\n\n**")[0])
    runs = tmp_path / "runs/paper/8b"
    judges = [{"judge": name, "metrics": {"mean_of_sources": {"value": value}}}
              for name, value in (("a", 0.6), ("b", 0.7), ("c", 0.8))]
    records.write_json(runs / "bench/correlation/report.json", {"judges": judges})
    for name, correct in (("before", 5), ("a", 6), ("b", 7), ("c", 8)):
        records.write_json(runs / f"right/{name}/summary.json", {"correct": correct, "rollouts": 10})
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert "'pearson': Estimate(value=1.0" in capsys.readouterr().out


@needs_libtpu
@pytest.mark.parametrize("name", [name for name, module in ROWS.items() if module in (sft, rl)])
@pytest.mark.parametrize("size", SIZES)
def test_parameters_moments_and_rows_are_cut_evenly_over_the_pod(size, name):
    planned, stage = load(size, "plan"), load(size, name)
    kind = ROWS[name].__name__.rpartition(".")[2]
    planned = dataclasses.replace(planned, **{kind: stage})
    mesh, model = meshes.make(stage.train.mesh, devices(size)), PUBLISHED[planned.model]
    program = plan.build(kind, planned, model, mesh)
    share = transformer.num_parameters(model) * 4 / mesh.size
    assert share <= program.terms["parameters"] < 1.01 * share  # norms lie whole on each device
    assert 2 * share <= program.terms["optimizer"] < 2.02 * share
    batch = program.arguments[1]
    rows, length = batch["tokens"].shape
    assert length == 16384 and rows == (64 if kind == "sft" else 512)
    assert batch["tokens"].sharding.shard_shape((rows, length)) == (rows // 16, length)
    assert rows // 16 % stage.train.accumulation == 0


@needs_libtpu
@pytest.mark.parametrize("kind", ["sft", "rl"])
@pytest.mark.parametrize("size", SIZES)
def test_a_step_gives_the_state_that_it_takes(size, kind):
    planned = load(size, "plan")
    mesh, model = meshes.make(getattr(planned, kind).train.mesh, devices(size)), PUBLISHED[planned.model]
    program = plan.build(kind, planned, model, mesh)
    with jax.set_mesh(mesh):
        state, measured = jax.eval_shape(program.function, *program.arguments)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), program.arguments[0])
    assert {"loss", "grad_norm"} <= set(measured)


@needs_libtpu
@pytest.mark.parametrize("size", SIZES)
def test_the_policys_dpo_is_cut_evenly_and_gives_its_loss(size):
    how, model = load(size, "dpo"), PUBLISHED[POLICY[size]]
    mesh = meshes.make(how.train.mesh, devices(size))
    training.check_rows(how.batch_size, how.train, "batch_size", ways=mesh.shape["data"] * mesh.shape["fsdp"])
    model = training.as_trained(model, how.train, mesh)
    state = states.abstract(model, optimizers.make(how.train.optimizer, how.train.num_steps), mesh)
    share = transformer.num_parameters(model) * 4 / mesh.size
    assert share <= plan.on_device(state.params) < 1.01 * share
    pairs = how.batch_size // how.train.accumulation
    shape = (pairs, 2, how.sequence_length)
    batch = {name: jax.ShapeDtypeStruct(shape, kind) for name, kind in
             (("tokens", "int32"), ("segment_ids", "int32"), ("loss_mask", "bool"))}
    batch |= {"reference": jax.ShapeDtypeStruct((pairs, 2), "float32"),
              "denominator": jax.ShapeDtypeStruct((), "float32")}
    with jax.set_mesh(mesh):
        loss, measured = jax.eval_shape(dpo.objective(how)(model), state.params, batch)
    assert loss.shape == () and {"margin", "accuracy"} <= set(measured)


@needs_libtpu
@pytest.mark.parametrize("name", ["rollout", "reject", "judge", "judge_no_thought", "answers", "pairs"])
@pytest.mark.parametrize("size", SIZES)
def test_sampling_fits_its_chips_when_every_row_is_as_long_as_it_may_be(size, name):
    planned, how = load(size, "plan"), load(size, name)
    how = how.judge if name == "pairs" else how
    model = LARGEST if name == "rollout" else PUBLISHED[POLICY[size] if name == "answers" else planned.model]
    mesh = meshes.make(how.mesh, devices(size))
    train = dataclasses.replace(planned.rl.train, compute_dtype=how.compute_dtype)
    draw = dataclasses.replace(planned.rl, sampling=how.sampling, train=train)
    program = plan.build("decode", dataclasses.replace(planned, rl=draw), model, mesh, mesh)
    weights = transformer.num_parameters(model) * 2 / how.mesh.tensor
    assert weights <= program.terms["weights"] < 1.01 * weights
    assert sum(program.terms.values()) < 0.85 * topologies.chip(planned.topology).memory
    assert program.tokens % math.prod(mesh.shape[axis] for axis in ("data", "fsdp")) == 0


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize("size", SIZES)
def test_sft_is_compiled_for_its_pod_and_fits(size, tmp_path):
    found = plan.run(dataclasses.replace(load(size, "plan"), programs=("sft", "decode")), tmp_path)
    assert [row["fits"] for row in found["programs"]] == [True, True]
