"""The cache of a run on its devices: made, filled with prompts, its pages copied, 8-bit pages calibrated."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from libra_jax.model import cache as caches
from libra_jax.model import paged, transformer
from libra_jax.model.cache import PAGE, Where
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules
from libra_jax.sampling import batches, programs

CHUNK = 512  # most tokens of a prompt that are prefilled at once
COPIES = 8  # pages that a device copies at once
PROMPTS = 4  # prompts that a device prefills at once, in every run, since products of other shapes have other bits
CALIBRATION = 8  # prompts that the scales of an 8-bit cache are measured on


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Of the programs of a run: `prompts` prefilled at once, tokens of a `chunk`, width of a `table`, `num_pages`."""

    prompts: int
    chunk: int
    table: int
    num_pages: int


def shapes(num_rows: int, ways: int, prompt_length: int, max_new_tokens: int, cache_tokens: int = 0) -> Shapes:
    """The shapes for prompts and continuations of at most these lengths, on `ways` groups of devices.

    `cache_tokens`: as in engine.SamplingConfig.
    """
    table = -(-batches.bucket(prompt_length + max_new_tokens) // PAGE)
    held = -(-batches.bucket(prompt_length) // PAGE)  # a prompt that waits for rows, on each
    pages = num_rows * table + ways * held
    if cache_tokens:
        pages = min(pages, cache_tokens // (PAGE * ways) * ways)
    return Shapes(prompts=ways * PROMPTS, chunk=min(CHUNK, batches.bucket(prompt_length)), table=table, num_pages=pages)


def for_devices(config: ModelConfig, devices: Sequence[jax.Device], tensor: int, cache_dtype: str) -> ModelConfig:
    """The model as it samples there: with the TPU's attention kernel, where its shape suits that, else without."""
    heads = config.num_kv_heads
    suits = paged.suits_kernel(heads if heads % tensor else heads // tensor, config.head_size,
                               cache_dtype or config.dtype)
    return dataclasses.replace(config, attention="splash" if devices[0].platform == "tpu" and suits else "xla")


class Store:
    """The model's parameters and the cache, on `mesh` (None: the default device, or wherever the parameters lie)."""

    def __init__(self, model_config: ModelConfig, params: Any, shape: Shapes, mesh: jax.sharding.Mesh | None,
                 cache_dtype: str):
        self.model_config, self.params, self.shape, self.mesh = model_config, params, shape, mesh
        self.ways = num_ways(mesh)
        if mesh is not None:
            self.params = jax.device_put(params, transformer.shardings(model_config, mesh))
        scale = None
        if cache_dtype == "int8":
            scale = np.ones((model_config.num_layers, 2, model_config.num_kv_heads, model_config.head_size), np.float32)
        layout = None if mesh is None else caches.shardings(model_config, mesh, shape.num_pages, cache_dtype)
        with self.placed():
            self.cache = jax.jit(caches.init, static_argnums=(0, 1, 2), out_shardings=layout)(
                model_config, shape.num_pages, cache_dtype, scale)

    def placed(self) -> contextlib.AbstractContextManager:
        """The context in which programs run."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def prefill(self, prompts: list[list[tuple[Sequence[int], list[int]]]]) -> None:
        """Writes prompts [ways][.] of (tokens, pages) to the cache, chunk by chunk."""
        longest = max((len(tokens) for mine in prompts for tokens, _ in mine), default=0)
        size, share = self.shape.chunk, self.shape.prompts // self.ways
        table = np.zeros((self.shape.prompts, self.shape.table), np.int32)
        for index, mine in enumerate(prompts):
            for place, (_, pages) in enumerate(mine):
                table[index * share + place, : len(pages)] = pages
        for start in range(0, longest, size):
            tokens = np.zeros((self.shape.prompts, size), np.int32)
            count = np.zeros(self.shape.prompts, np.int32)
            for index, mine in enumerate(prompts):
                for place, (whole, _) in enumerate(mine):
                    part = whole[start : start + size]
                    tokens[index * share + place, : len(part)] = part
                    count[index * share + place] = len(part)
            where = Where(table, np.where(count > 0, start, 0).astype(np.int32), count)
            with self.placed():
                self.cache = programs.prefill(self.model_config, self.params, self.cache, tokens, where)

    def copy(self, copies: list[list[tuple[int, int]]]) -> None:
        """Copies pages [ways][.] of (from, to)."""
        most = max(map(len, copies))
        for start in range(0, most, COPIES):
            source = np.zeros((self.ways, COPIES), np.int32)
            target = np.full((self.ways, COPIES), self.shape.num_pages, np.int32)
            for index, mine in enumerate(copies):
                for place, (a, b) in enumerate(mine[start : start + COPIES]):
                    source[index, place], target[index, place] = a, b
            with self.placed():
                self.cache = programs.copy_pages(self.model_config, self.cache, source, target)

    def calibrate(self, prompts: Sequence[Sequence[int]]) -> None:
        """Measures the scales of 8-bit pages on first chunks of some prompts, the same ones for every batch size."""
        chosen = [prompts[index * (len(prompts) - 1) // (CALIBRATION - 1)][: self.shape.chunk]
                  for index in range(CALIBRATION)]
        pages, share = -(-self.shape.chunk // PAGE), self.shape.prompts // self.ways
        largest = []
        for start in range(0, CALIBRATION, share):
            part = [(tokens, list(range(place * pages, place * pages + -(-len(tokens) // PAGE))))
                    for place, tokens in enumerate(chosen[start : start + share])]
            exact = Store(self.model_config, self.params,
                          dataclasses.replace(self.shape, num_pages=share * pages * self.ways), self.mesh, "")
            exact.prefill([part] * self.ways)
            with self.placed():
                largest.append(jax.device_get(jax.jit(caches.scales)(exact.cache)))
        self.cache = self.cache._replace(scale=jax.device_put(np.max(largest, axis=0), self.cache.scale.sharding))


def num_ways(mesh: jax.sharding.Mesh | None) -> int:
    """Over how many groups of devices rows and pages are spread."""
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in rules.RULES["batch"])
