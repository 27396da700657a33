"""Tunix's own sampler in benchmarks/rollout.py: static batches, left-padded, one loop until the longest ends.

Runs in any Python that has google-tunix; it needs nothing of libra_jax.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib

import jax
import jax.numpy as jnp
import rollout_job
from tunix.generate import sampler as tunix_sampler
from tunix.models.qwen3 import model as qwen3
from tunix.models.qwen3 import params as qwen3_params

# The rotary base that Tunix's Qwen3 computes with, whatever its config says.
_ROPE_THETA = 1_000_000
# Tunix masks every token that equals the padding's id, drawn ones too: an id that no token has.
_PADDING = -1


class _Tokens:
    """A tokenizer whose texts are token ids already."""

    def encode(self, text: list[int]) -> list[int]:
        return list(text)

    def decode(self, ids: list[int]) -> str:
        return ""

    def bos_id(self) -> None:
        return None

    def eos_id(self) -> int:
        return _PADDING  # where no stop set is given: never drawn

    def pad_id(self) -> int:
        return _PADDING


class Tunix:
    """Its best setting: caches of exactly the slots that a batch needs, prompts padded to the batch's longest."""

    def __init__(self, job: rollout_job.Job):
        self.job = job
        values = json.loads((pathlib.Path(job.checkpoint) / "config.json").read_text(encoding="utf-8"))
        if values["rope_theta"] != _ROPE_THETA:
            raise ValueError(f"rope_theta={values['rope_theta']}: Tunix computes with {_ROPE_THETA} always")
        dtype = jnp.dtype(job.dtype)
        self.config = qwen3.ModelConfig(
            num_layers=values["num_hidden_layers"], vocab_size=values["vocab_size"], embed_dim=values["hidden_size"],
            hidden_dim=values["intermediate_size"], num_heads=values["num_attention_heads"],
            head_dim=values["head_dim"], num_kv_heads=values["num_key_value_heads"], rope_theta=_ROPE_THETA,
            norm_eps=values["rms_norm_eps"], use_tied_embedding=values["tie_word_embeddings"], dtype=dtype,
            param_dtype=dtype)
        self.model = qwen3_params.create_model_from_safe_tensors(job.checkpoint, self.config, dtype=dtype)
        self.samplers: dict[int, tunix_sampler.Sampler] = {}

    def greedy(self, num_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        """As rollout_job.Sampler."""
        found = self._sample(self.job.prompts, num_tokens, return_logprobs=True, temperature=0.0)
        return [tokens.tolist() for tokens in found.tokens], [list(row) for row in found.logprobs]

    def draw(self, batch_size: int, seed: int) -> list[int]:
        """As rollout_job.Sampler. Tunix takes the whole stop set, and leaves the stop token out of what it returns."""
        lengths: list[int] = []
        for prompts, limit in rollout_job.batches(self.job, batch_size):
            # top_p=1 asks for sampling; without top_k it draws from all of the vocabulary and sorts nothing.
            found = self._sample(prompts, limit, eos_tokens=self.job.stop_ids or None, temperature=1.0, top_p=1.0,
                                 seed=seed & 0x7FFFFFFF)
            lengths += [min(len(tokens) + 1, limit) for tokens in found.tokens]
        return lengths

    def facts(self) -> dict:
        """As rollout_job.Sampler."""
        return {"versions": f"google-tunix {importlib.metadata.version('google-tunix')}, jax {jax.__version__}",
                "device": jax.devices()[0].device_kind}

    def _sample(self, prompts: list[list[int]], limit: int, **options):
        longest = max(map(len, prompts))
        size = longest + limit
        if size not in self.samplers:
            cache = tunix_sampler.CacheConfig(cache_size=size, num_layers=self.config.num_layers,
                                              num_kv_heads=self.config.num_kv_heads, head_dim=self.config.head_dim)
            self.samplers[size] = tunix_sampler.Sampler(self.model, _Tokens(), cache)
        return self.samplers[size](prompts, max_generation_steps=limit, max_prompt_length=longest, **options)


if __name__ == "__main__":
    rollout_job.main(Tunix)
