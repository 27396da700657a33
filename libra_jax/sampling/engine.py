"""Draws continuations from a model: prefill once a prompt, decode in a jitted loop over a KV cache that grows.

A batch holds `batch_size` rows. Prompts are right-padded to a bucketed length and prefilled; the cache rows are
repeated for the samples of a prompt; then one jitted loop decodes up to SEGMENT tokens of all rows before the host
looks again: it lengthens the cache when it is full and drops to a smaller batch when most rows have stopped, so short
caches and long tails cost what they are. Every shape comes from a short list, so a run compiles a handful of programs,
whatever its parameters, prompts, temperature and seed.

The randomness of token t of sample s of the prompt with id i is fold_in(fold_in(fold_in(key(seed), i), s), t): it does
not depend on what else is in the batch. (The logits may, in their last bits, since a matrix product of another shape
may add in another order; the same call gives the same bits, also when `skip` leaves out its first samples.)

On a mesh over several processes all of them make the same call and take every sample: each gives the same host arrays
to the same programs, whose small results (tokens, positions, who is done) come back whole to all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from libra_jax.model import cache as kv_cache
from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.parallel import rules
from libra_jax.sampling import batches, filters, programs
from libra_jax.sampling.programs import SEGMENT, Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How to draw. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 are off; `batch_size` counts rows (samples)."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 256
    num_samples: int = 1
    seed: int = 0
    batch_size: int = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One continuation. `prompt` is the index in the given prompts, `sample` the sample's number.

    `tokens` int32 [n] with the stop token, if it stopped; `logprobs` float32 [n]: the model's own log-probability of
    each token, at temperature 1 and without filters, whatever it was drawn with. `finish`: "stop" or "length".
    """

    prompt: int
    sample: int
    tokens: np.ndarray
    logprobs: np.ndarray
    finish: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: samples finished and wanted, tokens drawn, seconds since its start, distinct programs."""

    num_done: int
    num_total: int
    num_tokens: int
    seconds: float
    num_programs: int

    def line(self) -> str:
        """One line for people: "120/512 samples, 11,204 tokens/s, 4 programs, 12 s left"."""
        rate = self.num_tokens / max(self.seconds, 1e-9)
        left = self.seconds * (self.num_total - self.num_done) / self.num_done if self.num_done else None
        ending = "" if left is None else f", {left:.0f} s left"
        return f"{self.num_done}/{self.num_total} samples, {rate:,.0f} tokens/s, {self.num_programs} programs{ending}"


def to_stderr(label: str, every: float = 5.0) -> Callable[[Progress], None]:
    """A progress callback that prints a line to stderr at most every `every` seconds, and at the end.

    Of several processes the first one prints.
    """
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if jax.process_index():
            return
        if progress.num_done == progress.num_total or time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{label}: {progress.line()}", file=sys.stderr, flush=True)

    return show


def generate(
    model_config: ModelConfig,
    params: Any,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    *,
    stop_ids: Sequence[int],
    ids: Sequence[int] | None = None,
    first_sample: int = 0,
    skip: int = 0,
    progress: Callable[[Progress], None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Iterator[Sample]:
    """Yields `num_samples` samples of every prompt, in order of prompts and then samples, a batch at a time.

    Args:
      prompts: token ids, each at least one token long.
      stop_ids: a sample ends after the first of these; none of them: it ends at `max_new_tokens`.
      ids: a stable whole number for each prompt (its low 32 bits seed the samples); default: its index.
      first_sample: number of the first sample, to draw more samples of the same prompts later.
      skip: leaves out the first samples of the run; those that remain have the bits that they have in the whole run.
      progress: called after every segment; see `to_stderr`.
      mesh: rows are sharded over the mesh axes of the logical axis "batch", and parameters by the rules table; None:
        the default device, or wherever the parameters lie.
    Raises ValueError for an empty prompt or one that leaves no room for `max_new_tokens` in the model's context, for
    settings out of their range, or `ids` of another length than `prompts`.
    """
    _check(model_config, config, prompts, ids)
    ids = range(len(prompts)) if ids is None else ids
    run = _Run(model_config, params, config, stop_ids, mesh, progress)
    return _stream(run, prompts, ids, first_sample, skip)


def _stream(run: _Run, prompts: Sequence[Sequence[int]], ids: Sequence[int], first: int, skip: int) -> Iterator[Sample]:
    work = []
    for batch in batches.plan(len(prompts), run.config.num_samples, run.config.batch_size):
        if skip < len(batch):
            work.append(([(prompt, first + sample) for prompt, sample in batch], skip))
        skip = max(0, skip - len(batch))  # a batch that was begun is run again whole: its shapes make its bits
    run.num_total = sum(len(wanted) for wanted, _ in work)
    for wanted, left_out in work:
        yield from run.batch(prompts, ids, wanted, left_out)


@dataclasses.dataclass
class _Run:
    """What all batches of one call share, and its counts."""

    model_config: ModelConfig
    params: Any
    config: SamplingConfig
    stop_ids: Sequence[int]
    mesh: jax.sharding.Mesh | None
    progress: Callable[[Progress], None] | None
    num_total: int = 0

    def __post_init__(self):
        self.started = time.monotonic()
        self.programs: set[tuple] = set()
        self.num_done = self.num_tokens = 0
        prompts, samples = batches.per_batch(self.config.num_samples, self.config.batch_size)
        ways = 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in rules.RULES["batch"])
        self.prompt_sizes, self.row_sizes = batches.sizes(prompts, ways), batches.sizes(prompts * samples, ways)
        if self.mesh is not None:
            self.params = jax.device_put(self.params, transformer.shardings(self.model_config, self.mesh))

    def batch(
        self, prompts: Sequence[Sequence[int]], ids: Sequence[int], wanted: list[tuple[int, int]], skip: int
    ) -> Iterator[Sample]:
        """Runs one batch of (prompt, sample) rows and yields them all but the first `skip`."""
        size = batches.at_least(self.row_sizes, len(wanted))
        # Which wanted row each row of the batch is; -1 is padding, done at once.
        owner = np.where(np.arange(size) < len(wanted), np.arange(size), -1)
        sources = list(dict.fromkeys(prompt for prompt, _ in wanted))
        cache, lengths = self._prefill([prompts[prompt] for prompt in sources])
        pick = np.array([sources.index(wanted[max(row, 0)][0]) for row in owner])
        position, done = lengths[pick] - 1, owner < 0
        # The last prompt token is fed again, into its own slot: the prefill needs no logits, and every draw is alike.
        last = np.array([prompts[wanted[max(row, 0)][0]][-1] for row in owner], np.int32)
        pairs = [(ids[prompt] & 0xFFFFFFFF, sample) for prompt, sample in (wanted[max(row, 0)] for row in owner)]
        keys = np.asarray(programs.keys(self.config.seed, np.array(pairs, np.uint32)))
        rows = Rows(last, position, np.zeros(size, np.int32), done, keys)
        rows, cache = self._regroup(rows, cache, np.arange(size), pick, self._length(position, done))
        tokens: list[list[np.ndarray]] = [[] for _ in wanted]
        logprobs: list[list[np.ndarray]] = [[] for _ in wanted]
        while not done.all():
            floor = max((size for size in self.row_sizes if size < len(owner)), default=0)
            num_live = int((~done).sum())
            if num_live <= floor or position[~done].max() >= cache.length:
                size = batches.at_least(self.row_sizes, num_live)
                if size == len(owner):  # no row moves
                    cache = self._lengthen(cache, self._length(position, done))
                    continue
                keep = batches.keep(done, size)
                owner, position, done = owner[keep], position[keep], done[keep]
                rows, cache = self._regroup(rows, cache, keep, keep, self._length(position, done))
                continue
            limit = min(SEGMENT, cache.length - int(position[~done].max()))
            rows, cache, found = self._decode(rows, cache, limit, floor)
            drawn_tokens, drawn_logprobs, new_position, new_done = jax.device_get(found)
            counts = new_position - position
            for row in np.flatnonzero(counts):
                tokens[owner[row]].append(drawn_tokens[: counts[row], row])
                logprobs[owner[row]].append(drawn_logprobs[: counts[row], row])
            self._report(int((new_done & ~done).sum()), int(counts.sum()))
            position, done = new_position, new_done
        for row in range(skip, len(wanted)):
            sequence = np.concatenate(tokens[row]).astype(np.int32)
            finish = "stop" if int(sequence[-1]) in self.stop_ids else "length"
            yield Sample(*wanted[row], sequence, np.concatenate(logprobs[row]).astype(np.float32), finish)

    def _prefill(self, prompts: list[Sequence[int]]) -> tuple[kv_cache.Cache, np.ndarray]:
        lengths = np.ones(batches.at_least(self.prompt_sizes, len(prompts)), np.int32)
        lengths[: len(prompts)] = [len(prompt) for prompt in prompts]
        tokens = np.zeros((len(lengths), batches.bucket(int(lengths.max()))), np.int32)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
        self.programs.add(("prefill", *tokens.shape))
        with self._placed():
            return programs.prefill(self.model_config, self.params, tokens), lengths

    def _regroup(self, rows: Rows, cache: kv_cache.Cache, keep: np.ndarray, pick: np.ndarray, length: int
                 ) -> tuple[Rows, kv_cache.Cache]:
        self.programs.add(("regroup", *cache.k.shape[1:3], len(pick), length))
        with self._placed():
            return programs.regroup(rows, cache, keep, pick, length=length)

    def _lengthen(self, cache: kv_cache.Cache, length: int) -> kv_cache.Cache:
        self.programs.add(("lengthen", *cache.k.shape[1:3], length))
        with self._placed():
            return programs.lengthen(cache, length=length)

    def _decode(self, rows: Rows, cache: kv_cache.Cache, limit: int, floor: int
                ) -> tuple[Rows, kv_cache.Cache, tuple[jax.Array, ...]]:
        config = self.config
        self.programs.add(("decode", *cache.k.shape[1:3]))
        with self._placed():
            return programs.decode(self.model_config, self.params, rows, cache, limit=limit, floor=floor,
                                   **decode_options(config, self.stop_ids))

    def _length(self, position: np.ndarray, done: np.ndarray) -> int:
        """Slots that hold the rows that still run, with room for at least a quarter of a segment more."""
        return batches.bucket(int(position[~done].max()) + 1 + min(SEGMENT // 4, self.config.max_new_tokens))

    def _placed(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def _report(self, num_done: int, num_tokens: int) -> None:
        self.num_done += num_done
        self.num_tokens += num_tokens
        if self.progress:
            self.progress(Progress(num_done=self.num_done, num_total=self.num_total, num_tokens=self.num_tokens,
                                   seconds=time.monotonic() - self.started, num_programs=len(self.programs)))


def decode_options(config: SamplingConfig, stop_ids: Sequence[int]) -> dict[str, Any]:
    """The arguments of programs.decode that stay the same for a whole run."""
    return {"max_new_tokens": config.max_new_tokens, "temperature": config.temperature or 1.0,
            "stop_ids": np.array(stop_ids or (-1,), np.int32), "greedy": config.temperature == 0,
            "top_k": config.top_k, "top_p": config.top_p}


def _check(model_config: ModelConfig, config: SamplingConfig, prompts: Sequence[Sequence[int]],
           ids: Sequence[int] | None) -> None:
    filters.check(config.top_k, config.top_p)
    if not config.temperature >= 0:
        raise ValueError(f"temperature={config.temperature}: expected 0 (greedy) or a positive number")
    if not -(2**31) <= config.seed < 2**31:
        raise ValueError(f"seed={config.seed}: expected a whole number of 32 bits")
    for name in ("max_new_tokens", "num_samples", "batch_size"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)}: expected at least 1")
    if ids is not None and len(ids) != len(prompts):
        raise ValueError(f"{len(ids)} ids for {len(prompts)} prompts: expected one for each")
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {index} is empty: expected at least one token to continue from")
        if len(prompt) + config.max_new_tokens > model_config.max_length:
            raise ValueError(f"prompt {index} has {len(prompt)} tokens, and max_new_tokens={config.max_new_tokens}: "
                             f"together more than the model's context of {model_config.max_length} "
                             "(max_position_embeddings of its config.json); lower max_new_tokens, or leave the prompt "
                             "out")
