"""Plans of a small model, compiled for TPUs that are not there."""

import dataclasses
import importlib.util
import json
import re

import jax
import pytest

from libra_jax import config as configs
from libra_jax.model import flops, lora, transformer
from libra_jax.model.lora import LoraConfig
from libra_jax.model.published import PUBLISHED
from libra_jax.parallel import mesh as meshes
from libra_jax.parallel import topologies
from libra_jax.parallel.mesh import MeshConfig
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import plan, rl, sft
from libra_jax.train import run as training

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
SHAPE = {"model_type": "qwen3", "vocab_size": 1024, "hidden_size": 256, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 512,
         "tie_word_embeddings": False, "max_position_embeddings": 4096}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(SHAPE))
    train = training.TrainConfig(compute_dtype="bfloat16", remat="full", logit_chunk=128, accumulation=2,
                                 mesh=MeshConfig(fsdp=-1, tensor=2))
    return plan.Config(
        model=str(tmp_path / "model"), topology="v6e:2x4",
        sft=sft.Config(sequence_length=256, batch_size=8, train=train),
        rl=rl.Config(prompt_length=128, groups=4, train=train, grpo=rl.GrpoConfig(kl_weight=0.1),
                     sampling=SamplingConfig(max_new_tokens=128, num_samples=4, batch_size=16)))


@needs_libtpu
def test_every_program_is_planned(config, tmp_path, capsys):
    found = plan.run(config, tmp_path / "plan")
    rows = {row["program"]: row for row in found["programs"]}
    assert list(rows) == list(plan.PROGRAMS) and all(row["fits"] for row in rows.values())
    model = plan.find_model(config.model)
    masters = transformer.num_parameters(model) * 4 // 8
    for name in ("sft", "rl"):
        terms = rows[name]["terms"]
        assert masters <= terms["parameters"] < 1.05 * masters  # norms lie whole on each device
        assert terms["optimizer"] == pytest.approx(2 * terms["parameters"], rel=0.01) and terms["activations"] > 0
        inside = [each for each in rows[name]["collectives"] if each["in_layers"] and each["kind"] == "all-gather"]
        assert inside[0]["runs"] >= 2 * 2 * 3  # for each part, forward and backward, in each layer
        stack = min(3 * 256 * 512, 3 * 256 * 4 * 128) * 2  # bytes of the smallest stacked matrix in bf16
        assert not [each for each in rows[name]["collectives"] if not each["in_layers"]
                    and each["kind"] == "all-gather" and each["largest"] >= stack]
    assert rows["rl"]["terms"]["beside"] == pytest.approx(rows["rl"]["terms"]["parameters"] / 2, rel=0.01)
    assert rows["sft"]["tokens"] == 8 * 256 and rows["rl"]["tokens"] == 16 * 256
    assert rows["sft"]["flops"] == flops.train(model, 8 * 256, 256)
    # The decode loop writes its cache in place: no second one hides in the temporaries.
    pages = 16 * 8 + 4 * 4  # of 16 rows of 256 positions, and of a prompt that waits on each of four device groups
    assert rows["decode"]["terms"]["cache"] == 3 * pages * 32 * 2 * 128 * 2 * 2 // 8
    assert rows["decode"]["terms"]["cache"] <= rows["decode"]["aliased"]
    assert rows["decode"]["temporaries"] < rows["decode"]["terms"]["cache"]
    # Its weights stay where they are: what is sent for a token is smaller than a device's share of one layer.
    sent = sum(each["bytes"] for each in rows["decode"]["collectives"] if each["in_layers"])
    assert 0 < sent / 3 < rows["decode"]["terms"]["weights"] / 3
    assert json.loads((tmp_path / "plan/plan.json").read_text())["memory"] == int(31.24 * 2**30)
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "plan/plan.md").read_text()
    assert "| GiB a device | parameters |" in printed and "8 devices of 31.24 GiB" in printed


@needs_libtpu
def test_of_adapters_alone_there_are_gradients_and_moments(config, tmp_path):
    adapters = LoraConfig(rank=8)
    train = dataclasses.replace(config.sft.train, lora=adapters)
    config = dataclasses.replace(config, programs=("sft",), sft=dataclasses.replace(config.sft, train=train))
    (row,) = plan.run(config, tmp_path)["programs"]
    model, terms = plan.find_model(config.model), row["terms"]
    number = 3 * 8 * (256 + 512 + 2 * (256 + 256) + 512 + 256 + 3 * (256 + 512))
    assert number == lora.num_parameters(model, adapters)
    # Over fsdp=4 or tensor=2 one of the two sides of each is cut, the rank is not: between these, and both in float32.
    assert 4 * number / 4 < terms["parameters"] < 4 * number / 2
    assert terms["optimizer"] == pytest.approx(2 * terms["parameters"], abs=64)
    assert terms["gradients"] == terms["parameters"]
    frozen = 2 * transformer.num_parameters(model) / 8
    assert frozen <= terms["frozen"] < 1.05 * frozen
    assert row["flops"] == flops.train(model, 8 * 256, 256, number) < 0.75 * flops.train(model, 8 * 256, 256)


@needs_libtpu
def test_a_plan_that_does_not_fit_names_the_largest_terms_and_what_helps(config, tmp_path, capsys):
    wide = dataclasses.replace(config.rl, sampling=dataclasses.replace(config.rl.sampling, batch_size=2**20))
    (row,) = plan.run(dataclasses.replace(config, rl=wide, programs=("decode",)), tmp_path)["programs"]
    assert not row["fits"] and row["terms"]["cache"] > row["memory"]
    assert "the largest are cache" in row["message"] and "a smaller sampling.batch_size" in row["message"]
    assert "| **no** |" in capsys.readouterr().out


