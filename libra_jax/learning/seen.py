"""What a watch is given of a run: its parameters after a step, and samples of them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from libra_jax.model.config import ModelConfig
from libra_jax.sampling import engine, entrance
from libra_jax.train import watching


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the watch of a run is given.

    Attributes:
      step: optimizer rounds done; 0 before the first.
      model, params: the parameters after them, float32 masters laid out as they train. Not to be kept: the next step
        takes their memory.
      rows: the rows of metrics of the steps before (train/metrics.py `read`), with what the watch measured.
      sample: (prompts of token ids, SamplingConfig, ids=...) -> samples of the current parameters, in order, as
        engine.generate draws them; the run's stop tokens end them. The seed is the config's own, so that every look
        draws alike.
    """

    step: int
    model: ModelConfig
    params: Any
    rows: watching.Rows
    sample: Callable[..., list[engine.Sample]]


def seen(step: int, params: Any, rows: watching.Rows, model: ModelConfig, mesh: jax.sharding.Mesh,
         stop_ids: Sequence[int], *, longest: int, progress: Callable[[engine.Progress], None],
         thread: concurrent.futures.Executor | None = None) -> Seen:
    """What a watch is given of parameters that sample on `mesh`; `longest` and `progress` as engine.generate."""
    weights: list[Any] = []  # as they sample; made when they are first asked for

    def sample(prompts: Sequence[Sequence[int]], sampling: engine.SamplingConfig, *, ids: Sequence[int] | None = None
               ) -> list[engine.Sample]:
        if not weights:
            weights.append(entrance.enter(model, params, mesh))

        def draw() -> list[engine.Sample]:
            return list(engine.generate(model, weights[0], prompts, sampling, stop_ids=stop_ids, ids=ids,
                                        progress=progress, longest=longest, mesh=mesh if mesh.size > 1 else None))

        # In turn with what is drawn ahead: two programs at once on several devices would wait for each other.
        return thread.submit(draw).result() if thread else draw()

    return Seen(step=step, model=model, params=params, rows=rows, sample=sample)


# Metrics of the parameters, which are logged with their step; watching.Enough ends the run.
Watch = Callable[[Seen], Mapping[str, float]]
