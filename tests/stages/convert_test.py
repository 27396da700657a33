"""A checkpoint re-exported in another dtype and in shards is the same checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import hf, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.stages import convert

CONFIG = ModelConfig(vocab_size=64, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8,
                     feedforward_size=48)


def test_convert_rounds_shards_and_carries_the_tokenizer(tmp_path, capsys):
    params = transformer.init(CONFIG, key=jax.random.key(0))
    hf.save(tmp_path / "in", CONFIG, params)
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    argv = ["convert", f"--workdir={tmp_path / 'out'}", f"--config.checkpoint={tmp_path / 'in'}",
            "--config.max_shard_bytes=8000"]
    assert convert.main(argv) == 0
    assert "in bfloat16, " in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "checkpoint").glob("model-*.safetensors"))) > 1
    assert (tmp_path / "out" / "checkpoint" / "tokenizer.json").is_file()
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
