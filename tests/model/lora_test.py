"""Adapters: nothing at first, then what W + scale a b is; alone in the gradient, in PEFT's files, on many devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from libra_jax.model import hf, layers, lora, peft, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes

SMALL = dict(vocab_size=64, model_size=32, num_heads=4, num_kv_heads=2, head_size=8, feedforward_size=48)
QWEN3 = ModelConfig(num_layers=2, **SMALL)
LLAMA = ModelConfig(family="llama", num_layers=2, qk_norm=False, tie_embeddings=False, attention_bias=True,
                    output_bias=True, **SMALL)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(1, 64, (4, 12)))
POSITIONS = jnp.broadcast_to(jnp.arange(12), (4, 12))
LORA = lora.LoraConfig(rank=3, alpha=6.0)

apply = jax.jit(transformer.apply, static_argnums=0)


def one_device():
    return meshes.make(meshes.MeshConfig(), jax.devices()[:1])


def moved(config, adapters=LORA):
    """Adapters that do something."""
    random = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: jnp.asarray(0.2 * random.standard_normal(leaf.shape), jnp.float32),
                        lora.shapes(config, adapters))


@pytest.mark.parametrize("config", [QWEN3, LLAMA], ids=lambda config: config.family)
def test_at_first_the_adapted_model_is_the_base_bit_for_bit(config):
    params = transformer.init(config, key=jax.random.key(0))
    adapters = lora.init(config, LORA, one_device(), seed=1)
    assert all(np.ptp(pair["a"]) > 0 and not np.any(pair["b"]) for part in adapters.values() for pair in part.values())
    base = apply(config, params, TOKENS, positions=POSITIONS)
    np.testing.assert_array_equal(apply(config, lora.join(params, adapters, LORA), TOKENS, positions=POSITIONS), base)


@pytest.mark.parametrize("targets", [tuple(lora.TARGETS), ("q", "down")], ids=len)
@pytest.mark.parametrize("config", [QWEN3, LLAMA], ids=lambda config: config.family)
def test_merged_gives_the_logits_of_adapted(config, targets):
    how = lora.LoraConfig(rank=3, alpha=6.0, targets=targets)
    params = transformer.init(config, key=jax.random.key(0))
    adapted = lora.join(params, moved(config, how), how)
    found = apply(config, adapted, TOKENS, positions=POSITIONS)
    np.testing.assert_allclose(apply(config, lora.merge(adapted), TOKENS, positions=POSITIONS), found, atol=1e-5)
    assert np.abs(found - apply(config, params, TOKENS, positions=POSITIONS)).max() > 0.1


def test_merged_is_the_sum_by_hand_and_leaves_the_rest():
    params = transformer.init(QWEN3, key=jax.random.key(0))
    adapters = moved(QWEN3, LORA)
    merged = lora.merge(lora.join(transformer.cast(QWEN3, params), adapters, LORA))
    o = adapters["attention"]["o"]
    by_hand = params["blocks"]["attention"]["o"] + 2.0 * np.einsum("lnhr,lrd->lnhd", o["a"], o["b"])
    np.testing.assert_allclose(merged["blocks"]["attention"]["o"], by_hand, atol=1e-6)
    np.testing.assert_array_equal(merged["embedding"], params["embedding"])
    assert lora.merge(params) == params  # the same arrays
    half = lora.join(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), adapters, LORA)
    assert {leaf.dtype for leaf in jax.tree.leaves(lora.merge(half))} == {np.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("inputs", [1, 2])
def test_the_gradient_is_the_one_by_hand(inputs):
    shape, random = {1: (6, 2, 5), 2: (2, 3, 7)}[inputs], np.random.default_rng(0)
    weight, x = random.normal(size=shape), random.normal(size=(2, 4, *shape[:inputs]))
    a, b = random.normal(size=(*shape[:inputs], 3)), random.normal(size=(3, *shape[inputs:]))
    slope = random.normal(size=(2, 4, *shape[inputs:]))  # of the loss by the result

    def loss(pair):
        adapted = layers.Adapted(weight=jnp.float32(weight), a=pair["a"], b=pair["b"], scale=0.5)
        return jnp.sum(layers.product(QWEN3, jnp.float32(x), nnx.Param(adapted), inputs) * slope)

    found = jax.grad(loss)({"a": jnp.float32(a), "b": jnp.float32(b)})
    x, slope, a, b = x.reshape(8, -1), slope.reshape(8, -1), a.reshape(-1, 3), b.reshape(3, -1)
    np.testing.assert_allclose(found["a"].reshape(a.shape), 0.5 * x.T @ slope @ b.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["b"].reshape(b.shape), 0.5 * a.T @ x.T @ slope, rtol=1e-4, atol=1e-4)


def test_eight_devices_give_what_one_gives():
    params, adapters = transformer.init(QWEN3, key=jax.random.key(0)), moved(QWEN3)

    def loss(adapters, params):
        logits = transformer.apply(QWEN3, lora.join(params, adapters, LORA), TOKENS, positions=POSITIONS)
        return jnp.mean(jax.nn.log_softmax(logits)[..., 0])

    value, gradient = jax.jit(jax.value_and_grad(loss))(adapters, params)
    mesh = meshes.make(meshes.MeshConfig(data=2, fsdp=2, tensor=2))
    layout = lora.shardings(QWEN3, LORA, mesh)
    assert layout["attention"]["o"]["a"].spec == jax.P(None, "tensor", None, None)
    assert layout["feedforward"]["up"]["b"].spec == jax.P(None, None, "tensor")
    first = lora.init(QWEN3, LORA, mesh, seed=5)
    jax.tree.map(np.testing.assert_array_equal, first, lora.init(QWEN3, LORA, one_device(), seed=5))
    with jax.set_mesh(mesh):
        spread = jax.jit(jax.value_and_grad(loss))(jax.device_put(adapters, layout),
                                                   jax.device_put(params, transformer.shardings(QWEN3, mesh)))
    assert spread[0] == pytest.approx(float(value), rel=1e-5)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), spread[1], gradient)


@pytest.mark.parametrize(("change", "message"), [
    ({"rank": -1}, "rank of at least 1"), ({"rank": 2, "alpha": 0.0}, "alpha above 0"),
    ({"targets": ("q", "gat")}, "'gat'.*nearest is 'gate'"), ({"targets": ()}, "at least one of"),
    ({"targets": ("q", "q")}, "once")])
def test_settings_that_cannot_be_name_the_remedy(change, message):
    with pytest.raises(ValueError, match=message):
        lora.LoraConfig(**change)


@pytest.fixture
def exported(tmp_path):
    """A base checkpoint, PEFT's files of adapters beside it, and both summed up."""
    params, adapters = transformer.init(LLAMA, key=jax.random.key(0)), moved(LLAMA)
    hf.save(tmp_path / "base", LLAMA, params)
    hf.save(tmp_path / "merged", LLAMA, lora.merge(lora.join(params, adapters, LORA)))
    peft.save(tmp_path / "adapter", LLAMA, adapters, LORA, base=str(tmp_path / "base"))
    return tmp_path


