"""Draws continuations from a model: many rows decode side by side, and a row that ends takes the next sample.

One jitted loop decodes all rows, up to SEGMENT tokens before the host looks, or until enough rows have ended to be
worth filling again. Prompts are prefilled in chunks, once for all samples of a prompt on a device; keys and values lie
in pages of a pool (model/cache.py) that rows borrow as they grow. When nothing is left to begin, the batch shrinks as
rows end. Every shape comes from a short list, so a run compiles a handful of programs, whatever its parameters,
prompts, temperature and seed.

The randomness of token t of sample s of the prompt with id i is fold_in(fold_in(fold_in(key(seed), i), s), t), and a
row's arithmetic does not depend on its neighbours, its pages or its place: so neither do samples. On one CPU device,
bit for bit, whatever the batch size and the order of arrival; elsewhere products of another number of rows may add
in another order.

On a mesh over several processes all of them make the same call and take every sample: each gives the same host arrays
to the same programs, whose small results (tokens, counts, who is done) come back whole to all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from libra_jax.model.cache import PAGE
from libra_jax.model.config import ModelConfig
from libra_jax.sampling import batches, filters, programs
from libra_jax.sampling import store as stores
from libra_jax.sampling.demand import Demand
from libra_jax.sampling.programs import SEGMENT, Rows
from libra_jax.sampling.schedule import Schedule
from libra_jax.sampling.watch import Acceptance, Watch


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How to draw.

    Attributes:
      temperature: of the softmax; 0 is greedy.
      top_k: only the so many likeliest tokens are drawn; 0: all.
      top_p: only the likeliest tokens that together have this probability are drawn; 1: all.
      max_new_tokens: a sample that has not stopped by then is cut off.
      num_samples: of each prompt.
      seed: of the draws, which depend on nothing else but the prompt's id and the sample's number.
      batch_size: rows (samples) that are drawn side by side.
      cache_tokens: positions that the cache of all rows holds together; 0: enough for rows that are all as long as they
        may be. With fewer, more rows fit a device, and a row that finds no page left is drawn again later.
      cache_dtype: int8 halves a bfloat16 cache, at the price of less exact log-probabilities.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 256
    num_samples: int = 1
    seed: int = 0
    batch_size: int = 64
    cache_tokens: int = 0
    cache_dtype: Literal["", "int8"] = ""


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
    finish: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: samples finished and wanted, tokens drawn, seconds since its start, distinct programs.

    Of an Acceptance, `num_right` finished samples are right, and `num_done` and `num_total` count prompts (`unit`).
    `num_tokens` counts those of samples that were given up, too; `num_preempted` rows found no page left.
    """

    num_done: int
    num_total: int
    num_tokens: int
    seconds: float
    num_programs: int
    unit: str = "samples"
    num_finished: int = 0
    num_right: int = 0
    num_given_up: int = 0
    num_preempted: int = 0

    def line(self) -> str:
        """One line for people: "120/512 samples, 11,204 tokens/s, 4 programs, 12 s left"."""
        rate = self.num_tokens / max(self.seconds, 1e-9)
        left = self.seconds * (self.num_total - self.num_done) / self.num_done if self.num_done else None
        ending = "" if left is None else f", {left:.0f} s left"
        right = ""
        if self.unit != "samples":
            right = f" ({self.num_right} right of {self.num_finished} samples, {self.num_given_up} given up)"
        again = f", {self.num_preempted} rows put off for want of cache" if self.num_preempted else ""
        return (f"{self.num_done}/{self.num_total} {self.unit}{right}, {rate:,.0f} tokens/s, {self.num_programs} "
                f"programs{again}{ending}")


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
    budgets: Sequence[int] | None = None,
    longest: int = 0,
    acceptance: Acceptance | None = None,
    progress: Callable[[Progress], None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Iterator[Sample]:
    """Yields `num_samples` samples of every prompt, in order of prompts and then samples, as they are complete.

    Args:
      prompts: token ids, each at least one token long.
      stop_ids: a sample ends after the first of these; none of them: it ends at `max_new_tokens`.
      ids: a stable whole number for each prompt (its low 32 bits seed the samples); default: its index.
      first_sample: number of the first sample, to draw more samples of the same prompts later.
      skip: leaves out the first samples of the run; those that remain are what they are in the whole run. Not with
        `acceptance`.
      budgets: the most new tokens of each prompt's samples, at most `max_new_tokens`, which is the default.
      longest: tokens of the longest prompt of all calls that shall share their programs; shapes hold at least it.
      acceptance: draw a prompt's samples only up to the one that makes enough right ones: what is yielded are then the
        samples of a run without it, less those.
      progress: called after every segment; see `to_stderr`.
      mesh: rows are sharded over the mesh axes of the logical axis "batch", and parameters by the rules table; None:
        the default device, or wherever the parameters lie.
    Raises ValueError for an empty prompt or one that leaves no room for its budget in the model's context, for
    settings out of their range, or `ids` or `budgets` of another length than `prompts`.
    """
    budgets = [config.max_new_tokens] * len(prompts) if budgets is None else [int(each) for each in budgets]
    check(model_config, config, prompts, ids, budgets)
    if acceptance is not None and (skip or acceptance.enough < 1):
        raise ValueError(f"skip={skip} and acceptance.enough={acceptance.enough}: expected 0, and at least 1")
    ids = range(len(prompts)) if ids is None else ids
    numbers = range(first_sample, first_sample + config.num_samples)
    wanted = [numbers[max(0, skip - index * len(numbers)):] for index in range(len(prompts))]
    make = functools.partial(Run, model_config, params, config, prompts, budgets, longest, ids, wanted, stop_ids,
                             acceptance, progress, mesh)
    return _stream(make) if any(wanted) else iter(())


def _stream(make: Callable[[], Run]) -> Iterator[Sample]:
    """Nothing is placed on the devices before the first sample is asked for."""
    yield from make().samples()


class Run:
    """What `generate` and a Session run: the device's programs, the host's schedule, and what has been drawn so far.

    `seeds` has one for each prompt; `limit` is how many tokens a row draws before the host looks, at most SEGMENT.
    """

    def __init__(self, model_config: ModelConfig, params: Any, config: SamplingConfig,
                 prompts: Sequence[Sequence[int]], budgets: Sequence[int], longest: int, ids: Sequence[int],
                 wanted: Sequence[Sequence[int]], stop_ids: Sequence[int], acceptance: Acceptance | None,
                 progress: Callable[[Progress], None] | None, mesh: jax.sharding.Mesh | None):
        self.config, self.prompts, self.ids, self.stop_ids = config, prompts, ids, frozenset(stop_ids)
        self.acceptance, self.progress = acceptance, progress
        self.seeds, self.limit = [config.seed] * len(prompts), SEGMENT
        devices = jax.devices() if mesh is None else list(mesh.devices.flat)
        model_config = stores.for_devices(model_config, devices, 1 if mesh is None else mesh.shape["tensor"],
                                          config.cache_dtype)
        ways = stores.num_ways(mesh)
        self.started = time.monotonic()
        self.programs: set[str] = set()
        self.num_tokens = self.num_finished = self.num_right = self.num_given_up = 0
        self.complete: set[int] = set()  # prompts of which it is settled what is wanted
        self.num_total = sum(map(bool, wanted)) if acceptance else sum(map(len, wanted))
        self.tile = batches.tile(model_config.model_size) if mesh is None and devices[0].platform == "cpu" else 0
        self.sizes = batches.sizes(config.batch_size, ways, self.tile)
        shape = stores.shapes(self.sizes[0], ways, max(longest, *map(len, prompts)), config.max_new_tokens,
                              config.cache_tokens)
        needed = max((len(prompt) + budget - 2) // PAGE + 1 for prompt, budget in zip(prompts, budgets, strict=True))
        if shape.num_pages // ways <= needed:
            raise ValueError(f"cache_tokens={config.cache_tokens}: a device of {ways} holds "
                             f"{shape.num_pages // ways} pages of {PAGE} positions, and the longest sample may "
                             f"need {needed} and one to spare; expected at least {(needed + 1) * PAGE * ways}")
        self.store = stores.Store(model_config, params, shape, mesh, config.cache_dtype)
        self.demand = Demand(wanted, acceptance.enough if acceptance else 0)
        self.schedule = Schedule(self.demand, [len(prompt) for prompt in prompts], budgets, num_rows=self.sizes[0],
                                 ways=ways, num_pages=shape.num_pages // ways,
                                 prompts_a_fill=shape.prompts // ways)
        rows = self.sizes[0]
        self.rows = Rows(token=np.zeros(rows, np.int32), position=np.zeros(rows, np.int32),
                         count=np.zeros(rows, np.int32), most=np.ones(rows, np.int32), done=np.ones(rows, bool),
                         key=np.zeros((rows, 2), np.uint32), table=np.zeros((rows, shape.table), np.int32))
        self.matched = np.full(rows, -2, np.int32)
        self.drawn: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(rows)]
        self.finished: dict[tuple[int, int], Sample] = {}

    def samples(self) -> Iterator[Sample]:
        """Runs, and yields samples in order."""
        if self.config.cache_dtype == "int8":
            self.store.calibrate(self.prompts)
        ordered = self._in_order()
        while True:
            self.fill()
            live = self.schedule.live()
            if not live:
                break
            self.segment(live)
            yield from ordered()
        if self.finished:  # so a fault of the schedule never goes unseen
            raise RuntimeError(f"{len(self.finished)} samples ended and were not wanted")

    def fill(self) -> None:
        """Gives free rows samples until none is free or nothing is left to begin; then the batch may shrink."""
        while True:
            fill = self.schedule.fill()
            if not fill.rows:
                break
            self.store.prefill([[(self.prompts[prompt][:-1], pages) for prompt, pages in mine]
                                for mine in fill.prompts])
            self.store.copy(fill.copies)
            self.programs |= {name for name, some in (("prefill", fill.prompts), ("copy", fill.copies)) if any(some)}
            self._begin(fill.rows)
        size = next((size for size in reversed(self.sizes) if size >= len(self.schedule.live())), self.sizes[0])
        packs = size < len(self.schedule.rows) or (self.tile and not self._more())
        if packs and (keep := self.schedule.shrink(size)) is not None:
            self.rows = Rows(*(part[keep] for part in self.rows))
            self.matched, self.drawn = self.matched[keep], [self.drawn[row] for row in keep]

    def _begin(self, new: list[int]) -> None:
        pairs = np.zeros((len(self.rows.token), 2), np.uint32)
        for index in new:
            row = self.schedule.at(index)
            pairs[index] = self.ids[row.prompt] & 0xFFFFFFFF, row.sample
            # The last prompt token is fed again, into its own place: the prefill needs no logits, every draw is alike.
            self.rows.token[index], self.rows.position[index] = self.prompts[row.prompt][-1], row.position
            self.rows.count[index], self.rows.most[index] = 0, row.last - row.position + 1
            self.rows.done[index] = False
            self.matched[index] = -1 if self.acceptance and self.acceptance.close_id is not None else 0
            self.drawn[index] = []
        seeds = np.array([self.seeds[self.schedule.at(index).prompt] for index in new])
        for seed in np.unique(seeds):
            mine = np.array(new)[seeds == seed]
            self.rows.key[mine] = np.asarray(programs.keys(int(seed), pairs))[mine]

    def segment(self, live: list[int]) -> None:
        """Decodes, and settles the rows that ended."""
        for index, _ in self.schedule.grow(self.limit):
            self.rows.done[index] = True
            live.remove(index)
        table = self.rows.table
        for index in live:
            pages = self.schedule.at(index).pages
            table[index, : len(pages)] = pages
        if self._more():
            floor = len(live) - max(1, len(self.rows.token) // 8)  # rows worth a new fill
        elif self.tile:
            floor = (len(live) - 1) // self.tile * self.tile
        else:
            floor = max((size for size in self.sizes if size < len(self.rows.token)), default=0)
            floor = min(floor, len(live) - 1) if floor else 0  # a device may still have too many to shrink
        self.programs.add(f"decode {len(self.rows.token)}")
        store = self.store
        with store.placed():
            store.cache, found = programs.decode(
                store.model_config, store.params, self.rows, store.cache, self._watch(), limit=self.limit,
                floor=max(0, floor), tile=self.tile, **decode_options(self.config, tuple(self.stop_ids)))
        found = jax.device_get(found)
        before = self.rows.count
        token = self.rows.token.copy()
        for index in live:
            number = found.count[index] - before[index]
            self.drawn[index].append((found.tokens[:number, index], found.logprobs[:number, index]))
            token[index] = found.tokens[number - 1, index] if number else token[index]
            row = self.schedule.at(index)
            row.position, row.count = row.position + int(number), int(found.count[index])
        self.num_tokens += int((found.count - before).sum())
        self.rows = self.rows._replace(token=token, position=self.rows.position + found.count - before,
                                       count=np.array(found.count), done=np.array(found.done))
        if found.matched is not None:
            self.matched = np.array(found.matched)
        for index in live:
            if found.done[index]:
                self._settle(index)
        if self.acceptance:
            for index in self.schedule.live():  # what the device could not know
                row = self.schedule.at(index)
                if not self.demand.needed(row.prompt, row.sample):
                    self.give_up(index)
        self._report()

    def _settle(self, index: int) -> None:
        row = self.schedule.at(index)
        tokens = np.concatenate([part for part, _ in self.drawn[index]]).astype(np.int32)
        stopped = int(tokens[-1]) in self.stop_ids
        if not stopped and len(tokens) < self.rows.most[index]:  # the device found it needless
            return self.give_up(index)
        self.schedule.end(index)
        self.rows.position[index] = 0
        logprobs = np.concatenate([part for _, part in self.drawn[index]]).astype(np.float32)
        right = self.acceptance.right(row.prompt, tokens) if self.acceptance else False
        self.num_finished, self.num_right = self.num_finished + 1, self.num_right + right
        self.demand.settle(row.prompt, row.sample, right)
        if self.acceptance and self.demand.wanted(row.prompt) is not None:
            self.complete.add(row.prompt)
        self.finished[row.prompt, row.sample] = Sample(row.prompt, row.sample, tokens, logprobs,
                                                       "stop" if stopped else "length")
        self.drawn[index] = []

    def give_up(self, index: int) -> None:
        """Frees a row whose sample is not wanted."""
        row = self.schedule.end(index)
        self.rows.done[index], self.rows.position[index], self.drawn[index] = True, 0, []
        self.num_given_up += 1
        self.demand.settle(row.prompt, row.sample, None)

    def _in_order(self) -> Callable[[], Iterator[Sample]]:
        """A function that yields the finished samples whose turn has come."""
        at, given = 0, 0  # the prompt whose turn it is, and how many of its samples were given

        def ready() -> Iterator[Sample]:
            nonlocal at, given
            while at < len(self.prompts):
                samples = self.demand.prompts[at].samples
                wanted = self.demand.wanted(at)
                if self.acceptance and wanted is None:
                    return
                while given < len(samples if wanted is None else wanted):
                    sample = self.finished.pop((at, samples[given]), None)
                    if sample is None:
                        return
                    given += 1
                    yield sample
                for sample in samples[given:]:  # finished before it was known that they are not wanted
                    self.finished.pop((at, sample), None)
                at, given = at + 1, 0

        return ready

    def _watch(self) -> Watch | None:
        if self.acceptance is None:
            return None
        accepted, num_rows = self.acceptance, len(self.schedule.rows)
        verdict = np.full((num_rows, max(1, *map(len, accepted.verdicts)) + 1), -1, np.int32)
        prompt, sample, before = (np.full(num_rows, -1, np.int32) for _ in range(3))
        for index in self.schedule.live():
            row = self.schedule.at(index)
            verdict[index, : len(accepted.verdicts[row.prompt])] = accepted.verdicts[row.prompt]
            prompt[index], sample[index] = row.prompt, row.sample
            before[index] = self.demand.right_before(row.prompt, row.sample)
        return Watch(self.matched, verdict, prompt, sample, before,
                     np.int32(-1 if accepted.close_id is None else accepted.close_id), np.int32(accepted.enough))

    def _more(self) -> bool:
        return self.demand.more() or any(held is not None and held.left for held in self.schedule.held)

    def _report(self) -> None:
        if self.progress:
            self.progress(Progress(
                num_done=len(self.complete) if self.acceptance else self.num_finished, num_total=self.num_total,
                num_tokens=self.num_tokens, seconds=time.monotonic() - self.started, num_programs=len(self.programs),
                unit="prompts" if self.acceptance else "samples", num_finished=self.num_finished,
                num_right=self.num_right, num_given_up=self.num_given_up,
                num_preempted=self.schedule.num_preempted))


def decode_options(config: SamplingConfig, stop_ids: Sequence[int]) -> dict[str, Any]:
    """The arguments of programs.decode that stay the same for a whole run."""
    return {"temperature": config.temperature or 1.0, "stop_ids": np.array(stop_ids or (-1,), np.int32),
            "greedy": config.temperature == 0, "top_k": config.top_k, "top_p": config.top_p}


def check(model_config: ModelConfig, config: SamplingConfig, prompts: Sequence[Sequence[int]],
          ids: Sequence[int] | None, budgets: Sequence[int]) -> None:
    """Raises ValueError as `generate` says."""
    filters.check(config.top_k, config.top_p)
    if not config.temperature >= 0:
        raise ValueError(f"temperature={config.temperature}: expected 0 (greedy) or a positive number")
    if not -(2**31) <= config.seed < 2**31:
        raise ValueError(f"seed={config.seed}: expected a whole number of 32 bits")
    for name in ("max_new_tokens", "num_samples", "batch_size"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)}: expected at least 1")
    if config.cache_tokens < 0 or config.cache_dtype not in ("", "int8"):
        raise ValueError(f"cache_tokens={config.cache_tokens}, cache_dtype={config.cache_dtype!r}: expected 0 or more, "
                         "and '' (the model's own) or int8")
    for name, given in (("ids", ids), ("budgets", budgets)):
        if given is not None and len(given) != len(prompts):
            raise ValueError(f"{len(given)} {name} for {len(prompts)} prompts: expected one for each")
    for index, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True)):
        if not len(prompt):
            raise ValueError(f"prompt {index} is empty: expected at least one token to continue from")
        if not 1 <= budget <= config.max_new_tokens:
            raise ValueError(f"budget {budget} of prompt {index}: expected 1 to max_new_tokens="
                             f"{config.max_new_tokens}")
        if len(prompt) + budget > model_config.max_length:
            raise ValueError(f"prompt {index} has {len(prompt)} tokens, and max_new_tokens={budget}: "
                             f"together more than the model's context of {model_config.max_length} "
                             "(max_position_embeddings of its config.json); lower max_new_tokens, or leave the prompt "
                             "out")
