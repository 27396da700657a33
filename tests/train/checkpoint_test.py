"""Checkpoints that are broken, unfinished, of another run, on another mesh, or do not fit on the disk."""

import dataclasses
import os
import pathlib
import resource
import shutil
import subprocess

import jax
import numpy as np
import pytest

from libra_jax.command import entry
from libra_jax.parallel import mesh as meshes
from libra_jax.train import checkpoint, metrics, state


def _same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope="module")
def ended(toy, tmp_path_factory):
    """(folder, state) of a whole run of 8 steps, saved after 3 and 6."""
    folder = tmp_path_factory.mktemp("ended")
    return folder, toy.run(folder, num_steps=8, save_every=3)


@pytest.fixture
def workdir(ended, tmp_path):
    shutil.copytree(ended[0], tmp_path / "run")
    return tmp_path / "run"


def _largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


BREAKS = {
    "a flipped bit in an array": (lambda folder: _flip(_largest(folder)), "its checksum differs"),
    "a truncated array": (lambda folder: os.truncate(_largest(folder), 100), "has 100 bytes"),
    "a lost array": (lambda folder: _largest(folder).unlink(), "is missing"),
    "a flipped bit in what Orbax notes": (lambda folder: _flip(folder / "_METADATA"), "_METADATA has changed"),
    "no seal": (lambda folder: (folder / checkpoint._SEAL).unlink(), "checksums.json is missing"),
    "a torn seal": (lambda folder: os.truncate(folder / checkpoint._SEAL, 20), "checksums.json is broken"),
    "an empty seal": (lambda folder: (folder / checkpoint._SEAL).write_text("{}\n"), "checksums.json is broken"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_checkpoint_is_refused_by_name_and_the_one_before_is_used(toy, workdir, ended, capfd, name):
    break_it, why = BREAKS[name]
    break_it(workdir / "checkpoints" / "6")
    again = toy.run(workdir, num_steps=8, save_every=3)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("checkpoints: ")]
    refused, aside, on = said
    assert f"{workdir}/checkpoints/6 is refused: " in refused and why in refused
    assert "set aside as 6.refused" in aside and "going on from step 3" in on
    assert _same(again, ended[1])
    assert (workdir / "metrics.jsonl").read_bytes() == (ended[0] / "metrics.jsonl").read_bytes()
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["3", "6", "6.refused"]


def test_what_orbax_writes_around_the_arrays_does_not_matter(toy, workdir, ended, capfd):
    for name in checkpoint._UNSEALED - {checkpoint._SEAL}:
        _flip(workdir / "checkpoints" / "6" / name)
    assert _same(toy.run(workdir, num_steps=8, save_every=3), ended[1])
    assert "going on from step 6" in capfd.readouterr().err


def test_where_no_checkpoint_is_whole_the_run_does_not_start_over_unasked(toy, workdir):
    for step in ("3", "6"):
        _flip(_largest(workdir / "checkpoints" / step))
    for _ in range(2):  # nor when it is asked again
        with pytest.raises(ValueError, match=rf"none of the checkpoints 3, 6 is whole .*remove {workdir}/checkpoints"):
            toy.run(workdir, num_steps=8, save_every=3)
    shutil.rmtree(workdir / "checkpoints")
    toy.run(workdir, num_steps=8, save_every=3)


def test_an_unfinished_save_is_named_and_removed(toy, workdir, ended, capfd):
    torn = workdir / "checkpoints" / "9.orbax-checkpoint-tmp-7"
    shutil.copytree(workdir / "checkpoints" / "6", torn)
    assert _same(toy.run(workdir, num_steps=8, save_every=3), ended[1])
    said = capfd.readouterr().err
    assert f"{torn} is unfinished" in said and "going on from step 6" in said and not torn.exists()


def test_the_newest_two_are_kept_and_saves_come_when_due(toy, tmp_path):
    toy.run(tmp_path, num_steps=7, save_every=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "6"]
    toy.run(tmp_path / "none", num_steps=3, save_every=0)
    assert not list((tmp_path / "none").glob("checkpoints/*"))
    with pytest.raises(ValueError, match="keep=1: expected at least 2"):
        checkpoint.Checkpointer(tmp_path, every=1, keep=1)


def test_a_checkpoint_of_something_else_is_named(toy, workdir):
    saver = checkpoint.Checkpointer(workdir / "checkpoints", every=1)
    mesh = meshes.make(meshes.MeshConfig(fsdp=1), jax.devices()[:1])
    other, _ = toy.start(mesh)
    with pytest.raises(ValueError, match="checkpoints/6 is whole, but not of this run"):
        saver.restore(other._replace(params={"v": other.params["w"]}))
    saver.close()


def test_a_state_saved_on_one_mesh_is_restored_on_another(tmp_path, toy):
    from libra_jax.model import transformer
    from libra_jax.model.config import ModelConfig
    from libra_jax.train import optimizer

    model = ModelConfig(vocab_size=64, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                        feedforward_size=64)
    adam = optimizer.make(optimizer.OptimizerConfig(), 1)

    def fresh(seed, **sizes):
        params = transformer.init(model, key=jax.random.key(seed))
        start = state.create(model, params, adam, meshes.make(meshes.MeshConfig(**sizes)))
        return start._replace(opt_state=jax.tree.map(lambda leaf: leaf + seed, start.opt_state))

    saved = fresh(1, fsdp=8)
    with_eight = checkpoint.Checkpointer(tmp_path, every=1)
    with_eight.save(1, saved)
    with_eight.close()
    other = fresh(2, data=2, fsdp=2, tensor=2)
    layout = jax.tree.map(lambda leaf: leaf.sharding, other)
    saver = checkpoint.Checkpointer(tmp_path, every=1)
    restored = saver.restore(other)
    saver.close()
    assert _same(jax.device_get(saved), jax.device_get(restored))
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == layout
    assert len({leaf.sharding for leaf in jax.tree.leaves(restored)}) > 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    """No fields."""


def _full_disk(toy, workdir, fill, free, capfd):
    """Main of a run whose second save finds no room; returns what was said."""
    toy.run(workdir, num_steps=3, save_every=3)

    def stage(config, workdir):
        def draw(number, params):
            if number == 4:
                fill()
            return toy.batch_at(number, params)
        try:
            return toy.run(workdir, num_steps=8, save_every=3, batch_at=draw)
        finally:
            free()

    status = entry.main(stage, _Config(), ["run", f"--workdir={workdir}"])
    said = capfd.readouterr().err
    assert status == 2 and "Traceback" not in said and "Event loop" not in said, said
    assert [path.name for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()] == ["3"]
    assert checkpoint.fault(workdir / "checkpoints" / "3") == ""
    return said


def test_a_file_that_may_not_grow_ends_in_one_line_and_the_old_checkpoint_is_whole(toy, tmp_path, ended, capfd):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    said = _full_disk(toy, tmp_path / "run", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1])),
                      lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits), capfd)
    assert f"error: cannot save {tmp_path}/run/checkpoints/6: " in said and "File too large" in said
    assert "GiB are free there" in said and "checkpoints/3 is whole" in said and "run the same command to go on" in said
    assert _same(toy.run(tmp_path / "run", num_steps=8, save_every=3), ended[1])
    assert metrics.read(tmp_path / "run/metrics.jsonl")[-1]["step"] == 8


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here; the limit on the size of files is tested instead")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_in_one_line_and_the_old_checkpoint_is_whole(toy, small_disk, ended, capfd):
    filler = small_disk / "filler"

    def fill():
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(max(free - 30_000, 0)))

    said = _full_disk(toy, small_disk / "run", fill, lambda: filler.unlink(missing_ok=True), capfd)
    assert "No space left on device" in said and "checkpoints/3 is whole" in said
    assert _same(toy.run(pathlib.Path(small_disk / "run"), num_steps=8, save_every=3), ended[1])
