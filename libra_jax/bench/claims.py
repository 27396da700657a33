"""Whether claims hold: judges, or the policies they improve, made in several ways from several seeds, set side by side.

Seeds are pooled: their benches are other problems, so the bootstrap resamples problems within each seed, and a mean is
the mean over seeds. That interval says nothing of training anew, which other seeds do; so a claim "held" only where the
interval leaves out 0 on the claimed side and every seed lies on that side too. It "failed" where the interval leaves
out 0 on the other side; else it could not be told.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from libra_jax.bench import correlation, policies, score, significance
from libra_jax.bench.significance import Bootstrap, Estimate
from libra_jax.bench.tables import Table, show, to_text
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout

Verdict = Literal["held", "failed", "could not be told"]
Answers = Mapping[Any, Sequence[VerifiedRollout]]
ONE = Bootstrap(num_resamples=1)  # where no interval is asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """That `second` has more of `metric` than `first`, or with sign -1 less. Its text, and who says so."""

    text: str
    source: str
    first: str
    second: str
    metric: Literal["accuracy", "tokens", "solving"] = "accuracy"
    sign: Literal[1, -1] = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decided:
    """What became of a claim: the difference, pooled and of each seed."""

    text: str
    source: str
    verdict: Verdict
    difference: Estimate
    by_seed: tuple[float | None, ...]
    unit: str = "accuracy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seed:
    """A seed's bench and each judge's judgements on it; where problems are `asked`, also its own answers to them."""

    number: int
    examples: Sequence[JudgingExample]
    judgements: Mapping[str, Sequence[Judgement]]
    asked: Sequence[Problem] = ()
    answers: Answers = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A table or two with the claims that they decide; `points` (x, y) by name for a scatter plot with named axes."""

    title: str
    tables: tuple[Table, ...]
    decided: tuple[Decided, ...]
    points: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    axes: tuple[str, str] = ("", "")

    def numbers(self) -> dict:
        """The part as JSON has it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def decide(difference: Estimate, by_seed: Sequence[float | None], sign: int = 1) -> Verdict:
    """The rule of the module's docstring; "could not be told" too where there is no interval."""
    ends = [difference.low, difference.high]
    if None in ends or None in by_seed:
        return "could not be told"
    low, high = sorted(sign * end for end in ends)
    if low > 0 and all(sign * value > 0 for value in by_seed):
        return "held"
    return "failed" if high < 0 else "could not be told"


def side_by_side(title: str, seeds: Sequence[Seed], said: Sequence[Claim], bootstrap: Bootstrap = Bootstrap()  # noqa: B008
                 ) -> Part:
    """The judges of the seeds on their benches, a row each, and the claims about pairs of them.

    Where the seeds ask problems, the last column is the share that a judge itself answers right.
    """
    pool, rows = pooled(seeds), []
    for name, some in pool.judgements.items():
        found = score.evaluate(name, pool.examples, some, bootstrap)
        values = [score.evaluate(name, seed.examples, seed.judgements[name], ONE).metrics["mean_of_sources"].value
                  for seed in seeds]
        rows.append((name, show(found.metrics["mean_of_sources"]), f"{min(values):.3f} to {max(values):.3f}",
                     f"{found.metrics['unparsed'].value:.3f}", f"{found.mean_tokens:.1f}",
                     *([show(policies.accuracy(pool.asked, pool.answers[name], bootstrap))] if pool.asked else [])))
    decided = []
    for claim in said:
        measure = MEASURES[claim.metric]
        by_seed = [measure(seed, claim, ONE).value for seed in seeds]
        found = measure(pool, claim, bootstrap)
        decided.append(Decided(text=claim.text, source=claim.source, verdict=decide(found, by_seed, claim.sign),
                               difference=found, by_seed=tuple(by_seed), unit=claim.metric))
    header = ("judge", "accuracy", "seeds from, to", "unparsed", "tokens", *(["solves"] if pool.asked else []))
    table = Table(title=title, rows=tuple(rows), header=header, note=_note(seeds))
    return Part(title=title, tables=(table, _claims(title, decided)), decided=tuple(decided))


