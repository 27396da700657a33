"""A checkpoint re-exported in another dtype and in shards is the same checkpoint."""

import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.judging import prompt
from libra_jax.model import hf, safetensors_io, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.stages import convert

CONFIG = ModelConfig(vocab_size=64, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                     feedforward_size=48)


@pytest.fixture
def source(tmp_path):
    """A folder with a checkpoint of CONFIG and a tokenizer."""
    hf.save(tmp_path / "in", CONFIG, transformer.init(CONFIG, key=jax.random.key(0)))
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    return tmp_path / "in"


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_convert_rounds_shards_and_carries_the_tokenizer(tmp_path, capsys):
    params = transformer.init(CONFIG, key=jax.random.key(0))
    hf.save(tmp_path / "in", CONFIG, params)
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    prompt.save_template(tmp_path / "in", prompt.TEMPLATES["miniature"])
    argv = ["convert", f"--workdir={tmp_path / 'out'}", f"--config.checkpoint={tmp_path / 'in'}",
            "--config.max_shard_bytes=8000"]
    assert convert.main(argv) == 0
    assert "in bfloat16, " in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "checkpoint").glob("model-*.safetensors"))) > 1
    assert (tmp_path / "out" / "checkpoint" / "tokenizer.json").is_file()
    assert prompt.template_of(tmp_path / "out" / "checkpoint") == prompt.TEMPLATES["miniature"]
    config, loaded = hf.load(tmp_path / "out" / "checkpoint")
    assert config == CONFIG
    for found, leaf in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(found, np.asarray(leaf.astype(jnp.bfloat16), np.float32))


def test_convert_never_writes_over_what_it_reads(tmp_path):
    source = tmp_path / "checkpoint"
    hf.save(source, CONFIG, transformer.init(CONFIG, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="is where the result goes"):
        convert.run(convert.Config(checkpoint=str(source)), tmp_path)
    assert hf.read_config(source) == CONFIG


def test_convert_writes_the_bytes_of_load_and_save(source, tmp_path):
    for dtype in ("float32", "bfloat16", "float16"):
        convert.run(convert.Config(checkpoint=str(source), dtype=dtype, max_shard_bytes=8000), tmp_path / dtype)
        config, params = hf.load(source, dtype=dtype)
        hf.save(tmp_path / "saved", config, params, dtype=dtype, max_shard_bytes=8000, tokenizer_from=source)
        assert contents(tmp_path / dtype / "checkpoint") == contents(tmp_path / "saved")


def _run_until(name, config, workdir, monkeypatch):
    """A run that is interrupted where it writes the file of this name."""
    write = safetensors_io.Writer.write

    def until(self, *args):
        if self.file.name.startswith(name):
            raise KeyboardInterrupt
        write(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(safetensors_io.Writer, "write", until)
        convert.run(config, workdir)


def test_a_killed_conversion_goes_on_with_the_files_that_are_whole(source, tmp_path, monkeypatch):
    config = convert.Config(checkpoint=str(source), max_shard_bytes=8000)
    whole = convert.run(config, tmp_path / "whole")
    target = tmp_path / "killed" / "checkpoint"
    _run_until("model-00003", config, tmp_path / "killed", monkeypatch)
    assert sorted(contents(target)) == whole["files"][:2]
    (target / f"{whole['files'][2]}.partial").write_bytes(b"what a process leaves that has no time to tidy")
    (target / whole["files"][1]).write_bytes((target / whole["files"][1]).read_bytes()[:-1])
    first = (target / whole["files"][0]).stat().st_ino
    again = convert.run(config, tmp_path / "killed")
    assert (whole["num_kept"], again["num_kept"]) == (0, 1)
    assert (target / whole["files"][0]).stat().st_ino == first
    assert contents(target) == contents(tmp_path / "whole" / "checkpoint")
    (target / whole["files"][4]).unlink()
    _run_until("model-00005", config, tmp_path / "killed", monkeypatch)
    assert not (target / "config.json").exists()  # a folder which has one is whole
    assert convert.run(config, tmp_path / "killed")["num_kept"] == len(whole["files"]) - 1
    assert contents(target) == contents(tmp_path / "whole" / "checkpoint")


def test_what_was_made_from_another_checkpoint_or_config_is_refused(source, tmp_path):
    config = convert.Config(checkpoint=str(source))
    convert.run(config, tmp_path)
    before = contents(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"was made with dtype='bfloat16', now dtype='float32'; use another"):
        convert.run(convert.Config(checkpoint=str(source), dtype="float32"), tmp_path)
    hf.save(source, CONFIG, transformer.init(CONFIG, key=jax.random.key(1)))
    with pytest.raises(ValueError, match=r"was made with checkpoint=.* --workdir"):
        convert.run(config, tmp_path)
    assert contents(tmp_path / "checkpoint") == before
    (tmp_path / "checkpoint.config.json").unlink()
    with pytest.raises(ValueError, match="weights that this stage did not write"):
        convert.run(config, tmp_path)


def _cut(source):
    (source / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:-10])


def _narrow(source):
    values = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**values, "intermediate_size": 40}))


@pytest.mark.parametrize("damage, message", [
    (_cut, "cut off: tensor 'model.norm.weight' of shape (32,) ends at byte"),
    (_narrow, "tensor 'model.layers.0.mlp.down_proj.weight' has shape (32, 48), expected (32, 40) from config.json"),
])
def test_a_damaged_checkpoint_ends_in_one_line_and_can_be_mended(source, tmp_path, capsys, damage, message):
    sound = contents(source)
    damage(source)
    argv = ["convert", f"--workdir={tmp_path}", f"--config.checkpoint={source}"]
    assert convert.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {source}/model.safetensors: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "checkpoint").exists()
    for name, data in sound.items():
        (source / name).write_bytes(data)
    assert convert.main(argv) == 0


def test_a_full_disk_ends_in_one_line_without_a_config_and_the_next_run_goes_on(source, tmp_path, capsys):
    argv = ["convert", f"--workdir={tmp_path}", f"--config.checkpoint={source}", "--config.max_shard_bytes=6000"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # less than the third file has
    try:
        assert convert.main(argv) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert "bytes of tensors to write; make room and start again" in error and error.count("\n") == 1
    left = contents(tmp_path / "checkpoint")
    assert [name.partition("-of-")[0] for name in sorted(left)] == ["model-00001", "model-00002"]
    assert convert.main(argv) == 0
    assert "(2 kept from an earlier run)" in capsys.readouterr().out


def test_a_value_that_float16_cannot_hold_is_told(source, tmp_path):
    config, params = hf.load(source)
    params["final_norm"]["scale"] = params["final_norm"]["scale"].at[3].set(1e6)
    hf.save(source, config, params)
    with pytest.raises(ValueError, match=r"tensor 'model\.norm\.weight' holds 1000000\.0, expected at most 65504"):
        convert.run(convert.Config(checkpoint=str(source), dtype="float16"), tmp_path)
