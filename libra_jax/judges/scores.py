"""A file of scalar scores as a judge: a threshold makes verdicts of a reward model's numbers, a curve probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from libra_jax.records import Judgement, JudgingExample, Score

_LEAST_SLOPE = 1e-3  # of the curve, for one standard deviation of the scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """As protocol.Judge: a response is correct when its score reaches a threshold. An unscored one is "unparsed".

    A scalar has no verdict of its own, so labels must give it one: those of `calibration`, which may be the judged
    examples themselves. Each problem is judged by the threshold of the best balanced accuracy on the calibration
    examples of all other problems. So no label has a say in how its own problem is judged, and `judge` looks at no
    label of what it is given.

    `Judgement.score` is P(correct) by one logistic curve over all calibration examples (Platt). One rising curve keeps
    the order of the scores, so AUROC is the file's own; its two numbers have seen the labels of the calibration
    examples, so on these themselves calibration error looks a little too good, unlike accuracy.

    Attributes:
      name: the name that judgements carry.
      scores: by example id; higher is better, on any scale.
      calibration: examples with labels; those without a score do not count.
    """

    name: str = "scores"
    scores: Mapping[str, float]
    calibration: Sequence[JudgingExample]

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As Judge.judge. ValueError when no example has a score, or calibration examples lack labels or a kind."""
        scored = [example for example in examples if example.id in self.scores]
        if not scored:
            raise ValueError(f"none of the {len(examples)} examples has a score; the ids of the examples and of the "
                             f"scores must be the same, unlike {_some(example.id for example in examples)!r} and "
                             f"{_some(self.scores)!r}")
        problems, given, labels = self._labelled()
        thresholds = _thresholds(dict.fromkeys(each.problem_id for each in scored), problems, given, labels)
        slope, intercept = logistic(given, labels)
        for example in examples[skip:]:
            score = self.scores.get(example.id)
            if score is None:
                yield Judgement(example_id=example.id, judge=self.name, sample=0, thought="no score",
                                verdict="unparsed", num_tokens=0)
                continue
            least = thresholds[example.problem_id]
            yield Judgement(example_id=example.id, judge=self.name, sample=0, num_tokens=0,
                            thought=f"score {score:.6g}, threshold {least:.6g}",
                            verdict="correct" if score >= least else "incorrect",
                            score=float(_sigmoid(np.float64(slope * score + intercept))))

    def _labelled(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Problem ids, scores [N] and labels [N] of the calibration examples that have a score."""
        used = [each for each in self.calibration if each.id in self.scores]
        if unlabelled := [each.id for each in used if each.correct is None]:
            raise ValueError(f"calibration example {unlabelled[0]!r} has no label; give labelled ones, such as other "
                             "problems (--config.calibration)")
        return ([each.problem_id for each in used], np.array([self.scores[each.id] for each in used], float),
                np.array([each.correct for each in used], bool))


def load(given: Iterable[Score], calibration: Sequence[JudgingExample], *, name: str) -> Scores:
    """The judge of these scores. ValueError for an example with two different scores."""
    scores: dict[str, float] = {}
    for each in given:
        if scores.setdefault(each.example_id, each.score) != each.score:
            raise ValueError(f"example {each.example_id!r} has the scores {scores[each.example_id]} and {each.score}; "
                             "expected one")
    return Scores(name=name, scores=scores, calibration=calibration)


def threshold(values: np.ndarray, counts: np.ndarray) -> float:
    """The threshold of best balanced accuracy where a score that reaches it is called correct.

    Args:
      values: scores in rising order, each once [V].
      counts: how many incorrect and correct examples have each score [2, V]; some of both kinds.

    Candidates are the least score there is and the middles between neighbouring ones; of equally good ones the middle
    one is taken.
    """
    there = counts.sum(axis=0) > 0
    values, counts = values[there], counts[:, there]
    middles = values[:-1] / 2 + values[1:] / 2
    candidates = np.concatenate([values[:1], np.where(middles > values[:-1], middles, values[1:])])
    below = (np.cumsum(counts, axis=1) - counts) / counts.sum(axis=1, keepdims=True)  # a share of each kind
    gain = below[0] - below[1]  # twice the balanced accuracy, less one
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return float(candidates[best[(len(best) - 1) // 2]])


def logistic(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(slope, intercept) of P(correct) = 1 / (1 + exp(-(slope * score + intercept))) for scores [N] and labels [N].

    Platt's fit: by maximum likelihood on targets (P + 1) / (P + 2) and 1 / (N + 2) for P correct and N incorrect
    examples (Lin, Lin and Weng 2007, equation 1), by Newton's method with halved steps. The slope is held above 0, so
    scores that fall with correctness are not turned around.
    """
    center, spread = scores.mean(), scores.std() or 1.0
    design = np.stack([(scores - center) / spread, np.ones(len(scores))], axis=1)
    targets = np.where(labels, (labels.sum() + 1) / (labels.sum() + 2), 1 / ((~labels).sum() + 2))

    def loss(weights: np.ndarray) -> float:
        logits = design @ weights
        return float((np.logaddexp(0, logits) - targets * logits).sum())

    weights = np.zeros(2)
    for _ in range(100):
        shares = _sigmoid(design @ weights)
        gradient = design.T @ (shares - targets)
        curvature = (design.T * (shares * (1 - shares))) @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    if weights[0] < _LEAST_SLOPE:
        weights = np.array([_LEAST_SLOPE, np.log(targets.mean() / (1 - targets.mean()))])
    slope = weights[0] / spread
    return float(slope), float(weights[1] - slope * center)


def _thresholds(names: Iterable[str], problems: Sequence[str], scores: np.ndarray, labels: np.ndarray
                ) -> dict[str, float]:
    """For each problem of `names`: the threshold by those scores [N] and labels [N] whose `problems` are others."""
    rows: dict[str, list[int]] = {}
    for row, problem in enumerate(problems):
        rows.setdefault(problem, []).append(row)
    values, place = np.unique(scores, return_inverse=True)
    counts, kinds = np.zeros((2, len(values))), labels.astype(int)
    np.add.at(counts, (kinds, place), 1)
    found = {}
    for name in names:
        own, others = rows.get(name, []), counts.copy()
        np.subtract.at(others, (kinds[own], place[own]), 1)
        incorrect, correct = others.sum(axis=1).astype(int)
        if not incorrect or not correct:
            raise ValueError(f"of the calibration examples of other problems than {name!r}, {correct} are correct and "
                             f"{incorrect} incorrect, so no threshold can be chosen; give examples of both kinds, of "
                             "two problems at least (--config.calibration)")
        found[name] = threshold(values, others)
    return found


def _sigmoid(logits: Any) -> Any:
    """Of an array or a number."""
    return np.exp(-np.logaddexp(0, -logits))


def _some(ids: Iterable[str]) -> str:
    return next(iter(ids), "")