def transfer(title: str, trained_on: Mapping[str, str], seeds: Sequence[Seed], bootstrap: Bootstrap = Bootstrap()  # noqa: B008
             ) -> Part:
    """Judges that were trained on one policy's responses each (`trained_on`: policy to judge), on each policy's.

    The claim is that a judge is more accurate on the responses of the policy that it was trained on: on each example,
    how right the judge of its policy is, minus the mean of the others, so that harder policies weigh nothing.
    """
    pool = pooled(seeds)
    names = list(trained_on)
    rows = []
    for policy, judge in trained_on.items():
        cells = []
        for tested in names:
            some = [example for example in pool.examples if example.policy == tested]
            ids = {example.id for example in some}
            mine = [each for each in pool.judgements[judge] if each.example_id in ids]
            cells.append(show(score.evaluate(judge, some, mine, bootstrap).metrics["accuracy"]))
        rows.append((policy, *cells))
    found = _own(pool, trained_on, bootstrap)
    by_seed = [_own(seed, trained_on, ONE).value for seed in seeds]
    text = "a judge is more accurate on the policy that it was trained on"
    decided = (Decided(text=text, source="asked by reviewers", verdict=decide(found, by_seed), difference=found,
                       by_seed=tuple(by_seed)),)
    table = Table(title=title, header=("trained on", *(f"accuracy on {name}" for name in names)), rows=tuple(rows),
                  note=_note(seeds) + " The three policies are one model at three temperatures.")
    return Part(title=title, tables=(table, _claims(title, decided)), decided=decided)


def unlabelled(title: str, asked: Sequence[Sequence[Problem]], before: Sequence[Sequence[VerifiedRollout]],
               after: Sequence[Answers], bootstrap: Bootstrap = Bootstrap()) -> Part:  # noqa: B008
    """A policy's accuracy on held-out problems, of each seed: before, and after learning from so many problems.

    `after` gives each seed's answers by the number of problems, smallest first.
    """
    problems, start = _policy_pool(asked, before)
    counts = list(after[0])
    ends = {count: _policy_pool(asked, [each[count] for each in after])[1] for count in counts}
    rows = [("none", show(policies.accuracy(problems, start, bootstrap)), "")]
    rows += [(f"{count:,}", show(policies.accuracy(problems, ends[count], bootstrap)),
              show(policies.difference(problems, start, ends[count], bootstrap))) for count in counts]
    found = policies.difference(problems, ends[counts[0]], ends[counts[-1]], bootstrap)
    by_seed = [policies.difference(mine, each[counts[0]], each[counts[-1]], ONE).value
               for mine, each in zip(asked, after, strict=True)]
    text = f"{counts[-1]:,} problems without answers improve the policy more than {counts[0]:,}"
    decided = (Decided(text=text, source="the paper", verdict=decide(found, by_seed), difference=found,
                       by_seed=tuple(by_seed)),)
    table = Table(title=title, header=("problems without answers", "right answers", "gain, paired"), rows=tuple(rows),
                  note=f"{len(problems):,} held-out problems of {len(asked)} seeds.")
    return Part(title=title, tables=(table, _claims(title, decided)), decided=decided)


def correlated(title: str, seeds: Sequence[Seed], asked: Sequence[Sequence[Problem]],
               before: Sequence[Sequence[VerifiedRollout]], after: Sequence[Answers],
               bootstrap: Bootstrap = Bootstrap()) -> Part:  # noqa: B008
    """Each judge's accuracy on the bench against the gain of the policy that learned from its pairs.

    Means over seeds; the correlation's interval resamples judges. `after` gives each seed's answers by judge.
    """
    pool, points, rows = pooled(seeds), {}, []
    problems, start = _policy_pool(asked, before)
    for name, some in pool.judgements.items():
        accuracy = score.evaluate(name, pool.examples, some, bootstrap).metrics["mean_of_sources"]
        end = _policy_pool(asked, [each[name] for each in after])[1]
        gain = policies.difference(problems, start, end, bootstrap)
        points[name] = (accuracy.value, gain.value)
        rows.append((name, show(accuracy), show(gain)))
    found = correlation.of(*zip(*points.values(), strict=True), bootstrap)
    by_seed = []
    for seed, mine, first, ends in zip(seeds, asked, before, after, strict=True):
        x = [score.evaluate(name, seed.examples, some, ONE).metrics["mean_of_sources"].value
             for name, some in seed.judgements.items()]
        y = [policies.difference(mine, first, ends[name], ONE).value for name in seed.judgements]
        by_seed.append(correlation.of(x, y, ONE)["pearson"].value)
    decided = (Decided(text="accuracy on the bench goes with the policy's gain (Pearson)", source="the paper, 6 judges",
                       verdict=decide(found["pearson"], by_seed), difference=found["pearson"], by_seed=tuple(by_seed),
                       unit="correlation"),)
    table = Table(title=title, header=("judge", "accuracy on the bench", "gain of the policy"), rows=tuple(rows),
                  note=f"{_note(seeds)} Over {len(points)} judges: Pearson {show(found['pearson'])}, Spearman "
                       f"{show(found['spearman'])}; intervals resample judges.")
    return Part(title=title, tables=(table, _claims(title, decided)), decided=decided, points=points,
                axes=("accuracy on the bench", "gain of the policy"))


