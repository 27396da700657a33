"""Logits equal those of transformers, for every family, before and after export."""

import dataclasses
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from libra_jax.model import config as configs
from libra_jax.model import hf, transformer
from libra_jax.parallel import mesh as meshes

_SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
              head_dim=8, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0)
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 16, "rope_theta": 10000.0}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
_GEMMA3 = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
           "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}}
FAMILIES = {
    "qwen2": transformers.Qwen2Config(**_SMALL, num_hidden_layers=2, tie_word_embeddings=False),
    "qwen2_sliding": transformers.Qwen2Config(**_SMALL, num_hidden_layers=2, tie_word_embeddings=True, sliding_window=5,
                                              use_sliding_window=True, max_window_layers=1),
    "qwen3": transformers.Qwen3Config(**_SMALL, num_hidden_layers=2, tie_word_embeddings=True),
    "qwen3_yarn": transformers.Qwen3Config(**_SMALL, num_hidden_layers=2, rope_parameters=_YARN),
    "qwen3_bias": transformers.Qwen3Config(**_SMALL, num_hidden_layers=1, attention_bias=True),
    "llama3": transformers.LlamaConfig(**_SMALL, num_hidden_layers=2, rope_parameters=_LLAMA3),
    "gemma2": transformers.Gemma2Config(**_SMALL, num_hidden_layers=3, sliding_window=5, query_pre_attn_scalar=16,
                                        attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3": transformers.Gemma3TextConfig(**_SMALL, num_hidden_layers=7, sliding_window=5, query_pre_attn_scalar=16,
                                            rope_parameters=_GEMMA3),
}
TOKENS = np.random.default_rng(0).integers(3, 96, (2, 24))


def reference(name):
    """A transformers model of random weights: also norms and biases, which start as constants, are made random."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[name], attn_implementation="eager").eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def their_logits(model):
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.numpy()


def our_logits(config, params):
    positions = jnp.broadcast_to(jnp.arange(TOKENS.shape[1]), TOKENS.shape)
    run = jax.jit(transformer.apply, static_argnums=0)
    return np.asarray(run(config, params, jnp.asarray(TOKENS), positions=positions))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_those_of_transformers_before_and_after_export(name, tmp_path):
    model = reference(name)
    expected = their_logits(model)
    model.save_pretrained(tmp_path / "theirs")
    config, params = hf.load(tmp_path / "theirs")
    found = our_logits(config, params)
    before = np.abs(found - expected).max()
    hf.save(tmp_path / "ours", config, params)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").float()
    after = np.abs(their_logits(again.eval()) - expected).max()
    print(f"{name}: before export {before:.1e}, after {after:.1e}, of logits up to {np.abs(expected).max():.1f}")
    assert before < 1e-4
    assert after == 0.0
    assert hf.read_config(tmp_path / "ours") == config


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(folder, config, params) of a small Qwen3 checkpoint of ours."""
    config = configs.from_hf(FAMILIES["qwen3"].to_dict())
    params = transformer.init(config, key=jax.random.key(0))
    folder = tmp_path_factory.mktemp("checkpoint")
    hf.save(folder, config, params)
    return folder, config, params


