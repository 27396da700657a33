"""Names of TPU topologies; their devices, where libtpu is installed."""

import importlib.util

import pytest

from libra_jax.parallel import mesh as meshes
from libra_jax.parallel import topologies

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


@pytest.mark.parametrize("name", ["v5litepod-16", "v9:2x2", "v5p", "v5p:4"])
def test_a_topology_that_is_none_is_named_with_those_there_are(name):
    with pytest.raises(ValueError, match=f"topology '{name}'.*v5p:4x4x4.*generations: v4, v5e, v5p, v6e, tpu7x"):
        topologies.devices(name)


def test_a_machine_without_libtpu_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'libra_jax\[tpu\]'"):
        topologies.devices("v6e:2x2")


@needs_libtpu
@pytest.mark.parametrize("name, slices, sizes", [
    ("v6e:4x4", 1, {"fsdp": 2, "tensor": 8}), ("v5e:4x4", 2, {"data": 2, "fsdp": 4, "tensor": 4}),
    ("v5p:2x2x4", 2, {"data": -1, "fsdp": 2, "tensor": 4}), ("v4:2x2x4", 1, {"fsdp": -1, "tensor": 4})])
def test_meshes_hold_every_device_once_and_slices_along_data(name, slices, sizes):
    devices = topologies.devices(name, slices)
    mesh = meshes.make(meshes.MeshConfig(**sizes), devices)
    assert sorted(device.id for device in mesh.devices.flat) == sorted(device.id for device in devices)
    if slices > 1:
        for part in mesh.devices.reshape(slices, -1):
            assert len({device.slice_index for device in part}) == 1


@needs_libtpu
def test_slices_talk_along_data_alone():
    with pytest.raises(ValueError, match="2 slices need data to be a multiple of 2"):
        meshes.make(meshes.MeshConfig(fsdp=-1), topologies.devices("v5e:4x4", 2))
    with pytest.raises(ValueError, match="topology 'v5p:3x3x3'"):
        topologies.devices("v5p:3x3x3")
