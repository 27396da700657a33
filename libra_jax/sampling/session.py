"""An engine that stays open: prompts enter while others are drawn, and leave when they are done or no longer wanted.

The programs, the schedule and the seeds are those of engine.generate, so a sample is what it is there for the same
prompt, seed, id, number, temperature and filters, whatever is drawn beside it and whenever it entered. The number of
rows never changes: it would have to grow again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from libra_jax.model.config import ModelConfig
from libra_jax.sampling import engine
from libra_jax.sampling.engine import Sample, SamplingConfig


class Session:
    """Not for several threads at once, nor for several processes.

    All rows are drawn at one temperature, which may change while nothing is drawn.
    """

    def __init__(self, model_config: ModelConfig, params: Any, config: SamplingConfig, *, longest: int,
                 stop_ids: Sequence[int], segment: int = engine.SEGMENT, mesh: jax.sharding.Mesh | None = None):
        """`longest`: tokens of the longest prompt; `segment`: tokens that a row draws at most before `step` returns.

        Raises ValueError for a setting out of its range, or an 8-bit cache, whose scales are measured on prompts that
        nobody has yet.
        """
        if not 1 <= segment <= engine.SEGMENT:
            raise ValueError(f"segment={segment}: expected 1 to {engine.SEGMENT} tokens")
        if config.cache_dtype:
            raise ValueError(f"cache_dtype={config.cache_dtype!r}: an open engine has no prompts to measure its scales "
                             "on; expected ''")
        self.longest, self.model_config = longest, model_config
        nothing = [[0] * longest]
        engine.check(model_config, config, nothing, None, [config.max_new_tokens])
        self._prompts, self._ids, self._budgets = nothing, [0], [config.max_new_tokens]
        self._run = engine.Run(model_config, params, config, self._prompts, self._budgets, longest, self._ids, [()],
                               stop_ids, None, None, mesh)
        self._run.sizes, self._run.limit = self._run.sizes[:1], segment
        self._run.demand.drop(0)
        self._left: dict[int, int] = {}  # samples that each prompt under way still lacks

    @property
    def busy(self) -> bool:
        """Whether anything is left to draw."""
        return bool(self._left)

    @property
    def num_rows(self) -> int:
        """Rows that draw now."""
        return len(self._run.schedule.live())

    @property
    def num_tokens(self) -> int:
        """Tokens drawn so far, those of cancelled samples too."""
        return self._run.num_tokens

    @property
    def temperature(self) -> float:
        """At which all rows are drawn."""
        return self._run.config.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if self.busy and value != self.temperature:
            raise ValueError(f"temperature={value} while rows are drawn at {self.temperature}: wait until none is")
        self._run.config = dataclasses.replace(self._run.config, temperature=value)

    def add(self, prompt: Sequence[int], samples: Sequence[int], *, seed: int, id: int, budget: int) -> int:
        """Wants these `samples` (their numbers) of a prompt, at most `budget` tokens each; returns a ticket.

        `seed` and `id` as SamplingConfig.seed and engine.generate's ids. The ticket is the `prompt` of the samples that
        `step` returns, and free for another prompt after the last of them. ValueError as engine.generate, or for a
        prompt above `longest`.
        """
        config = dataclasses.replace(self._run.config, seed=seed)
        engine.check(self.model_config, config, [prompt], None, [budget])
        if len(prompt) > self.longest:
            raise ValueError(f"a prompt of {len(prompt)} tokens: expected at most longest={self.longest}")
        if not len(samples):
            raise ValueError("no samples wanted: expected at least one number")
        ticket = self._run.demand.add(samples)
        places: tuple[tuple[Any, Any], ...] = (
            (self._prompts, prompt), (self._ids, id), (self._budgets, budget), (self._run.seeds, seed),
            (self._run.schedule.lengths, len(prompt)))
        for values, value in places:
            values[ticket : ticket + 1] = [value]
        self._left[ticket] = len(samples)
        return ticket

    def step(self) -> list[Sample]:
        """Lets waiting samples in, draws at most `segment` tokens a row, and returns the samples that ended."""
        run = self._run
        run.fill()
        if live := run.schedule.live():
            run.segment(live)
        found = [run.finished.pop(key) for key in list(run.finished)]
        for sample in found:
            self._left[sample.prompt] -= 1
            if not self._left[sample.prompt]:
                self._forget(sample.prompt)
        return found

    def drawn(self, ticket: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Tokens and log-probabilities so far of each of the ticket's samples that has a row, by sample number."""
        run, found = self._run, {}
        for index in run.schedule.live():
            row = run.schedule.at(index)
            if row.prompt == ticket and run.drawn[index]:
                tokens, logprobs = zip(*run.drawn[index], strict=True)
                found[row.sample] = np.concatenate(tokens), np.concatenate(logprobs)
        return found

    def wants(self, ticket: int) -> bool:
        """Whether samples of the ticket are still to come."""
        return ticket in self._left

    def cancel(self, ticket: int) -> None:
        """Leaves off what is not done of a ticket, which is free from now on; its rows are free for others."""
        run = self._run
        for index in run.schedule.live():
            if run.schedule.at(index).prompt == ticket:
                run.give_up(index)
        for held in run.schedule.held:
            if held is not None and held.prompt == ticket:
                held.left.clear()
        self._forget(ticket)

    def _forget(self, ticket: int) -> None:
        del self._left[ticket]
        self._run.demand.drop(ticket)
        self._prompts[ticket] = []
