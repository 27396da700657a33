"""A model family of one's own, as CONTRIBUTING.md shows it: Mistral, against transformers."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from libra_jax.model import config as configs
from libra_jax.model import families, hf, transformer
from libra_jax.model.families import Family

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOKENS = np.random.default_rng(0).integers(0, 128, (2, 12))


@pytest.fixture
def mistral(tmp_path):
    """A checkpoint of transformers, whose window is shorter than the tokens."""
    torch.manual_seed(0)
    config = transformers.MistralConfig(vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                        num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=4)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    model.save_pretrained(tmp_path / "mistral")
    return tmp_path / "mistral"


def theirs(path) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval().float()
    assert type(model).__name__ == "MistralForCausalLM"
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.numpy()


def ours(config, params) -> np.ndarray:
    return np.asarray(transformer.apply(config, params, jnp.asarray(TOKENS),
                                        positions=jnp.broadcast_to(jnp.arange(12), TOKENS.shape)))


def test_a_family_of_an_installed_package_gives_the_same_logits_in_and_out(lab, mistral, tmp_path):
    config, params = hf.load(mistral)
    assert config.family == "mistral" and config.sliding_window == 4 and config.sliding_layers == (True, True)
    np.testing.assert_allclose(ours(config, params), theirs(mistral), atol=1e-4)
    hf.save(tmp_path / "out", config, params)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["MistralForCausalLM"]
    np.testing.assert_allclose(theirs(tmp_path / "out"), theirs(mistral), atol=1e-6)


def test_what_the_row_says_of_it_counts(lab, mistral):
    config, params = hf.load(mistral)
    plain = configs.from_hf(json.loads((mistral / "config.json").read_text()) | {"sliding_window": None})
    assert plain.sliding_window == 0 and np.abs(ours(plain, params) - ours(config, params)).max() > 1e-2


def test_a_family_registered_from_python_is_known_in_this_process(mistral, shown, monkeypatch):
    monkeypatch.setattr(families, "_REGISTERED", {})
    with pytest.raises(ValueError, match=r"'mistral' is not supported; the nearest is .*CONTRIBUTING\.md"):
        hf.read_config(mistral)
    names = {}
    exec(shown("A model family") + '\n\nregister("mistral", MISTRAL)\n', names)
    assert hf.read_config(mistral).family == "mistral"
    families.register("mistral", names["MISTRAL"])  # the same again changes nothing
    with pytest.raises(ValueError, match="'mistral' is known already"):
        families.register("mistral", Family(like="qwen3", architecture="X"))


def test_a_family_like_none_that_ships_is_told(mistral, monkeypatch):
    monkeypatch.setattr(families, "_REGISTERED", {"mistral": Family(like="lama", architecture="X")})
    with pytest.raises(ValueError, match="'lama' is not supported; the nearest is 'llama'"):
        hf.read_config(mistral)
