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
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from libra_jax.judges import protocol, shown
from libra_jax.judging import prompt, reward
from libra_jax.judging.prompt import Template
from libra_jax.records import Judgement, JudgingExample, Verdict

if TYPE_CHECKING:
    import jax

    from libra_jax.parallel.mesh import MeshConfig

MINIATURE = "miniature"  # for Judge.load: the checkpoint that ships
_CHECKPOINT = pathlib.Path(__file__).parents[1] / "miniature/checkpoint"
_MAX_NEW_TOKENS = 4096
Progress = bool | Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Scored:
    """A response and what a judge said of it, its `votes` in order of their numbers. A notebook shows the thoughts."""

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
        """The thought of the first vote whose verdict is `verdict`."""
        return next(vote.thought for vote in self.votes if vote.verdict == self.verdict)

    @property
    def num_tokens(self) -> int:
        """Tokens of all votes together: thoughts, verdicts and stop tokens."""
        return sum(vote.num_tokens for vote in self.votes)

    def __repr__(self) -> str:
        return (f"Scored(score={self.score}, verdict={self.verdict!r}, votes={len(self.votes)}, "
                f"num_tokens={self.num_tokens}, question={shown.line(self.question)}, "
                f"response={shown.line(self.response)})")

    def _repr_html_(self) -> str:
        return shown.page(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """Responses to one question, `scored` in the order in which they were given."""

    scored: tuple[Scored, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The places of the responses, best first; of equal scores the earlier one, those without a score last."""
        scores = [each.score for each in self.scored]
        return tuple(sorted(range(len(scores)), key=lambda place: -1.0 if (score := scores[place]) is None else score,
                            reverse=True))

    @property
    def best(self) -> int:
        """The place of the response with the highest score."""
        return self.order[0]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Judge:
    """Scores responses to questions, without reference answers. Made by `Judge.load` or `Judge.endpoint`.

    `backend` is any judge of this package (protocol.Judge), which this class satisfies too. A checkpoint's judgements
    of a pair depend on its texts and the seed alone: not on what is judged beside it, nor on how often it is.

    Several threads may use one judge: nothing in it changes. Their calls run at the same time, each with a cache of its
    own in the devices' memory; of a checkpoint, one call with all pairs is faster. There is nothing to close: memory is
    free when the last reference to the judge is gone, and an endpoint's connections end with each call. Several
    processes of one mesh make the same calls, and each gets all results.
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
        from libra_jax.sampling import engine

        _check_votes(votes)
        folder = _folder(path)
        most = max_new_tokens or min(_MAX_NEW_TOKENS, hf.read_config(folder).max_length // 2)
        sampling = engine.SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=most,
                                         num_samples=votes, seed=seed, batch_size=batch_size)
        name = name or (MINIATURE if path == MINIATURE else folder.name)
        config = model.ModelJudgeConfig(name=name, thinking=thinking,
                                        probability=probability, sampling=sampling)
        words = template if isinstance(template, Template) else prompt.template_of(folder, template)
        placed = meshes.for_sampling(mesh or meshes.MeshConfig(data=-1, fsdp=1), devices)
        return cls(backend=model.load(folder, config, words, compute_dtype=compute_dtype, mesh=placed))

    @classmethod
    def endpoint(cls, url: str, model: str, *, votes: int = 1, template: str | Template = "libra",
                 probability: bool = False, max_new_tokens: int = 4096, temperature: float = 1.0, top_p: float = 1.0,
                 seed: int = 0, name: str = "", api_key_env: str = "", concurrency: int = 16, timeout: float = 600.0,
                 retries: int = 6, extra: Mapping[str, Any] | None = None) -> Judge:
        """A model behind an OpenAI-compatible API as a judge; imports no JAX. Every vote is a request.

        Args:
          url, model: the API's base, such as http://127.0.0.1:8000/v1, and the model's name there.
          votes, template, temperature, top_p, seed, name: as in `load`, as far as the server heeds them.
          probability: asks for log-probabilities, so that votes' scores are P(correct) at their verdicts.
          max_new_tokens: what the API calls max_tokens.
          api_key_env: the environment variable that holds the key.
          concurrency, timeout, retries, extra: as in judges/endpoint.py; `extra` as a mapping.
        A request that fails for good is an unparsed vote whose thought is the reason. ValueError for what is not set,
        and (EndpointError) where the endpoint answers nobody.
        """
        from libra_jax.judges import endpoint

        _check_votes(votes)
        for setting, value in (("url", url), ("model", model)):
            if not value:
                raise ValueError(f"{setting} is empty; expected the API's base, such as http://127.0.0.1:8000/v1, and "
                                 "the model's name there")
        config = endpoint.EndpointConfig(
            url=url, model=model, api_key_env=api_key_env, num_samples=votes, temperature=temperature, top_p=top_p,
            max_tokens=max_new_tokens, seed=seed, logprobs=probability, concurrency=concurrency, timeout=timeout,
            retries=retries, extra=json.dumps(dict(extra or {})))
        words = template if isinstance(template, Template) else prompt.load_template(template)
        return cls(backend=endpoint.load(config, name or model, words))

    @property
    def name(self) -> str:
        """The name that judgements carry."""
        return self.backend.name

    def __repr__(self) -> str:
        return f"Judge({self.name!r}, {type(self.backend).__name__})"

    def replace(self, *, votes: int | None = None, temperature: float | None = None, max_new_tokens: int | None = None,
                seed: int | None = None) -> Judge:
        """The same judge, of the same parameters, with these settings changed."""
        _check_votes(1 if votes is None else votes)
        return Judge(backend=self._sampler("settings").with_settings(
            votes=votes, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed))

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As protocol.Judge: the judgements that `libra judge` writes of these examples, streamed."""
        return self.backend.judge(examples, skip=skip)

    def score(self, questions: Sequence[str], responses: Sequence[str], *, progress: Progress = False) -> list[Scored]:
        """One Scored for each pair, in order. An empty response is judged as any other.

        `progress`: True writes a line to stderr every few seconds; a function is called with the number of judgements
        that are done, and of all. ValueError for lists of different lengths, an empty question, and what is no text.
        """
        pairs = _pairs(questions, responses)
        backend = self._sampler("progress").watched(progress) if progress else self.backend
        votes: list[list[Judgement]] = []
        for judgement in backend.judge([pair_example(*pair) for pair in pairs]):
            if not judgement.sample:  # the first of the next pair
                votes.append([])
            votes[-1].append(judgement)
        return [Scored(question=question, response=response, votes=tuple(some))
                for (question, response), some in zip(pairs, votes, strict=True)]

    def rank(self, question: str, responses: Sequence[str], *, progress: Progress = False) -> Ranking:
        """Orders several responses to one question by their scores. ValueError as `score`, and for no responses."""
        texts = _texts("responses", responses)
        if not texts:
            raise ValueError("responses is empty; expected at least one response to rank")
        return Ranking(scored=tuple(self.score([question] * len(texts), texts, progress=progress)))

    def best_of(self, question: str, responses: Sequence[str], *, progress: Progress = False) -> int:
        """The place of the best of several responses, as `rank(question, responses).best`."""
        return self.rank(question, responses, progress=progress).best

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """As trainers.Scorer: the scores alone."""
        return [each.score for each in self.score([pair[0] for pair in pairs], [pair[1] for pair in pairs])]

    def _sampler(self, wanted: str) -> protocol.Sampler:
        if not isinstance(self.backend, protocol.Sampler):
            raise ValueError(f"{wanted}: a {type(self.backend).__name__} has none; expected a judge with the methods "
                             "of libra_jax.judges.protocol.Sampler, such as those of Judge.load and Judge.endpoint")
        return self.backend


def pair_example(question: str, response: str) -> JudgingExample:
    """A pair as a judging example, whose id says both texts."""
    name = json.dumps([question, response])
    return JudgingExample(id=name, problem_id=name, question=question, response=response, correct=None, policy="",
                          source="")


def _folder(path: str | os.PathLike[str]) -> pathlib.Path:
    folder = _CHECKPOINT if path == MINIATURE else pathlib.Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder (looked for in {os.getcwd()}); expected a checkpoint in "
                                f"Hugging Face format, or {MINIATURE!r}; `hf download NAME --local-dir=FOLDER` fetches "
                                "one from the Hub")
    return folder


def _check_votes(votes: int) -> None:
    if votes < 1:
        raise ValueError(f"votes={votes}: expected at least 1")


def _pairs(questions: Sequence[str], responses: Sequence[str]) -> list[tuple[str, str]]:
    asked, answered = _texts("questions", questions), _texts("responses", responses)
    if len(asked) != len(answered):
        raise ValueError(f"{len(asked)} questions and {len(answered)} responses; expected as many; several responses "
                         "to one question are for `rank`, or repeat the question")
    if "" in (blank := [text.strip() for text in asked]):
        raise ValueError(f"questions[{blank.index('')}] is empty; expected what the response answers; leave the pair "
                         "out")
    return list(zip(asked, answered, strict=True))


def _texts(name: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise ValueError(f"{name} is the text {shown.line(texts)}; expected a list of texts, even for one")
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name}[{place}] is {shown.line(str(text))}, a {type(text).__name__}; expected a text; "
                             "convert it, or leave the pair out")
    return texts
