"""Requests and answers of POST /score, as data: how right are these responses to these questions?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from libra_jax.judges.model import ModelJudge, stable_id
from libra_jax.judges.scoring import pair_example
from libra_jax.judging import reward
from libra_jax.records import Judgement, JudgingExample
from libra_jax.serving.chat import usage
from libra_jax.serving.fields import Fields, read
from libra_jax.serving.http import Refused

_SEEDS = 2**31


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """What a request wants: `votes` on each of `examples`, whose `prompts` are at hand."""

    examples: tuple[JudgingExample, ...]
    prompts: tuple[tuple[int, ...], ...]
    votes: int
    seed: int
    temperature: float
    budget: int
    thoughts: bool


def ask(body: bytes, judge: ModelJudge, most_items: int, most_samples: int, longest: int) -> Ask:
    """The request in a body, with the judge's own settings where it says nothing. Refused for what is none.

    Draws are seeded by an item's `id`, as those of `libra judge` by the example's; without one by its texts, so that
    the same pair has the same verdicts whatever is asked beside it.
    """
    fields, sampling = Fields(read(body)), judge.config.sampling
    items = fields.take("items")
    if not isinstance(items, list) or not 1 <= len(items) <= most_items:
        raise fields.wrong("items", f"a list of 1 to {most_items} objects with question and response")
    votes = fields.count("votes", sampling.num_samples, 1, most_samples)
    if len(items) * votes > most_samples:
        raise Refused(400, f"{len(items)} items of {votes} votes: expected at most {most_samples} votes in all")
    found = Ask(examples=tuple(_example(item, place) for place, item in enumerate(items)), prompts=(), votes=votes,
                seed=fields.count("seed", sampling.seed, -_SEEDS, _SEEDS - 1),
                temperature=fields.temperature(sampling.temperature),
                budget=fields.count("max_tokens", sampling.max_new_tokens, 1, sampling.max_new_tokens),
                thoughts=fields.flag("thoughts", False))
    fields.end()
    prompts = tuple(judge.prompt(example) for example in found.examples)
    for place, prompt in enumerate(prompts):
        if len(prompt) > longest:
            raise Refused(400, f"items[{place}]: {len(prompt):,} tokens; expected at most {longest:,}")
    return dataclasses.replace(found, prompts=prompts)


def seed_id(example: JudgingExample) -> int:
    """The whole number that seeds an item's draws, as ModelJudge.judge does."""
    return stable_id(example.id)


def answer(judge: ModelJudge, asked: Ask, drawn: Sequence[Sequence[np.ndarray]]) -> dict[str, Any]:
    """The answer, of the tokens of each item's samples, by number. A score is null where no verdict was parsed."""
    scores, verdicts, thoughts = [], [], []
    for example, samples in zip(asked.examples, drawn, strict=True):
        read_out = [judge.read(tokens) for tokens in samples]
        verdicts.append([found for _, found in read_out])
        thoughts.append([thought for thought, _ in read_out])
        scores.append(reward.score(
            Judgement(example_id=example.id, judge=judge.name, sample=number, thought="", verdict=found, num_tokens=0)
            for number, found in enumerate(verdicts[-1])))
    tokens = [[len(tokens) for tokens in samples] for samples in drawn]
    found = {"model": judge.name, "scores": scores, "verdicts": verdicts, "tokens": tokens,
             "usage": usage(sum(map(len, asked.prompts)), sum(map(sum, tokens)))}
    return found | ({"thoughts": thoughts} if asked.thoughts else {})


def _example(raw: Any, place: int) -> JudgingExample:
    fields = Fields(raw, f"items[{place}]")
    question, response = fields.text("question"), fields.text("response")
    example = pair_example(question, response)
    example = dataclasses.replace(example, id=fields.text("id", example.id))
    fields.end()
    return example