def decided(parts: Sequence[Part]) -> Table:
    """Every claim of the parts, a row each."""
    every = [each for part in parts for each in part.decided]
    return dataclasses.replace(_claims("Claims", every), note="Held: the 95 % interval of the paired difference "
                               "leaves out 0 on the claimed side, and every seed lies on that side. Failed: it leaves "
                               "out 0 on the other side.")


def text(parts: Sequence[Part]) -> str:
    """All tables for a terminal, the claims last."""
    tables = [part.tables[0] for part in parts] + [decided(parts)]
    return "\n\n".join(to_text(table) for table in tables)


def pooled(seeds: Sequence[Seed]) -> Seed:
    """All seeds as one: ids and sources carry the seed's number, so problems of two seeds are different ones."""
    examples, judgements = [], collections.defaultdict(list)
    for seed in seeds:
        examples += [dataclasses.replace(each, id=f"{seed.number}/{each.id}", source=f"{seed.number}/{each.source}",
                                         problem_id=f"{seed.number}/{each.problem_id}") for each in seed.examples]
        for name, some in seed.judgements.items():
            judgements[name] += [dataclasses.replace(each, example_id=f"{seed.number}/{each.example_id}")
                                 for each in some]
    ends = {name: _policy_pool([seed.asked for seed in seeds], [seed.answers[name] for seed in seeds])
            for name in seeds[0].answers}
    asked = next((problems for problems, _ in ends.values()), [])
    return Seed(number=-1, examples=examples, judgements=dict(judgements), asked=asked,
                answers={name: answers for name, (_, answers) in ends.items()})


def _policy_pool(asked: Sequence[Sequence[Problem]], answers: Sequence[Sequence[VerifiedRollout]]
                 ) -> tuple[list[Problem], list[VerifiedRollout]]:
    """Problems and answers of all seeds; their places stand in their ids, and in the problems' sources."""
    problems = [dataclasses.replace(each, id=f"{place}/{each.id}", source=f"{place}/{each.source}")
                for place, some in enumerate(asked) for each in some]
    return problems, [dataclasses.replace(each, problem_id=f"{place}/{each.problem_id}")
                      for place, some in enumerate(answers) for each in some]


def _accuracy(seed: Seed, claim: Claim, bootstrap: Bootstrap) -> Estimate:
    return score.difference(seed.examples, seed.judgements[claim.first], seed.judgements[claim.second], bootstrap)


def _tokens(seed: Seed, claim: Claim, bootstrap: Bootstrap) -> Estimate:
    """By how many tokens a judgement of the second judge is longer, mean over examples."""
    means = []
    for name in (claim.first, claim.second):
        lengths = collections.defaultdict(list)
        for each in seed.judgements[name]:
            lengths[each.example_id].append(each.num_tokens)
        means.append(np.array([np.mean(lengths[example.id]) for example in seed.examples]))
    return _mean(seed.examples, means[1] - means[0], bootstrap)


def _solving(seed: Seed, claim: Claim, bootstrap: Bootstrap) -> Estimate:
    return policies.difference(seed.asked, seed.answers[claim.first], seed.answers[claim.second], bootstrap)


MEASURES = {"accuracy": _accuracy, "tokens": _tokens, "solving": _solving}


def _own(seed: Seed, trained_on: Mapping[str, str], bootstrap: Bootstrap) -> Estimate:
    right = {policy: score.rightness(score.tabulate(seed.examples, seed.judgements[judge]))
             for policy, judge in trained_on.items()}
    gaps = [right[example.policy][place] - np.mean([right[other][place] for other in right if other != example.policy])
            for place, example in enumerate(seed.examples)]
    return _mean(seed.examples, np.array(gaps), bootstrap)


def _mean(examples: Sequence[JudgingExample], values: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    return significance.estimate(lambda weights: {"mean": weights @ values / weights.sum(axis=1)},
                                 [example.problem_id for example in examples],
                                 [example.source for example in examples], bootstrap)["mean"]


def _claims(title: str, every: Sequence[Decided]) -> Table:
    rows = [(each.text, each.source, each.verdict, f"{show(each.difference)} {each.unit}",
             ", ".join("-" if value is None else f"{value:+.3f}" for value in each.by_seed)) for each in every]
    return Table(title=f"{title}: claims" if title != "Claims" else title, rows=tuple(rows),
                 header=("claim", "who says so", "here it", "difference", "by seed"))


def _note(seeds: Sequence[Seed]) -> str:
    return (f"Seeds {', '.join(str(seed.number) for seed in seeds)}, "
            f"{sum(len(seed.examples) for seed in seeds):,} examples.")
