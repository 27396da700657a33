"""A random checkpoint of a few thousand parameters with a byte-level tokenizer, and a chat-completions server."""

import importlib.util
import json
import pathlib

import jax
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from libra_jax.model import hf, transformer
from libra_jax.model.config import ModelConfig

_spec = importlib.util.spec_from_file_location("chat_server", pathlib.Path(__file__).parents[1] / "chat_server.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
chat, server = _module.chat, _module.server


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> str:
    """A random checkpoint in Hugging Face format: its folder, named "tiny"."""
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
