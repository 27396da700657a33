"""New weights come to the engine's layout on the devices, and are a copy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import mesh as meshes
from libra_jax.parallel.mesh import MeshConfig
from libra_jax.sampling import entrance

CONFIG = ModelConfig(vocab_size=64, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                     feedforward_size=48)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("train, sample", [((0, 8), (0, 8)), ((0, 4), (4, 8)), ((0, 6), (6, 8))])
def test_weights_enter_another_mesh_as_a_copy_and_without_the_host(dtype, train, sample):
    config = dataclasses.replace(CONFIG, dtype=dtype)
    trainer = meshes.make(MeshConfig(fsdp=-1, tensor=2), jax.devices()[slice(*train)])
    decoder = meshes.make(MeshConfig(data=2, fsdp=1, tensor=-1), jax.devices()[slice(*sample)])
    params = jax.device_put(transformer.init(config, key=jax.random.key(0)), transformer.shardings(config, trainer))
    expected = jax.tree.map(np.asarray, transformer.cast(config, params))
    with jax.transfer_guard_device_to_host("disallow_explicit"), jax.transfer_guard_host_to_device("disallow_explicit"):
        weights = entrance.enter(config, params, decoder)
    jax.tree.map(lambda leaf: leaf.delete(), params)  # as a donating step does
    layout = transformer.shardings(config, decoder)
    jax.tree.map(lambda leaf, other, like: (np.testing.assert_array_equal(leaf, other),
                                            like.is_equivalent_to(leaf.sharding, leaf.ndim) or 1 / 0),
                 weights, expected, layout)
    assert weights["embedding"].dtype == jnp.dtype(dtype)
