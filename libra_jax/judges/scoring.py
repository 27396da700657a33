"""Scores of (question, response) pairs from Python: a checkpoint's, an endpoint's, or any judge's of this package.

    from libra_jax import Judge

    judge = Judge.load("miniature", votes=4)
    for scored in judge.score(["What is 45+7+2?"], ["45+7=52\n52+2=54\nA: 54"]):
        print(scored.score, scored.verdict, scored.thought)

`libra_jax.Judge` is this; the reward functions of judges/trainers.py score by it. Judgements are those of `libra judge`
and of POST /score, by the same seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from libra_jax.judges import protocol
from libra_jax.judging import prompt, reward
from libra_jax.judging.prompt import Template
from libra_jax.records import Judgement, JudgingExample, Verdict

if TYPE_CHECKING:
    import jax

    from libra_jax.parallel.mesh import MeshConfig

MINIATURE = "miniature"
_CHECKPOINT = pathlib.Path(__file__).parents[1] / "miniature/checkpoint"
_MAX_NEW_TOKENS = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """A response with what a judge said of it: its `votes`, in order of their numbers."""

    question: str
    response: str
    votes: tuple[Judgement, ...]

    @property
    def score(self) -> float | None:
        """How likely the response is correct, in [0, 1]: the mean P(correct) of the votes that have one, else the
        share of "correct" among parsed verdicts; None where there is neither."""
        return reward.mean_score(self.votes)

    @property
    def verdict(self) -> Verdict:
        """"correct" where more than half of the parsed votes say so, else "incorrect" (a tie is); "unparsed" where none
        is parsed."""
        share = reward.score(self.votes)
        return "unparsed" if share is None else "correct" if share > 0.5 else "incorrect"

    @property
    def thought(self) -> str:
        """The thought of the first vote whose verdict is `verdict`; of the first one where there is none."""
        return next((vote.thought for vote in self.votes if vote.verdict == self.verdict), self.votes[0].thought)

    @property
    def num_tokens(self) -> int:
        """Tokens of all votes together: thoughts, verdicts and stop tokens."""
        return sum(vote.num_tokens for vote in self.votes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """Scores responses to questions, without reference answers. Made by `Judge.load`.

    `backend` is any judge of this package (protocol.Judge), which this class satisfies too. A pair's judgements depend
    on its texts and the seed alone: not on what is judged beside it, nor on how often it is.
    """

    backend: protocol.Judge

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, votes: int = 1, template: str | Template = "",
             thinking: bool = True, probability: bool = False, max_new_tokens: int = 0, temperature: float = 1.0,
             top_k: int = 0, top_p: float = 1.0, seed: int = 0, batch_size: int = 64, name: str = "",
             compute_dtype: Literal["float32", "bfloat16"] = "float32", mesh: MeshConfig | None = None,
             devices: Sequence[jax.Device] | None = None) -> Judge:
        """A checkpoint folder in Hugging Face format as a judge in this process; "miniature" is the one that ships.

        Args:
          votes: judgements of each response.
          template: as --config.template of `libra judge`, or a Template; empty: that of the checkpoint (exports of
            this package hold theirs), else "libra".
          thinking: without, the judge gets an empty thought and gives its verdict at once.
          probability: whether votes' scores are P(correct) at their verdicts (judges/verdict_probability.py).
          max_new_tokens: of a vote, thought and verdict; 0: 4096, or half of the model's context where that is less.
          temperature, top_k, top_p, seed, batch_size: as in sampling/engine.py.
          name: the name that judgements carry; default: the folder's.
          compute_dtype: of parameters and products.
          mesh: how the model lies on `devices` (default: all); default: a copy on each.
        Raises FileNotFoundError or ValueError for what cannot be loaded.
        """
        from libra_jax.judges import model
        from libra_jax.model import hf
        from libra_jax.parallel import mesh as meshes
        from libra_jax.sampling.engine import SamplingConfig

        folder = _folder(path)
        most = max_new_tokens or min(_MAX_NEW_TOKENS, hf.read_config(folder).max_length // 2)
        sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=most,
                                  num_samples=votes, seed=seed, batch_size=batch_size)
        config = model.ModelJudgeConfig(name=name or pathlib.Path(path).name, thinking=thinking,
                                        probability=probability, sampling=sampling)
        words = template if isinstance(template, Template) else prompt.template_of(folder, template)
        placed = meshes.for_sampling(mesh or meshes.MeshConfig(data=-1, fsdp=1), devices)
        return cls(backend=model.load(folder, config, words, compute_dtype=compute_dtype, mesh=placed))

    @property
    def name(self) -> str:
        """The name that judgements carry."""
        return self.backend.name

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As protocol.Judge: the judgements that `libra judge` writes of these examples."""
        return self.backend.judge(examples, skip=skip)

    def score(self, questions: Sequence[str], responses: Sequence[str]) -> list[Scored]:
        """One Scored for each pair, in order. An empty response is judged as any other.

        ValueError for lists of different lengths, an empty question, and what is no text.
        """
        pairs = _pairs(questions, responses)
        examples = {pair: pair_example(*pair) for pair in pairs}  # each once: the same pair has the same judgements
        judgements = itertools.groupby(self.judge(list(examples.values())), key=lambda each: each.example_id)
        votes = {name: tuple(some) for name, some in judgements}
        return [Scored(question=pair[0], response=pair[1], votes=votes[examples[pair].id]) for pair in pairs]

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """As trainers.Scorer: the scores alone."""
        return [each.score for each in self.score([pair[0] for pair in pairs], [pair[1] for pair in pairs])]


def pair_example(question: str, response: str) -> JudgingExample:
    """A pair as a judging example, whose id says both texts."""
    name = json.dumps([question, response])
    return JudgingExample(id=name, problem_id=name, question=question, response=response, correct=None, policy="",
                          source="")


def _folder(path: str | os.PathLike[str]) -> pathlib.Path:
    return _CHECKPOINT if path == MINIATURE and not pathlib.Path(path).exists() else pathlib.Path(path)


def _pairs(questions: Sequence[str], responses: Sequence[str]) -> list[tuple[str, str]]:
    for name, texts in (("questions", questions), ("responses", responses)):
        if isinstance(texts, str):
            raise ValueError(f"{name} is the text {texts[:60]!r}; expected a list of texts: write [{name[:-1]}]")
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"{name}[{place}] is {str(text)[:60]!r}, of type {type(text).__name__}; expected a "
                                 "text; leave the pair out, or write the text of it")
            if name == "questions" and not text.strip():
                raise ValueError(f"questions[{place}] is empty; expected what the response answers; leave the pair out")
    if len(questions) != len(responses):
        raise ValueError(f"{len(questions)} questions and {len(responses)} responses; expected as many: to score "
                         "several responses to one question, repeat it")
    return list(zip(questions, responses, strict=True))
