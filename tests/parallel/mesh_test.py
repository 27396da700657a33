"""Meshes of eight forced host devices."""

import dataclasses
import types

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


def test_a_single_device_needs_no_mesh_to_sample(monkeypatch):
    assert meshes.for_sampling(meshes.MeshConfig(data=-1, fsdp=1)).size == 8
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: one)
    assert meshes.for_sampling(meshes.MeshConfig(data=-1, fsdp=1)) is None


@dataclasses.dataclass(frozen=True, eq=False)
class Device:
    process_index: int


@pytest.fixture
def lies(monkeypatch):
    """Makes device d of a mesh lie on host hosts[d] and hold the rows rows[d], a range."""
    def lie(hosts, rows):
        where = {Device(host): (slice(some.start, some.stop),) for host, some in zip(hosts, rows, strict=True)}
        layout = types.SimpleNamespace(devices_indices_map=lambda shape: where)
        monkeypatch.setattr(jax.sharding, "NamedSharding", lambda mesh, spec: layout)

    return lie


def test_each_host_feeds_the_rows_of_its_devices(lies):
    lies([1, 0, 1, 0], [range(0, 2), range(2, 4), range(4, 6), range(6, 8)])  # in the order of a torus, say
    shares, own = meshes.shares(8, meshes.make())
    assert [share.tolist() for share in shares] == [[0, 1, 4, 5], [2, 3, 6, 7]] and own == 1
    lies([0, 1, 2, 3], [range(0, 4), range(0, 4), range(4, 8), range(4, 8)])  # layers spread over two hosts
    shares, own = meshes.shares(8, meshes.make())
    assert [share.tolist() for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7]] and own == 0
    lies([0, 0, 1, 1], [range(0, 4), range(4, 8), range(4, 8), range(8, 12)])
    with pytest.raises(ValueError, match="a row would lie on a part of one host and a part of another"):
        meshes.shares(12, meshes.make())


@pytest.mark.parametrize(("sizes", "message"), [
    ((3, -1, 1), "3 does not divide the number of devices, 8"),
    ((2, 2, 1), "4 devices asked for, 8 there"),
    ((-1, -1, 1), "one may be -1"),
    ((0, -1, 1), "at least 1"),
])
def test_sizes_that_do_not_fit_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        meshes.make(meshes.MeshConfig(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]))
