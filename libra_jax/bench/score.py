"""Scores of judges: pure functions over examples with known labels and the judgements on them.

Conventions, which every figure of a report follows:
- An unparsed verdict is wrong, whatever the label, and its share is reported beside the accuracy.
- Several judgements of one example are averaged: an example counts as right in the share of its judgements that are.
- The headline is the paper's (arXiv 2507.21645): accuracy in each source, then the plain mean of the sources.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from libra_jax.bench import agreement, calibration, ordering, significance
from libra_jax.bench.significance import Bootstrap, Estimate, ratio
from libra_jax.records import Judgement, JudgingExample

VERDICTS = ("correct", "incorrect", "unparsed")
METRICS = {
    "mean_of_sources": "accuracy in each source, then their plain mean: the headline",
    "accuracy": "share of judgements whose verdict is the label; unparsed is wrong",
    "balanced_accuracy": "mean of the accuracies on correct and on incorrect responses",
    "f1_incorrect": "F1 of finding the incorrect responses",
    "macro_f1": "mean of the F1 of both classes",
    "auroc": "chance that a correct response scores above an incorrect one; ties half, no score is 0.5",
    "pairwise": "of a right and a wrong response to one problem, how often the right one scores higher; ties half",
    "brier": "mean of (score - label)^2; lower is better, 0.25 is always saying 0.5",
    "ece": "expected calibration error: mean distance of score and share correct, in bins; lower is better",
    "agreement": "chance that two judgements of one example have the same verdict",
    "alpha": "Krippendorff's alpha of repeated judgements: agreement beyond chance",
    "unparsed": "share of judgements without one clear verdict",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Judged examples as arrays of N rows, in the order of the examples.

    Attributes:
      problems, sources, policies: names, N each.
      labels: bool [N].
      counts: float64 [N, 3], how many judgements of an example gave each of VERDICTS.
      shares: float64 [N, 3], the same as shares of its judgements; rows sum to 1.
      scores: float64 [N] or None; None where the judge gives neither scores nor several votes an example.
      tokens: float64 [N], mean tokens of a judgement.
      num_judgements: of all examples together.
    """

    problems: tuple[str, ...]
    sources: tuple[str, ...]
    policies: tuple[str, ...]
    labels: np.ndarray
    counts: np.ndarray
    shares: np.ndarray
    scores: np.ndarray | None
    tokens: np.ndarray
    num_judgements: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A measured judge.

    Attributes:
      judge: its name.
      num_examples, num_problems, num_judgements: counts.
      metrics: METRICS by name, each with its interval.
      by_source, by_policy: accuracy in each group, with its interval and number of examples.
      confusion: label ("correct", "incorrect") -> verdict -> number of examples, fractional where votes are averaged.
      reliability: bins of neighbouring scores for a reliability plot; empty without scores.
      mean_tokens: tokens of a judgement.
    """

    judge: str
    num_examples: int
    num_problems: int
    num_judgements: int
    metrics: dict[str, Estimate]
    by_source: dict[str, tuple[int, Estimate]]
    by_policy: dict[str, tuple[int, Estimate]]
    confusion: dict[str, dict[str, float]]
    reliability: tuple[calibration.Bin, ...]
    mean_tokens: float


def tabulate(examples: Sequence[JudgingExample], judgements: Iterable[Judgement]) -> Table:
    """Joins judgements to their examples. A score is the mean of given ones, else the share of "correct" among parsed.

    Raises ValueError for no examples, an id given twice, an example without label, a judgement of an unknown example,
    the same sample of an example given twice, or an example that nobody judged.
    """
    rows = {example.id: number for number, example in enumerate(examples)}
    if not examples or len(rows) < len(examples):
        raise ValueError(f"{len(examples)} examples with {len(rows)} different ids; expected at least one, each once")
    unlabelled = [example.id for example in examples if example.correct is None]
    if unlabelled:
        raise ValueError(f"{len(unlabelled)} examples have no label, such as {unlabelled[0]!r}; only examples whose "
                         "correctness is known can measure a judge")
    counts, tokens = np.zeros((len(rows), 3)), np.zeros(len(rows))
    score_sums, score_counts, seen = np.zeros(len(rows)), np.zeros(len(rows)), set()
    for judgement in judgements:
        row = rows.get(judgement.example_id)
        if row is None:
            raise ValueError(f"a judgement by {judgement.judge!r} is of example {judgement.example_id!r}, which is not "
                             "among the examples; give the file that was judged")
        key = (row, judgement.sample)
        if key in seen:
            raise ValueError(f"sample {judgement.sample} of example {judgement.example_id!r} is there twice; give each "
                             "judge's judgements once")
        seen.add(key)
        counts[row, VERDICTS.index(judgement.verdict)] += 1
        tokens[row] += judgement.num_tokens
        if judgement.score is not None:
            score_sums[row] += judgement.score
            score_counts[row] += 1
    totals = counts.sum(axis=1)
    if not totals.all():
        missing = [example.id for example, total in zip(examples, totals, strict=True) if not total]
        raise ValueError(f"{len(missing)} of {len(examples)} examples have no judgement, such as {missing[0]!r}; "
                         "let the judge finish, or give only the examples that it judged")
    return Table(
        problems=tuple(example.problem_id for example in examples),
        sources=tuple(example.source for example in examples),
        policies=tuple(example.policy for example in examples),
        labels=np.array([example.correct for example in examples], dtype=bool),
        counts=counts,
        shares=counts / totals[:, None],
        scores=_scores(counts, score_sums, score_counts),
        tokens=tokens / totals,
        num_judgements=int(totals.sum()),
    )


def metrics(table: Table, weights: np.ndarray) -> dict[str, np.ndarray]:
    """METRICS, "source/NAME" and "policy/NAME" under example weights [R, N]; values [R], NaN where undefined."""
    right = rightness(table)
    result = {f"source/{name}": mask for name, mask in _groups(table.sources).items()}
    result |= {f"policy/{name}": mask for name, mask in _groups(table.policies).items()}
    result = {name: ratio(weights @ (right * mask), weights @ mask) for name, mask in result.items()}
    positive, negative = table.labels.astype(float), 1.0 - table.labels
    classes = [ratio(weights @ (right * mask), weights @ mask) for mask in (positive, negative)]
    # F1 = 2 TP / (members of the class + verdicts for the class); an unparsed verdict is for neither.
    f1 = [ratio(2 * (weights @ (right * mask)), weights @ (mask + table.shares[:, column]))
          for column, mask in enumerate((positive, negative))]
    everything = weights.sum(axis=1)
    return {
        "mean_of_sources": mean_of_sources(table, weights),
        "accuracy": ratio(weights @ right, everything),
        "balanced_accuracy": (classes[0] + classes[1]) / 2,
        "f1_incorrect": f1[1],
        "macro_f1": (f1[0] + f1[1]) / 2,
        "auroc": auroc(table.scores, table.labels, weights),
        "pairwise": ordering.pairwise(table.shares[:, 0] + table.shares[:, 2] / 2 if table.scores is None else
                                      table.scores, table.labels, table.problems, table.sources, weights),
        "brier": calibration.brier(table.scores, table.labels, weights),
        "ece": calibration.ece(table.scores, table.labels, weights),
        "agreement": agreement.rate(table.counts, weights),
        "alpha": agreement.alpha(table.counts, weights),
        "unparsed": ratio(weights @ table.shares[:, 2], everything),
    } | result


def mean_of_sources(table: Table, weights: np.ndarray) -> np.ndarray:
    """The headline under example weights [R, N]; a source that a resample leaves out does not enter its mean."""
    right = rightness(table)
    sources = np.stack([ratio(weights @ (right * mask), weights @ mask) for mask in _groups(table.sources).values()])
    defined = ~np.isnan(sources)
    return ratio(np.where(defined, sources, 0).sum(axis=0), defined.sum(axis=0))


def rightness(table: Table) -> np.ndarray:
    """Share of each example's judgements whose verdict is its label, float64 [N]."""
    return np.where(table.labels, table.shares[:, 0], table.shares[:, 1])


