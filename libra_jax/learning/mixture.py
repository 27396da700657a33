"""The kinds of data that `libra rl` learns from: judging, ranking and ordinary problems, each with its own reward.

- judging: is this response correct? 1 where the verdict is the label.
- ranking: which of several responses is right? 1 where the verdict is its letter.
- problems: solve this, as `libra rollout` asks it. 1 where the rules of `libra verify` find the final answer correct;
  an undecided one is 0 and counted. So the judge does not forget how to solve.

A group is of one kind. How many groups of each kind a step draws: data/shares.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from libra_jax import runs
from libra_jax.data import shares, tasks
from libra_jax.judges.model import ModelJudge
from libra_jax.judging import curriculum
from libra_jax.judging import reward as rewards
from libra_jax.judging.curriculum import CurriculumConfig
from libra_jax.learning.config import Config
from libra_jax.records import Judgement, JudgingExample, Problem, RankingExample
from libra_jax.sampling import engine
from libra_jax.text import chat
from libra_jax.verify import batch

KINDS = ("judging", "ranking", "problems")

# (index of the prompt of each sample, samples) -> (reward of each, metrics of them all)
Reward = Callable[[Sequence[int], Sequence[engine.Sample]], tuple[Sequence[float], dict[str, float]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """Prompts of one kind and their reward, whose prompt indices count within the kind; `weight` is its share of the
    groups, beside the weights of the other kinds. `too_long` prompts were left out, `broken` lines set aside.

    Epochs are shuffled, or keep the order of the prompts. `problem_ids` are those of the problems that the prompts are
    about, `judged` the examples of the prompts where the kind is judging, `counts` what else the summary says.
    """

    name: str
    prompts: Sequence[Sequence[int]]
    reward: Reward
    weight: float = 1.0
    too_long: int = 0
    broken: int = 0
    shuffle: bool = True
    problem_ids: frozenset[str] = frozenset()
    judged: Sequence[JudgingExample] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def num_examples(self) -> int:
        """How many examples the file has."""
        return len(self.prompts) + self.too_long


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """One or more kinds; prompts are numbered one kind after the other."""

    kinds: Sequence[Kind]

    @property
    def prompts(self) -> list[Sequence[int]]:
        """The prompts of all kinds."""
        return [prompt for kind in self.kinds for prompt in kind.prompts]

    @property
    def problem_ids(self) -> frozenset[str]:
        """Those of all kinds."""
        return frozenset().union(*(kind.problem_ids for kind in self.kinds))

    @property
    def judged(self) -> Sequence[JudgingExample]:
        """The examples of the first prompts, as many as are judging ones."""
        return self.kinds[0].judged

    def counts(self, step: int, groups: int) -> list[int]:
        """How many of the `groups` groups of step `step` are of each kind."""
        before, after = (shares.counts(number * groups, [kind.weight for kind in self.kinds])
                         for number in (step, step + 1))
        return [last - first for first, last in zip(before, after, strict=True)]

    def chosen(self, seed: int, step: int, again: int, draws: int, groups: int, wanted: Sequence[int]) -> list[int]:
        """The prompts of draw `again` of the at most `draws` draws of step `step`, of the kinds `wanted` alone.

        Each kind goes through its own prompts in its own order; a step takes room in it for all draws.
        """
        before = shares.counts(step * groups, [kind.weight for kind in self.kinds])
        found: list[int] = []
        for number, count in enumerate(self.counts(step, groups)):
            if number in wanted:
                start, first = before[number] * draws + again * count, self._starts()[number]
                kind = self.kinds[number]
                some = shares.indices(seed, start, start + count, len(kind.prompts), stream=number,
                                      shuffle=kind.shuffle)
                found += (first + some).tolist()
        return found

    def kind_of(self, prompt: int) -> int:
        """The number of the kind that this prompt is of."""
        return int(np.searchsorted(self._starts(), prompt, side="right")) - 1

    def reward(self, owners: Sequence[int], samples: Sequence[engine.Sample]) -> tuple[list[float], dict[str, float]]:
        """As Reward. Of several kinds, the metrics of each are named after it: "ranking/unparsed"."""
        if len(self.kinds) == 1:
            return self.kinds[0].reward(owners, samples)
        values, metrics = [0.0] * len(samples), {}
        for number, kind in enumerate(self.kinds):
            own = [place for place, owner in enumerate(owners) if self.kind_of(owner) == number]
            if own:
                given, measured = kind.reward([owners[place] - self._starts()[number] for place in own],
                                              [samples[place] for place in own])
                metrics |= {f"{kind.name}/{name}": value for name, value in measured.items()}
                for place, value in zip(own, given, strict=True):
                    values[place] = value
        return values, metrics

    def _starts(self) -> list[int]:
        return np.cumsum([0, *(len(kind.prompts) for kind in self.kinds[:-1])]).tolist()


def load(config: Config, reader: ModelJudge, workdir: pathlib.Path, stack: contextlib.ExitStack) -> Mixture:
    """The kinds whose files `config` names; `reader` is the judge that is trained, and `stack` ends what they start.

    ValueError for weights that are none, for a file without a prompt that is short enough, or an example without what
    it is rewarded by.
    """
    files = dict(zip(KINDS, (config.examples, config.ranking, config.problems), strict=True))
    weights = config.weights
    if len(weights) != len(KINDS) or any(files[name] and not 0 < weight < np.inf
                                         for name, weight in zip(KINDS, weights, strict=False)):
        raise ValueError(f"weights={','.join(map(str, weights))}: expected {len(KINDS)} numbers, of "
                         f"{', '.join(KINDS)}, above 0 where there is a file; leave out the file of a kind you do not "
                         "want")
    if not config.examples and (config.judgements or config.curriculum != CurriculumConfig()):
        raise ValueError("--config.judgements and .curriculum choose among --config.examples, which is empty; name it, "
                         "or leave them out")
    makers = {"judging": _judging, "ranking": _ranking,
              "problems": lambda *given: _problems(*given, stack.enter_context(batch.Pool(timeout=config.timeout)))}
    return Mixture(kinds=[
        dataclasses.replace(makers[name](config, reader, files[name], workdir), weight=weight)
        for name, weight in zip(KINDS, weights, strict=True) if files[name]])


def _judging(config: Config, reader: ModelJudge, path: str, workdir: pathlib.Path) -> Kind:
    examples, broken = runs.read(path, JudgingExample, workdir)
    for example in examples:
        if example.correct is None:
            raise ValueError(f"{path}: example {example.id!r} has no label; RL needs one")
    about = frozenset(example.problem_id for example in examples)
    examples, counts, more = taken(config, examples, workdir)
    prompts, kept = _fitting("judging", path, [reader.prompt(example) for example in examples], config, reader)
    judged = [examples[index] for index in kept]

    def reward(owners: Sequence[int], samples: Sequence[engine.Sample]) -> tuple[list[float], dict[str, float]]:
        verdicts = [reader.read(sample.tokens)[1] for sample in samples]
        given = [rewards.verdict_reward(verdict, judged[owner].correct)
                 for owner, verdict in zip(owners, verdicts, strict=True)]
        return given, {"right": float(np.mean(given)), "unparsed": verdicts.count("unparsed") / len(verdicts)}

    return Kind(name="judging", prompts=prompts, reward=reward, too_long=len(examples) - len(kept),
                broken=broken + more, shuffle=config.curriculum.order == "shuffled", judged=judged, counts=counts,
                problem_ids=about)


def taken(config: Config, examples: Sequence[JudgingExample], workdir: pathlib.Path
          ) -> tuple[list[JudgingExample], dict[str, int], int]:
    """The examples in the order of the curriculum, its counts for the summary, and the number of broken lines.

    Without `config.judgements` they are all of them, and nothing is counted. ValueError for a curriculum without
    judgements, or as curriculum.choose.
    """
    if not config.judgements:
        if config.curriculum != CurriculumConfig():
            raise ValueError("--config.curriculum chooses by pass rates: give --config.judgements, several an example, "
                             "of the judge that is to learn")
        return list(examples), {}, 0
    judgements, broken = runs.read(config.judgements, Judgement, workdir)
    chosen, stats = curriculum.choose(examples, judgements, config.curriculum)
    return chosen, {"given": len(examples), **dataclasses.asdict(stats)}, broken


def _ranking(config: Config, reader: ModelJudge, path: str, workdir: pathlib.Path) -> Kind:
    examples, broken = runs.read(path, RankingExample, workdir, name="ranking")
    prompts, kept = _fitting("ranking", path, [reader.ranking_prompt(example) for example in examples], config, reader)
    asked = [examples[index] for index in kept]

    def reward(owners: Sequence[int], samples: Sequence[engine.Sample]) -> tuple[list[float], dict[str, float]]:
        choices = [reader.read_choice(sample.tokens, len(asked[owner].responses))[1]
                   for owner, sample in zip(owners, samples, strict=True)]
        given = [rewards.ranking_reward(choice, asked[owner].right)
                 for owner, choice in zip(owners, choices, strict=True)]
        return given, {"right": float(np.mean(given)), "unparsed": choices.count(None) / len(choices)}

    return Kind(name="ranking", prompts=prompts, reward=reward, too_long=len(examples) - len(kept), broken=broken,
                problem_ids=frozenset(example.problem_id for example in asked))


def _problems(config: Config, reader: ModelJudge, path: str, workdir: pathlib.Path, pool: batch.Pool) -> Kind:
    problems, broken = runs.read(path, Problem, workdir, name="problems")
    for problem in problems:
        if problem.answer is None:
            raise ValueError(f"{path}: problem {problem.id!r} has no answer; RL needs one to decide by")
    words = reader.tokenizer
    rendered = [chat.render(words, reader.template.solving(problem.question), open_last=True).tokens
                for problem in problems]
    prompts, kept = _fitting("problems", path, rendered, config, reader)
    answers = [problems[index].answer for index in kept]

    def reward(owners: Sequence[int], samples: Sequence[engine.Sample]) -> tuple[list[float], dict[str, float]]:
        texts = [words.decode((sample.tokens[:-1] if sample.finish == "stop" else sample.tokens).tolist())
                 for sample in samples]
        decided = decisions(pool, [(text, answers[owner]) for owner, text in zip(owners, texts, strict=True)])
        given = [float(correct is True) for correct, _ in decided]
        return given, {"right": float(np.mean(given)),
                       "unparsed": float(np.mean([not answered for _, answered in decided])),
                       "undecided": float(np.mean([correct is None for correct, _ in decided]))}

    return Kind(name="problems", prompts=prompts, reward=reward, too_long=len(problems) - len(kept), broken=broken,
                problem_ids=frozenset(problems[index].id for index in kept))


def decisions(pool: batch.Pool, pairs: Sequence[tuple[str, str]]) -> list[tuple[bool | None, bool]]:
    """(correct, whether a final answer was found) of each (text, reference), each decided within the pool's time.

    The first host decides for all: a clock may tell hosts different things, and they must train alike.
    """
    def decide() -> bytes:
        return json.dumps([(each.correct, each.extracted is not None) for each in pool.decide(pairs)]).encode()

    return [tuple(pair) for pair in json.loads(runs.from_first(decide))]


def _fitting(name: str, path: str, prompts: Sequence[Sequence[int]], config: Config, reader: ModelJudge
             ) -> tuple[list[tuple[int, ...]], list[int]]:
    """The prompts of at most prompt_length tokens, as the task of this kind streams them, and their places."""
    features: list[dict[str, Any]] = [
        {"tokens": np.array(prompt, np.int32), "example": np.array([index], np.int32)}
        for index, prompt in enumerate(prompts) if len(prompt) <= config.prompt_length]
    if not features:
        raise ValueError(f"{path}: none of the {len(prompts)} prompts of {name} has at most "
                         f"prompt_length={config.prompt_length} tokens; raise it, or give shorter ones")
    items = list(tasks.read(f"{name}_rl", features, reader.tokenizer.vocab_size))
    return [tuple(item["tokens"].tolist()) for item in items], [int(item["example"][0]) for item in items]
