"""What the samplers of benchmarks/rollout.py share: the job as a file, and how a run is timed and counted.

Read by the processes of all samplers, also in an environment without libra_jax: the standard library alone.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One sampler's work. `budgets` prescribes how many tokens each prompt gets (none: the stop set decides).

    `batch_sizes`: several are tried with one run each, and the fastest is measured. `check_tokens` above 0 asks for
    so many greedy tokens of every prompt in place of timings.
    """

    checkpoint: str
    dtype: str
    prompts: list[list[int]]
    stop_ids: list[int]
    max_new_tokens: int
    budgets: list[int] | None
    batch_sizes: list[int]
    seeds: list[int]
    num_warmups: int
    check_tokens: int = 0


class Sampler(Protocol):
    """One sampler with its weights loaded."""

    def greedy(self, num_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        """The first tokens of every prompt at temperature 0, and their log-probabilities."""

    def draw(self, batch_size: int, seed: int) -> list[int]:
        """Samples all prompts at temperature 1; how many tokens each got, up to and with its stop token."""

    def facts(self) -> dict:
        """What to print beside the timings: versions, device, programs."""


def batches(job: Job, size: int) -> list[tuple[list[list[int]], int]]:
    """Static batches in the given order, each with its most new tokens: what its longest prompt was given."""
    found = []
    for first in range(0, len(job.prompts), size):
        budgets = (job.budgets or [job.max_new_tokens] * len(job.prompts))[first : first + size]
        found.append((job.prompts[first : first + size], max(budgets)))
    return found


def useful(job: Job, lengths: Sequence[int]) -> list[int]:
    """Of the tokens drawn for each prompt, those that were wanted. ValueError when a prompt got too few or too many."""
    if len(lengths) != len(job.prompts):
        raise ValueError(f"{len(lengths)} continuations of {len(job.prompts)} prompts")
    for prompt, length in enumerate(lengths):
        least = job.budgets[prompt] if job.budgets else 1
        if not least <= length <= job.max_new_tokens:
            raise ValueError(f"prompt {prompt} got {length} tokens; expected {least} to {job.max_new_tokens}")
    return [min(pair) for pair in zip(lengths, job.budgets, strict=True)] if job.budgets else list(lengths)


def main(make: Callable[[Job], Sampler]) -> None:
    """Does the job in the file that the command line names; prints its result as one line of JSON."""
    job = Job(**json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")))
    sampler = make(job)
    if job.check_tokens:
        tokens, logprobs = sampler.greedy(job.check_tokens)
        print(json.dumps({"tokens": tokens, "logprobs": logprobs}))
        return
    tried = {}
    for size in job.batch_sizes if len(job.batch_sizes) > 1 else ():
        sampler.draw(size, -1)
        tried[size] = _timed(sampler, job, size, -1)[0]
    size = min(tried, key=tried.get) if tried else job.batch_sizes[0]
    for warmup in range(0 if tried else job.num_warmups):
        sampler.draw(size, -1 - warmup)
    num_compiled = _compilations()
    runs = [_timed(sampler, job, size, seed) for seed in job.seeds]
    print(json.dumps({"batch_size": size, "tried": tried, "seconds": [seconds for seconds, _ in runs],
                      "lengths": [lengths for _, lengths in runs], "num_compiled": len(num_compiled),
                      **sampler.facts()}))


def _timed(sampler: Sampler, job: Job, size: int, seed: int) -> tuple[float, list[int]]:
    """Seconds from prompts on the host to tokens on the host, and the useful tokens of each prompt."""
    start = time.perf_counter()
    lengths = sampler.draw(size, seed)
    return time.perf_counter() - start, useful(job, lengths)


def _compilations() -> list[float]:
    """A list that grows by one whenever JAX compiles from now on: a measured run should not."""
    found: list[float] = []
    if "jax" in sys.modules:
        import jax

        jax.monitoring.register_event_duration_secs_listener(
            lambda name, seconds, **_: found.append(seconds) if name.endswith("backend_compile_duration") else None)
    return found