def auroc(scores: np.ndarray | None, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve under example weights [R, N]; ties count half. NaN without scores or with one class."""
    if scores is None:
        return np.full(len(weights), np.nan)
    values, place = np.unique(scores, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(values)))
    ordered = weights[:, order]
    is_positive = labels[order]
    positive = np.add.reduceat(ordered * is_positive, starts, axis=1)  # [R, distinct scores]
    negative = np.add.reduceat(ordered * ~is_positive, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    return ratio((positive * (below + negative / 2)).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def evaluate(judge: str, examples: Sequence[JudgingExample], judgements: Iterable[Judgement],
             config: Bootstrap = Bootstrap()) -> Evaluation:  # noqa: B008 (frozen)
    """Measures one judge. ValueError as `tabulate`."""
    table = tabulate(examples, judgements)
    found = significance.estimate(lambda weights: metrics(table, weights), table.problems, table.sources, config)
    labels = {"correct": table.labels, "incorrect": ~table.labels}
    return Evaluation(
        judge=judge,
        num_examples=len(examples),
        num_problems=len(set(table.problems)),
        num_judgements=table.num_judgements,
        metrics={name: found[name] for name in METRICS},
        by_source={name: (int(mask.sum()), found[f"source/{name}"]) for name, mask in _groups(table.sources).items()},
        by_policy={name: (int(mask.sum()), found[f"policy/{name}"]) for name, mask in _groups(table.policies).items()},
        confusion={label: dict(zip(VERDICTS, map(float, table.shares[rows].sum(axis=0)), strict=True))
                   for label, rows in labels.items()},
        reliability=calibration.reliability(table.scores, table.labels, table.problems, table.sources, config),
        mean_tokens=float(table.tokens.mean()),
    )


def difference(examples: Sequence[JudgingExample], first: Iterable[Judgement], second: Iterable[Judgement],
               config: Bootstrap = Bootstrap(), *, metric: str = "mean_of_sources") -> Estimate:  # noqa: B008
    """How much `metric` of the second judge exceeds the first's, paired: both are measured on the same resamples.

    ValueError as `tabulate`, or for a metric that is not in METRICS.
    """
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}: expected one of {', '.join(METRICS)}")
    tables = [tabulate(examples, judgements) for judgements in (first, second)]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        before, after = (metrics(table, weights)[metric] for table in tables)
        return {metric: after - before}

    return significance.estimate(statistic, tables[0].problems, tables[0].sources, config)[metric]


def _scores(counts: np.ndarray, sums: np.ndarray, given: np.ndarray) -> np.ndarray | None:
    """Scores [N]: given ones if there are any, else votes if some example has several; 0.5 where there is neither."""
    if given.any():
        return np.where(given > 0, sums / np.maximum(given, 1), 0.5)
    if counts.sum(axis=1).max() < 2:
        return None
    parsed = counts[:, :2].sum(axis=1)
    return np.where(parsed > 0, counts[:, 0] / np.maximum(parsed, 1), 0.5)


def _groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Each name, sorted, with its 0/1 mask [N]."""
    array = np.array(names, dtype=object)
    return {name: (array == name).astype(float) for name in sorted(set(names))}
