"""The table from logical axes to mesh axes."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from libra_jax.parallel import mesh as meshes
from libra_jax.parallel import rules


def test_spec_maps_names_by_the_table():
    assert rules.spec(("layers", "model", "heads", "head")) == PartitionSpec(None, "fsdp", "tensor", None)
    assert rules.spec(("batch", None)) == PartitionSpec(("data", "fsdp"), None)
    with pytest.raises(ValueError, match="'haeds' has no rule; the nearest is 'head"):
        rules.spec(("haeds",))


def test_sharding_keeps_whole_what_does_not_divide():
    mesh = meshes.make(meshes.MeshConfig(data=2, fsdp=2, tensor=2))
    assert rules.sharding(mesh, ("model", "heads")).spec == PartitionSpec("fsdp", "tensor")
    assert rules.sharding(mesh, ("model", "heads"), (6, 3)).spec == PartitionSpec("fsdp", None)
    assert rules.sharding(mesh, ("batch",), (6,)).spec == PartitionSpec("data")


def test_constrain_shards_where_a_mesh_is_set_and_is_idle_elsewhere():
    pin = jax.jit(lambda x: rules.constrain(x + 1, ("batch", "feedforward")))
    assert len(pin(jnp.zeros((4, 4))).sharding.device_set) == 1
    with jax.set_mesh(meshes.make(meshes.MeshConfig(data=2, fsdp=2, tensor=2))):
        assert pin(jnp.zeros((4, 4))).sharding.spec == PartitionSpec(("data", "fsdp"), "tensor")
