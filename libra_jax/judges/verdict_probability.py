"""P(correct) at a judge's verdict: of the two words that could stand there, how likely is "correct"?

p(correct) / (p(correct) + p(incorrect)), each the product over the word's tokens after all that the judge wrote before
it, at temperature 1: the score of a single judgement (as in arXiv 2408.15240, of "Yes"). Both words are scored by
one forward pass of a row each. Axis letters as in libra_jax/model/__init__.py.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from libra_jax.judging.prompt import Template
from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.records import Verdict
from libra_jax.text import tokenizer as tokenizers

ROW_TOKENS = 16_384  # of one call: rows of one length are as many as fit, so that no row's score hangs on the others
_LEAST = 64  # the shortest row; the others are its doubles, so that few programs compile


def place(tokens: Sequence[int], words: Mapping[str, Sequence[int]], said: Verdict, tokenizer: tokenizers.Tokenizer,
          template: Template) -> int | None:
    """Where in `tokens`, the judge's own after its thought, the word of its last verdict starts; None if nowhere.

    `words`: the tokens of each verdict, from where the two part. None where the judge wrote its verdict in other tokens
    than those that are trained.
    """
    word, head = list(words.get(said, ())), template.verdict_format.partition("{verdict}")[0].strip()
    tokens = list(tokens)
    for start in range(len(tokens) - len(word), -1, -1) if word else ():
        if tokens[start:start + len(word)] == word and tokenizer.decode(tokens[:start]).rstrip().endswith(head):
            return start
    return None


def parting(verdicts: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """The tokens of each verdict without the first ones that both have."""
    correct, incorrect = verdicts["correct"], verdicts["incorrect"]
    same = next((at for at, pair in enumerate(zip(correct, incorrect, strict=False)) if pair[0] != pair[1]),
                min(len(correct), len(incorrect)))
    return {word: list(tokens[same:]) for word, tokens in verdicts.items()}


def score(config: ModelConfig, params: Any, befores: Sequence[Sequence[int]], words: Mapping[str, Sequence[int]],
          mesh: jax.sharding.Mesh | None = None) -> list[float]:
    """P(correct) [n] after each of `befores`, the prompt and what the judge wrote before the word.

    The result for one does not depend on which others are asked for with it.
    """
    rows = [(list(before) + list(words[word]), len(words[word])) for before in befores
            for word in ("correct", "incorrect")]
    by_length = collections.defaultdict(list)
    for index, (tokens, _) in enumerate(rows):
        by_length[_LEAST * 2 ** max(0, math.ceil(math.log2(len(tokens) / _LEAST)))].append(index)
    found = np.zeros(len(rows))
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        for length, members in sorted(by_length.items()):
            num_rows = max(8, ROW_TOKENS // length)
            for start in range(0, len(members), num_rows):
                chosen = members[start:start + num_rows]
                tokens, last = np.zeros((num_rows, length), np.int32), np.zeros((num_rows, 2), np.int32)
                for row, index in enumerate(chosen):
                    tokens[row, :len(rows[index][0])] = rows[index][0]
                    last[row] = len(rows[index][0]), rows[index][1]
                found[chosen] = np.asarray(_program(config, mesh)(params, tokens, last))[:len(chosen)]
    gap = found[1::2] - found[::2]
    return [float(value) for value in np.where(gap > 0, np.exp(-np.abs(gap)), 1.0) / (1 + np.exp(-np.abs(gap)))]


@functools.cache
def _program(config: ModelConfig, mesh: jax.sharding.Mesh | None) -> Any:
    """Jitted (parameters, tokens [B, T], last [B, 2]: their number, and how many of them count) -> [B], log p."""
    def summed(params, tokens, last):
        at = np.arange(tokens.shape[1])
        inside = at < last[:, :1]
        scored = transformer.token_logprobs(
            config, params, tokens, positions=jnp.broadcast_to(at, tokens.shape), segment_ids=inside.astype(np.int32),
            wanted=inside & (at >= last[:, :1] - last[:, 1:]))
        return scored.sum(axis=1)

    if mesh is None:
        return jax.jit(summed)
    return jax.jit(summed, out_shardings=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