def test_the_files_of_peft_are_what_was_merged(exported):
    base, merged = (load_file(exported / name / "model.safetensors") for name in ("base", "merged"))
    adapters = load_file(exported / "adapter/adapter_model.safetensors")
    said = json.loads((exported / "adapter/adapter_config.json").read_text())
    assert (said["peft_type"], said["r"], said["lora_alpha"]) == ("LORA", 3, 6)
    assert set(said["target_modules"]) == {f"{name}_proj" for name in lora.TARGETS}
    assert len(adapters) == 2 * 7 * LLAMA.num_layers
    for name, weight in base.items():
        module = "base_model.model." + name.removesuffix(".weight")
        if f"{module}.lora_A.weight" in adapters:
            a, b = adapters.pop(f"{module}.lora_A.weight"), adapters.pop(f"{module}.lora_B.weight")
            assert a.shape == (3, weight.shape[1]) and b.shape == (weight.shape[0], 3)
            weight = weight + said["lora_alpha"] / said["r"] * (b @ a)
        np.testing.assert_allclose(merged[name], weight, atol=1e-5)
    assert not adapters


def test_transformers_reads_the_merged_export_and_peft_the_adapters(exported):
    transformers = pytest.importorskip("transformers")
    import torch

    params = lora.join(hf.load(exported / "base")[1], moved(LLAMA), LORA)
    ours = np.asarray(apply(LLAMA, params, TOKENS, positions=POSITIONS))

    def logits(model):
        with torch.no_grad():
            return model(torch.tensor(np.asarray(TOKENS))).logits.numpy()

    load = transformers.AutoModelForCausalLM.from_pretrained
    np.testing.assert_allclose(logits(load(exported / "merged", dtype=torch.float32).eval()), ours, atol=1e-4)
    theirs = pytest.importorskip("peft")
    adapted = theirs.PeftModel.from_pretrained(load(exported / "base", dtype=torch.float32).eval(),
                                               str(exported / "adapter")).eval()
    np.testing.assert_allclose(logits(adapted), ours, atol=1e-4)