def test_sharded_save_is_read_back_by_us_on_a_mesh_and_by_transformers(checkpoint, tmp_path):
    _, config, params = checkpoint
    hf.save(tmp_path, config, params, max_shard_bytes=20_000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    _, loaded = hf.load(tmp_path, mesh=meshes.make(meshes.MeshConfig(data=1, fsdp=2, tensor=4)))
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    q = loaded["blocks"]["attention"]["q"]  # [L, D, N, H]: D over fsdp, N over tensor
    assert {shard.data.shape for shard in q.addressable_shards} == {(2, 16, 1, 8)}
    k = loaded["blocks"]["attention"]["k"]  # two kv heads do not divide over four: they stay whole
    assert {shard.data.shape for shard in k.addressable_shards} == {(2, 16, 2, 8)}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").float().eval()
    assert np.abs(their_logits(model) - our_logits(config, params)).max() < 1e-4


def test_weights_that_stream_in_small_blocks_are_the_same_bytes(checkpoint, tmp_path):
    folder, config, params = checkpoint
    mesh = meshes.make(meshes.MeshConfig(data=2, fsdp=2, tensor=2))
    _, loaded = hf.load(folder, mesh=mesh, block_bytes=8000)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    hf.save(tmp_path, config, loaded, block_bytes=8000)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


def test_layers_of_several_dtypes_load_as_one_parameter(checkpoint, tmp_path):
    folder, _, params = checkpoint
    name = "model.layers.{}.mlp.down_proj.weight"

    def change(arrays):
        arrays[name.format(0)] = arrays[name.format(0)].astype(jnp.bfloat16)
        arrays[name.format(1)] = arrays[name.format(1)].astype(np.float64)

    _, loaded = hf.load(_rewrite(folder, tmp_path / "mixed", change), block_bytes=2000)
    expected = np.array(params["blocks"]["feedforward"]["down"])
    expected[0] = expected[0].astype(jnp.bfloat16)
    np.testing.assert_array_equal(loaded["blocks"]["feedforward"]["down"], expected)


def test_bfloat16_save_and_load_are_the_rounded_weights(checkpoint, tmp_path):
    _, config, params = checkpoint
    hf.save(tmp_path, config, params, dtype=jnp.bfloat16)
    loaded_config, loaded = hf.load(tmp_path, compute_dtype="bfloat16", remat="full")
    assert (loaded_config.dtype, loaded_config.remat) == ("bfloat16", "full")
    assert loaded["embedding"].dtype == jnp.float32
    np.testing.assert_array_equal(loaded["embedding"], params["embedding"].astype(jnp.bfloat16).astype(jnp.float32))
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_tokenizer_files_are_carried_along(checkpoint, tmp_path):
    folder, config, params = checkpoint
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_text("{}")
    (source / "notes.txt").write_text("not a tokenizer file")
    hf.save(tmp_path / "out", config, params, tokenizer_from=source)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert not (tmp_path / "out" / "notes.txt").exists()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        hf.copy_tokenizer(folder, tmp_path)


def test_multimodal_gemma3_reads_as_its_text_half(tmp_path):
    model = reference("gemma3")
    model.save_pretrained(tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    arrays = {"language_model." + name: array for name, array in arrays.items()}
    arrays["vision_tower.patch"] = np.zeros(3, np.float32)
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    config, params = hf.load(tmp_path)
    assert config.family == "gemma3_text"
    assert np.abs(our_logits(config, params) - their_logits(model)).max() < 1e-4


def _rewrite(folder, target, change):
    target.mkdir(exist_ok=True)
    (target / "config.json").write_text((folder / "config.json").read_text())
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    change(arrays)
    safetensors.numpy.save_file(arrays, target / "model.safetensors")
    return target


def test_errors_name_file_tensor_and_shapes(checkpoint, tmp_path):
    folder, config, params = checkpoint
    name = "model.layers.1.self_attn.q_proj.weight"
    short = _rewrite(folder, tmp_path / "a", lambda arrays: arrays.update({name: arrays[name][:-1]}))
    found = rf"a/model\.safetensors: tensor '{name}' has shape \(31, 32\), expected \(32, 32\)"
    with pytest.raises(ValueError, match=found):
        hf.load(short)
    raw = (folder / "model.safetensors").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "cut" / "model.safetensors").write_bytes(raw[:len(raw) // 2])
    with pytest.raises(ValueError, match=r"cut/model\.safetensors: cut off: tensor 'model.* ends at byte \d+"):
        hf.load(tmp_path / "cut")
    integers = _rewrite(folder, tmp_path / "int", lambda arrays: arrays.update({name: arrays[name].astype(np.int8)}))
    with pytest.raises(ValueError, match=f"tensor '{name}' has dtype I8, expected one of F64, F32, F16, BF16"):
        hf.load(integers)
    with pytest.raises(ValueError, match=f"'{name}' is missing"):
        hf.load(_rewrite(folder, tmp_path / "b", lambda arrays: arrays.pop(name)))
    extra = {"model.layers.0.self_attn.q_proj.bias": np.zeros(32, np.float32)}
    with pytest.raises(ValueError, match=r"q_proj\.bias' has no place in family 'qwen3'"):
        hf.load(_rewrite(folder, tmp_path / "c", lambda arrays: arrays.update(extra)))
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        hf.load(tmp_path / "nowhere")
    (tmp_path / "c" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"c/config\.json: not readable JSON"):
        hf.load(tmp_path / "c")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match=r"a/model\.safetensors: not a readable"):
        hf.load(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors"):
        hf.load(tmp_path / "a")
    with pytest.raises(ValueError, match="lacks 'unembedding'"):
        hf.save(tmp_path / "d", dataclasses.replace(config, tie_embeddings=False), params)
    with pytest.raises(ValueError, match="dtype=int8: weights are not written in it; expected one of float64, float32"):
        hf.save(tmp_path / "d", config, params, dtype=np.int8)


def test_an_export_that_meets_a_full_disk_leaves_no_config(checkpoint, tmp_path):
    _, config, params = checkpoint
    hf.save(tmp_path, config, params)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"bytes of tensors to write; make room.*model\.safetensors"):
            hf.save(tmp_path, config, params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []  # nor the older export, which would not be this one


_PROCESS = """
import os, sys
os.environ["JAX_PLATFORMS"], os.environ["XLA_FLAGS"] = "cpu", "--xla_force_host_platform_device_count=2"
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
number, port, source, target = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(number))
from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
config, params = hf.load(source, mesh=meshes.make(meshes.MeshConfig(data=1, fsdp=2, tensor=2)), block_bytes=8000)
assert not params["embedding"].is_fully_addressable
hf.save(target, config, params, max_shard_bytes=20_000, block_bytes=8000)
assert hf.check(target) == config  # all processes return when the first has written
"""


def test_two_processes_write_what_one_writes(checkpoint, tmp_path):
    folder, config, params = checkpoint
    hf.save(tmp_path / "one", config, params, max_shard_bytes=20_000)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _PROCESS]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    running = [subprocess.Popen([*command, str(number), str(port), str(folder), str(tmp_path / "two")],
                                env=environment, stderr=subprocess.PIPE, text=True) for number in range(2)]
    try:
        errors = [process.communicate(timeout=120)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], errors
    written = {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    assert written == {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
