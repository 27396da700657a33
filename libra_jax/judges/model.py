"""A checkpoint as a judge: it thinks, then ends in a verdict; several samples an example."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from libra_jax.judges import verdict_probability
from libra_jax.judges.protocol import given
from libra_jax.judging import verdict
from libra_jax.judging.prompt import Template
from libra_jax.model import hf
from libra_jax.model.config import ModelConfig
from libra_jax.records import Judgement, JudgingExample, RankingExample, Verdict
from libra_jax.sampling import engine
from libra_jax.sampling.watch import Acceptance
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers

_AT_ONCE = 256  # judgements whose probabilities are computed together


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelJudgeConfig:
    """How a model judges. Without `thinking` its thought is given to it empty, and the verdict comes next.

    `enough` above 0: an example's judgements after its `enough`-th right one are not drawn; it needs labels, and is for
    rejection sampling, not for measuring. With `probability` each judgement's score is P(correct) at its verdict
    (judges/verdict_probability.py), at the cost of two forward passes over prompt and thought.
    """

    name: str = "model"
    thinking: bool = True
    enough: int = 0
    probability: bool = False
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=4096)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelJudge:
    """As protocol.Sampler. Judgements follow the examples, `config.sampling.num_samples` each, streamed by batches.

    `params` may be replaced (dataclasses.replace) by later ones of the same model: nothing is compiled again. An
    example's draws are seeded by its id, so they do not depend on which other examples are judged with it.
    """

    config: ModelJudgeConfig
    model_config: ModelConfig
    params: Any
    tokenizer: tokenizers.Tokenizer
    template: Template
    mesh: jax.sharding.Mesh | None = None
    progress: Callable[[engine.Progress], None] | None = None

    @property
    def name(self) -> str:
        """The name that judgements carry."""
        return self.config.name

    def watched(self, told: bool | Callable[[int, int], None]) -> ModelJudge:
        """As Sampler.watched."""
        if not callable(told):
            return dataclasses.replace(self, progress=engine.to_stderr(f"judge {self.name}") if told else None)
        return dataclasses.replace(self, progress=lambda now: told(now.num_done, now.num_total))

    def with_settings(self, *, votes: int | None = None, temperature: float | None = None,
                      max_new_tokens: int | None = None, seed: int | None = None) -> ModelJudge:
        """As Sampler.with_settings: the same parameters and compiled programs, where shapes allow."""
        changes = given(num_samples=votes, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
        sampling = dataclasses.replace(self.config.sampling, **changes)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, sampling=sampling))

    def prompt(self, example: JudgingExample) -> tuple[int, ...]:
        """Token ids up to where the judge takes over; the reference and the label are not in them."""
        messages = self.template.judging(example.question, example.response, thinking=self.config.thinking)
        return chat.render(self.tokenizer, messages, open_last=True).tokens

    def read(self, tokens: Iterable[int]) -> tuple[str, Verdict]:
        """(thought, verdict) of the judge's own tokens [n], with or without the stop token at their end."""
        thought, after = self._split(tokens)
        return thought, "unparsed" if after is None else verdict.parse(after, self.template)

    def ranking_prompt(self, example: RankingExample) -> tuple[int, ...]:
        """As `prompt`, of several responses."""
        messages = self.template.ranking(example.question, example.responses, thinking=self.config.thinking)
        return chat.render(self.tokenizer, messages, open_last=True).tokens

    def read_choice(self, tokens: Iterable[int], num_responses: int) -> tuple[str, int | None]:
        """As `read`, with the place of the response that the judge names; None is unparsed."""
        thought, after = self._split(tokens)
        return thought, None if after is None else verdict.parse_choice(after, self.template, num_responses)

    def _split(self, tokens: Iterable[int]) -> tuple[str, str | None]:
        """(thought, what follows it); None where the thought never ends."""
        tokens = [int(token) for token in tokens]
        if tokens and tokens[-1] in self.tokenizer.stop_ids:
            tokens = tokens[:-1]
        if not self.config.thinking:
            return "", self.tokenizer.decode(tokens)
        close = self.tokenizer.control(self.template.think_close)
        if close is None:
            thought, found, after = self.tokenizer.decode(tokens).partition(self.template.think_close)
            return thought.strip(), after if found else None
        thought, after = verdict.split_tokens(tokens, close)
        return self.tokenizer.decode(thought).strip(), None if after is None else self.tokenizer.decode(after)

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As Judge.judge."""
        prompts = [self.prompt(example) for example in examples]
        enough = self.config.enough
        samples = engine.generate(
            self.model_config, self.params, prompts, self.config.sampling, stop_ids=self.tokenizer.stop_ids,
            ids=[stable_id(example.id) for example in examples], skip=0 if enough else skip,
            acceptance=self._acceptance(examples) if enough else None, progress=self.progress, mesh=self.mesh)
        samples = itertools.islice(samples, skip if enough else 0, None)
        while part := list(itertools.islice(samples, _AT_ONCE if self.config.probability else 1)):
            read = [self.read(sample.tokens) for sample in part]
            for sample, (thought, found), score in zip(part, read, self._scores(prompts, part, read), strict=True):
                yield Judgement(example_id=examples[sample.prompt].id, judge=self.name, sample=sample.sample,
                                thought=thought, verdict=found, num_tokens=len(sample.tokens), score=score)

    def _scores(self, prompts: Sequence[Sequence[int]], samples: Sequence[engine.Sample],
                read: Sequence[tuple[str, Verdict]]) -> list[float | None]:
        """P(correct) at each sample's verdict; None where it has none, or the config asks for none."""
        found: list[float | None] = [None] * len(samples)
        if not self.config.probability:
            return found
        words = verdict_probability.parting({word: self.verdict_tokens(word) for word in ("correct", "incorrect")})
        close = self.tokenizer.control(self.template.think_close) if self.config.thinking else None
        befores = {}
        for index, (sample, (_, said)) in enumerate(zip(samples, read, strict=True)):
            tokens = [int(token) for token in sample.tokens]
            start = tokens.index(close) + 1 if close in tokens else 0
            place = verdict_probability.place(tokens[start:], words, said, self.tokenizer, self.template)
            if place is not None:
                befores[index] = [*prompts[sample.prompt], *tokens[:start + place]]
        scores = verdict_probability.score(self.model_config, self.params, list(befores.values()), words, self.mesh)
        for index, score in zip(befores, scores, strict=True):
            found[index] = score
        return found

    def verdict_tokens(self, word: str) -> list[int]:
        """The tokens of the verdict `word` as targets are trained: after the thought, without the stop token."""
        thought = "." if self.config.thinking else ""
        asked = self.template.judging("", "", thinking=self.config.thinking)
        whole = chat.render(self.tokenizer, self.template.judging_target("", "", thought, word)).tokens
        rest = list(whole[len(chat.render(self.tokenizer, asked, open_last=True).tokens):])
        close = self.tokenizer.control(self.template.think_close)
        if self.config.thinking:
            rest = rest[rest.index(close) + 1 :] if close in rest else []
        ends = [place for place, token in enumerate(rest) if token in self.tokenizer.stop_ids]
        return rest[: ends[0]] if ends else rest

    def _acceptance(self, examples: Sequence[JudgingExample]) -> Acceptance:
        labels = ["correct" if example.correct else "incorrect" for example in examples]
        unlabelled = [example.id for example in examples if example.correct is None]
        if unlabelled:
            raise ValueError(f"example {unlabelled[0]!r} has no label; enough={self.config.enough} "
                             "stops at right judgements and needs labels (or enough=0)")
        tokens = {word: self.verdict_tokens(word) for word in ("correct", "incorrect")}
        close = self.tokenizer.control(self.template.think_close) if self.config.thinking else None
        return Acceptance(enough=self.config.enough, verdicts=[tokens[label] for label in labels], close_id=close,
                          right=lambda prompt, sampled: self.read(sampled)[1] == labels[prompt])


def load(path: str | os.PathLike, config: ModelJudgeConfig, template: Template, *,
         compute_dtype: Literal["float32", "bfloat16"] = "float32", **kwargs: Any) -> ModelJudge:
    """A judge from a checkpoint folder in Hugging Face format; `kwargs` are further fields of ModelJudge.

    It computes, and holds its parameters, in `compute_dtype`.
    """
    model_config, params = hf.load(path, mesh=kwargs.get("mesh"), dtype=np.dtype(compute_dtype),
                                   compute_dtype=compute_dtype)
    return ModelJudge(config=config, model_config=model_config, params=params, tokenizer=tokenizers.load(path),
                      template=template, **kwargs)


def stable_id(name: str) -> int:
    """A whole number below 2**32 for a record's id: the same in every process (SHA-256), for seeds."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:4], "big")