@needs_libtpu
def test_slices_hold_copies(config, tmp_path):
    train = dataclasses.replace(config.sft.train, mesh=MeshConfig(data=2, fsdp=-1, tensor=2))
    found = plan.run(dataclasses.replace(config, topology="v5e:2x2", slices=2, programs=("sft",),
                                         sft=dataclasses.replace(config.sft, train=train)), tmp_path)
    assert found["devices"] == 8 and found["programs"][0]["fits"]
    assert found["programs"][0]["terms"]["parameters"] > transformer.num_parameters(plan.find_model(config.model))
    with pytest.raises(ValueError, match="2 slices need data to be a multiple of 2"):
        plan.run(dataclasses.replace(config, topology="v5e:2x2", slices=2), tmp_path)


@needs_libtpu
def test_attention_on_tpus_is_the_kernel_and_holds_no_scores(config):
    config = dataclasses.replace(config, sft=dataclasses.replace(config.sft, sequence_length=1024))
    mesh = meshes.make(config.sft.train.mesh, topologies.devices(config.topology))
    program = plan.build("sft", config, plan.find_model(config.model), mesh)
    with jax.set_mesh(mesh):
        text = program.function.lower(*program.arguments).as_text()
    assert "tpu_custom_call" in text and not re.search("1024x1024x(f32|bf16)", text)


@needs_libtpu
@pytest.mark.parametrize("topology", ["v5e:2x4", "v5p:2x2x2", "v6e:2x4"])
@pytest.mark.parametrize("dtype", ["", "int8"])
def test_decoding_on_tpus_is_the_paged_kernel_and_has_one_cache(config, tmp_path, topology, dtype):
    how = dataclasses.replace(config.rl.sampling, cache_dtype=dtype)
    # Two kv heads on a device: 8-bit pages need them.
    train = dataclasses.replace(config.rl.train, mesh=MeshConfig(fsdp=-1, tensor=1))
    config = dataclasses.replace(config, topology=topology, programs=("prefill", "decode"),
                                 rl=dataclasses.replace(config.rl, sampling=dataclasses.replace(how, batch_size=256),
                                                        train=train))
    for row in plan.run(config, tmp_path)["programs"]:
        assert row["fits"] and row["terms"]["cache"] <= row["aliased"]
        if row["program"] == "decode":
            assert row["temporaries"] < row["terms"]["cache"] / 2
    mesh = meshes.make(config.rl.train.mesh, topologies.devices(topology))
    program = plan.build("decode", config, plan.find_model(config.model), mesh)
    with jax.set_mesh(mesh):
        text = program.function.lower(*program.arguments, **program.options).as_text()
    assert text.count("ragged_paged_attention_kernel") > 0


@needs_libtpu
def test_sampling_is_planned_where_it_runs(config, tmp_path):
    only = dataclasses.replace(config, programs=("decode",))
    (same,) = plan.run(only, tmp_path)["programs"]
    four = MeshConfig(data=4, fsdp=1, tensor=2)
    other = dataclasses.replace(only, rl=dataclasses.replace(only.rl, sampling_mesh=four))
    (copies,) = plan.run(other, tmp_path)["programs"]
    assert copies["terms"]["weights"] > 2 * same["terms"]["weights"]  # a copy on each pair of devices
    assert copies["terms"]["beside"] == same["terms"]["beside"]
    apart = dataclasses.replace(only, rl=dataclasses.replace(only.rl, overlap=True, sampling_devices=4))
    (row,) = plan.run(apart, tmp_path)["programs"]
    assert "beside" not in row["terms"]  # the trainer's state lies on other devices


def test_what_cannot_be_planned_is_named(config, tmp_path):
    with pytest.raises(ValueError, match="programs='sfd': expected some of sft, rl"):
        plan.run(dataclasses.replace(config, programs=("sfd",)), tmp_path)
    with pytest.raises(ValueError, match=r"model='Qwen': expected a folder with a config.json, or one of Qwen/"):
        plan.find_model("Qwen")
    with pytest.raises(ValueError, match="topology 'v7'"):
        plan.run(dataclasses.replace(config, topology="v7"), tmp_path)


@pytest.mark.parametrize("name, billions", [("Qwen/Qwen2.5-32B", 32.76), ("Qwen/Qwen3-8B", 8.19),
                                            ("Qwen/Qwen3-1.7B", 1.72)])
def test_published_shapes_have_the_published_sizes(name, billions):
    assert transformer.num_parameters(PUBLISHED[name]) / 1e9 == pytest.approx(billions, abs=0.005)


def test_flops_are_the_formula_by_hand():
    config = PUBLISHED["Qwen/Qwen3-8B"]
    matrices = transformer.num_parameters(config) - 151936 * 4096 - 36 * (2 * 4096 + 2 * 128) - 4096
    assert flops.forward(config, 1, 0) == 2 * matrices
    assert flops.forward(config, 1, 100) - flops.forward(config, 1, 0) == 36 * 2 * 2 * 100 * 32 * 128
    assert flops.train(config, 10, 200) == 30 * flops.forward(config, 1, 100)


@pytest.mark.parametrize("size", ["32b", "8b", "1p7b"])
def test_plans_of_the_shipped_configs_are_of_the_configs_that_run(size):
    folder = "configs/libra_rm_" + size
    planned = configs.load(f"{folder}.py", plan.Config)
    assert planned.sft == configs.load(f"{folder}_sft.py", sft.Config)
    assert planned.rl == configs.load(f"{folder}_rl.py", rl.Config)
    assert planned.sft.sequence_length == planned.rl.prompt_length + planned.rl.sampling.max_new_tokens == 16384
