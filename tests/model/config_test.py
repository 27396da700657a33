"""config.json of real checkpoints, as their authors wrote them."""

import pytest

from libra_jax.model import config as configs
from libra_jax.model.config import RopeScaling

_SIZES = {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
          "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5}


def test_llama_3_2_with_its_old_style_rope_scaling():
    config = configs.from_hf({**_SIZES, "model_type": "llama", "head_dim": 64, "rope_theta": 500000.0,
                              "tie_word_embeddings": True, "eos_token_id": [128001, 128008, 128009],
                              "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                               "original_max_position_embeddings": 8192, "rope_type": "llama3"}})
    assert config.rope_scaling == RopeScaling(kind="llama3", factor=32.0)
    assert (config.rope_theta, config.head_size, config.qk_norm) == (500000.0, 64, False)
    assert config.eos_token_ids == (128001, 128008, 128009)
    assert configs.from_hf(configs.to_hf(config)) == config


def test_qwen_2_5_has_biases_and_ignores_an_unused_window():
    config = configs.from_hf({**_SIZES, "model_type": "qwen2", "sliding_window": 32768, "use_sliding_window": False,
                              "max_window_layers": 4, "rope_theta": 1000000.0, "eos_token_id": 151645})
    assert config.attention_bias and not config.output_bias
    assert (config.sliding_window, config.sliding_layers, config.tie_embeddings) == (0, (), False)
    assert configs.from_hf(configs.to_hf(config)) == config


def test_gemma_3_with_the_pattern_of_its_layers_left_to_the_family():
    text = {**_SIZES, "model_type": "gemma3_text", "sliding_window": 1024, "query_pre_attn_scalar": 168,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    config = configs.from_hf({"model_type": "gemma3", "text_config": text, "eos_token_id": [1, 106]})
    assert [layer for layer, sliding in enumerate(config.sliding_layers) if not sliding] == [5, 11]
    assert (config.rope_theta, config.rope_local_theta, config.query_scale) == (1e6, 1e4, 168.0)
    assert (config.head_size, config.eos_token_ids, config.tie_embeddings) == (256, (1, 106), True)
    assert configs.from_hf(configs.to_hf(config)) == config


def test_gemma_2_alternates_and_caps():
    config = configs.from_hf({**_SIZES, "model_type": "gemma2", "sliding_window": 4096})
    assert config.sliding_layers == (True, False) * 8
    assert (config.attention_softcap, config.final_softcap, config.query_scale) == (50.0, 30.0, 256.0)


@pytest.mark.parametrize(("change", "message"), [
    ({"model_type": "qwen4"}, "'qwen4' is not supported; the nearest is 'qwen"),
    ({"hidden_size": None}, "hidden_size"),
    ({"hidden_act": "relu"}, "activation 'relu'"),
    ({"mlp_bias": True}, "mlp_bias"),
    ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "longrope"),
    ({"num_key_value_heads": 7}, "num_heads=32 is not a multiple of num_kv_heads=7"),
])
def test_what_is_not_supported_is_named(change, message):
    values = {**_SIZES, "model_type": "llama", **change}
    with pytest.raises(ValueError, match=message):
        configs.from_hf({name: value for name, value in values.items() if value is not None})
