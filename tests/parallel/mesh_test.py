"""Meshes of eight forced host devices."""

import jax
import pytest

from libra_jax.parallel import mesh as meshes


def test_one_size_takes_what_is_left():
    assert dict(meshes.make().shape) == {"data": 1, "fsdp": 8, "sequence": 1, "tensor": 1}
    four = meshes.make(meshes.MeshConfig(data=-1, fsdp=2, tensor=2))
    assert dict(four.shape) == {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
    one = meshes.make(devices=jax.devices()[3:4])
    assert dict(one.shape) == {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1}
    assert one.devices.flat[0] == jax.devices()[3]


@pytest.mark.parametrize(("sizes", "message"), [
    ((3, -1, 1), "3 does not divide the number of devices, 8"),
    ((2, 2, 1), "4 devices asked for, 8 there"),
    ((-1, -1, 1), "one may be -1"),
    ((0, -1, 1), "at least 1"),
])
def test_sizes_that_do_not_fit_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        meshes.make(meshes.MeshConfig(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]))
