"""Eight host devices on a CPU for every test, slow tests on demand, the folder of real data, and a tiny checkpoint."""

import json
import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"  # tests compile more than they run
    " --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from libra_jax.model import hf, transformer
from libra_jax.model.config import ModelConfig


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too (minutes)")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; give --slow"))


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Real problems, rollouts and tokenizers; LIBRA_SHARED says where."""
    folder = pathlib.Path(os.environ.get("LIBRA_SHARED", pathlib.Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LIBRA_SHARED")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> str:
    """A random checkpoint of a few thousand parameters with a byte-level tokenizer: its folder, named "tiny"."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    vocab = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<think>", "</think>"])
    config = ModelConfig(vocab_size=len(vocab) + 4, num_layers=1, model_size=16, num_heads=2, num_kv_heads=1,
                         head_size=8, feedforward_size=16)
    hf.save(path, config, transformer.init(config, key=jax.random.key(0)))
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}), encoding="utf-8")
    return str(path)
