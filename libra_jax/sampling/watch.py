"""Right verdicts recognised from token ids inside the decode loop, so that needless rows stop at once.

A judgement is right where, after its thought, exactly the tokens of its prompt's wanted verdict follow and then a stop
token. A row stops when as many right judgements of its prompt as are enough have lower sample numbers than its own. The
host reads every finished judgement anyway, as text: what the device does not recognise (another writing of the same
verdict) only stops needless rows later, at the host's next look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from libra_jax.model.cache import Leaf


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Acceptance:
    """When enough samples of a prompt are right.

    Attributes:
      enough: a prompt's samples after its `enough`-th right one, by sample number, are not wanted.
      right: whether a finished sample of the prompt with this index is right: what counts.
      close_id: the token that ends a thought, after which the device looks for a verdict; None: there is no thought.
      verdicts: for each prompt the tokens of its right verdict, without the stop token; empty: not looked for.
    """

    enough: int
    right: Callable[[int, np.ndarray], bool]
    close_id: int | None
    verdicts: Sequence[Sequence[int]]


class Watch(NamedTuple):
    """What the loop knows of each row [B]: `matched` tokens of its verdict were seen, -1 before the thought's end and
    -2 where something else came; `verdict` [B, W] padded with -1; right samples of the prompt `before` the row's."""

    matched: Leaf
    verdict: Leaf
    prompt: Leaf
    sample: Leaf
    before: Leaf
    close: Leaf  # [], the token that ends a thought
    enough: Leaf  # []


def step(watch: Watch, drawn: jax.Array, live: jax.Array, stopped: jax.Array) -> tuple[Watch, jax.Array]:
    """Takes in the tokens drawn [B] by live rows, of which some stopped; gives also the rows [B] that are needless."""
    width = watch.verdict.shape[1]
    expected = jnp.take_along_axis(watch.verdict, jnp.clip(watch.matched, 0, width - 1)[:, None], axis=1)[:, 0]
    wanted = jnp.where(watch.matched < width, expected, -1)  # -1: the verdict is whole
    right = live & stopped & (watch.matched > 0) & (wanted == -1)
    moved = jnp.where(watch.matched >= 0, jnp.where(drawn == wanted, watch.matched + 1, -2),
                      jnp.where((watch.matched == -1) & (drawn == watch.close), 0, watch.matched))
    earlier = (watch.prompt[:, None] == watch.prompt) & (watch.sample[:, None] > watch.sample)
    before = watch.before + jnp.sum(earlier & right, axis=1)
    return watch._replace(matched=jnp.where(live, moved, watch.matched), before=before), before >= watch.enough
