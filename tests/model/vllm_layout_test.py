"""An export has what vLLM's loader asks for, each requirement beside the file of vllm-project/vllm that asks.

vLLM itself is not installed: the files were read at the commits below in November 2026.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from libra_jax.judging.prompt import TEMPLATES
from libra_jax.miniature import arithmetic
from libra_jax.model import card, hf, lora, peft, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.text import tokenizer as tokenizers

SMALL = dict(vocab_size=320, num_layers=2, model_size=32, num_heads=4, num_kv_heads=2, head_size=8, feedforward_size=48)
MODELS = {
    "qwen2": ModelConfig(family="qwen2", attention_bias=True, tie_embeddings=False, **SMALL),
    "qwen3": ModelConfig(family="qwen3", qk_norm=True, tie_embeddings=True, **SMALL),
    "llama": ModelConfig(family="llama", tie_embeddings=False, **SMALL),
    "gemma2": ModelConfig(family="gemma2", tie_embeddings=True, norm_unit_offset=True, post_norms=True, query_scale=8.0,
                          scale_embeddings=True, activation="gelu_tanh", sliding_window=4, sliding_layers=(True, False),
                          **SMALL),
}
# vllm/model_executor/models/registry.py at 0002bff: keys of _TEXT_GENERATION_MODELS, by config.json's "architectures".
REGISTRY = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM",
            "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
BASE = __import__("pathlib").Path(arithmetic.__file__).with_name("checkpoint")


@pytest.fixture(params=MODELS)
def exported(request, tmp_path):
    """(config, folder) of an export in bfloat16, in several files, with a card beside it."""
    config = MODELS[request.param]
    about = card.Card(kind="judge", template=TEMPLATES["libra"], data={}, temperature=1.0)
    files = card.files(BASE, tokenizers.load(BASE), about, stage="rl", config={}, metrics={})
    hf.save(tmp_path, config, transformer.init(config, key=jax.random.key(0)), dtype=jnp.bfloat16,
            max_shard_bytes=20_000, tokenizer_from=BASE, files=files)
    return config, tmp_path


def test_weights_are_found_once_and_in_the_index(exported):
    """default_loader.py at 00b5ad0: *.safetensors of the folder, without those that are not in the index; no
    consolidated*.safetensors, which load_format auto would take for Mistral's own."""
    _, folder = exported
    found = {file.name for file in folder.glob("*.safetensors")}
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(found) > 1 and found == set(index["weight_map"].values())
    assert not list(folder.glob("consolidated*")) and not list(folder.glob("*.pt")) and not list(folder.glob("*.bin"))
    sizes = 0
    for name in found:
        with safetensors.safe_open(folder / name, "np") as file:
            assert {key for key, place in index["weight_map"].items() if place == name} == set(file.keys())
        sizes += (folder / name).stat().st_size
    assert 0 < index["metadata"]["total_size"] < sizes


def test_the_architecture_is_known_and_the_dtype_is_that_of_the_weights(exported):
    """registry.py: "architectures" names the class; the dtype "auto" is config.json's, under its name until
    transformers 4.56, torch_dtype, which later versions read too."""
    config, folder = exported
    values = json.loads((folder / "config.json").read_text())
    assert values["architectures"] == [REGISTRY[config.family]] and values["torch_dtype"] == "bfloat16"
    with safetensors.safe_open(next(folder.glob("*.safetensors")), "np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}
    transformers = pytest.importorskip("transformers")
    read = transformers.AutoConfig.from_pretrained(folder)  # as vLLM reads it
    assert (str(read.dtype), read.head_dim, read.num_key_value_heads) == ("torch.bfloat16", 8, 2)


def test_names_are_those_that_are_packed_together_and_tied_heads_are_left_out(exported):
    """models/qwen3.py at 002456d: qkv_proj of q_proj, k_proj, v_proj; gate_up_proj of gate_proj, up_proj; with
    tie_word_embeddings names under lm_head. are skipped, without it lm_head.weight is needed."""
    config, folder = exported
    names = set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"])
    for layer in range(config.num_layers):
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                     "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"):
            assert f"model.layers.{layer}.{part}.weight" in names
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= names
    assert ("lm_head.weight" in names) == (not config.tie_embeddings)


def test_tokenizer_template_and_stop_tokens_come_with_it(exported):
    """transformers_utils/config.py, try_get_generation_config: generation_config.json; sampling_params.py,
    update_from_generation_config: eos_token_id, one or a list, stops; the chat template is the tokenizer's."""
    _, folder = exported
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["eos_token_id"] == list(tokenizers.load(BASE).stop_ids)
    assert "max_new_tokens" not in settings  # vLLM would make it the limit of every request
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert template == (folder / "chat_template.jinja").read_text() and (folder / "tokenizer.json").is_file()


def test_adapters_have_peft_s_layout(tmp_path):
    """lora/peft_helper.py at 0214369: r, lora_alpha, target_modules are needed, modules_to_save and DoRA refused, the
    scale is lora_alpha / r; lora/utils.py at 001e63a: base_model.model.NAME.lora_A.weight and .lora_B.weight."""
    config, how = MODELS["qwen3"], lora.LoraConfig(rank=4, alpha=8.0)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1, 1), ("data", "fsdp", "sequence", "tensor"))
    peft.save(tmp_path, config, lora.init(config, how, mesh, seed=0), how, base="base")
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (values["r"], values["lora_alpha"], values["bias"], values["use_rslora"]) == (4, 8, "none", False)
    assert not values.get("modules_to_save") and not values.get("use_dora")
    with safetensors.safe_open(tmp_path / "adapter_model.safetensors", "np") as file:
        for name in file.keys():
            start, end, module, part = name[:17], name[-7:], *name[17:-7].rsplit(".", 1)
            assert (start, end) == ("base_model.model.", ".weight") and part in ("lora_A", "lora_B")
            assert module.startswith("model.layers.") and module.rpartition(".")[2] in values["target_modules"]
            assert file.get_slice(name).get_shape()[part == "lora_B"] == 4
