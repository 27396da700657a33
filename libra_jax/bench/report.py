"""The report of measured judges: report.html, one file that opens offline, and report.json with the same numbers.

report.schema.json beside this file describes report.json; its `version` rises when a field changes its meaning or goes.
"""

from __future__ import annotations

import dataclasses
import html
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from libra_jax import records
from libra_jax.bench import browser, charts, page, paired, plots, power, score, significance, slices
from libra_jax.bench.significance import Bootstrap, Estimate
from libra_jax.bench.tables import Table, show, show_p, to_text
from libra_jax.records import Judgement, JudgingExample

VERSION = 1
SHOWN = 200  # examples in the page
_FOLDED = 10  # rows of a table that are shown at once


def write(path: str | os.PathLike, *, title: str, examples: Sequence[JudgingExample],
          judgements_by_judge: Mapping[str, Sequence[Judgement]],
          curves: Mapping[str, Sequence[tuple[float, float]]] | None = None,
          tables: Sequence[Table | tuple] = (), bootstrap: Bootstrap = Bootstrap(),  # noqa: B008 (frozen)
          slicings: Sequence[slices.Slicing] | None = None,
          target: power.Target = power.Target(), shown: int = SHOWN) -> dict:  # noqa: B008 (frozen)
    """Measures every judge and writes the page and its numbers; returns what report.json holds.

    Args:
      path: a folder, which gets report.html and report.json; or a file ending in .html, with the .json beside it.
      title: the page's heading.
      examples: what was judged, with labels.
      judgements_by_judge: judgements of each judge, in the order in which the tables list them.
      curves: points (x, y) by name, such as "sft/loss" over steps; the part before the first "/" groups the plots.
      tables: Table, or tuples (title, header, rows), shown below the comparison of the judges.
      bootstrap: how intervals are made.
      slicings: the parts of the bench that are measured on their own; by default those of slices.divide.
      target: the differences for which the number of problems is told.
      shown: at most so many examples are in the page, chosen by hash; the numbers are always of all.

    Raises ValueError as score.tabulate does, or for `shown` below 0, before anything is written.
    """
    if shown < 0:
        raise ValueError(f"shown={shown}: expected a number of examples, 0 for none")
    file = pathlib.Path(path)
    file = file if file.suffix == ".html" else file / "report.html"
    made = [table if isinstance(table, Table) else _table(*table) for table in tables]
    curves = {name: [(float(x), float(y)) for x, y in points] for name, points in (curves or {}).items()}
    evaluations = [score.evaluate(judge, examples, some, bootstrap) for judge, some in judgements_by_judge.items()]
    if slicings is None:
        slicings = slices.divide(examples) if evaluations else ()
    sliced = [slices.measure(score.tabulate(examples, some), slicings, bootstrap)
              for some in judgements_by_judge.values()]
    comparisons = paired.compare(examples, judgements_by_judge, bootstrap, target=target)
    numbers = _finite({
        "version": VERSION,
        "title": title,
        "num_examples": len(examples),
        "num_problems": len({example.problem_id for example in examples}),
        "bootstrap": dataclasses.asdict(bootstrap),
        "target": dataclasses.asdict(target),
        "leaderboard": dataclasses.asdict(leaderboard(evaluations)),
        "judges": [dataclasses.asdict(evaluation) | {"slices": [dataclasses.asdict(each) for each in parts]}
                   for evaluation, parts in zip(evaluations, sliced, strict=True)],
        "differences": [dataclasses.asdict(each) for each in comparisons],
        "curves": curves,
        "tables": [dataclasses.asdict(table) for table in made],
    })
    parts = [("", _summary(numbers, bootstrap, caution(examples)))]
    if evaluations:
        parts += [("Judges", _judges(evaluations)), *_comparisons(comparisons, bootstrap, target),
                  ("Parts of the bench", _slices(evaluations, sliced)),
                  ("Scores and consistency", _scores(evaluations)),
                  ("Verdicts by label", page.table(confusion(evaluations), heading=False))]
    parts += [(table.title, page.table(table, heading=False)) for table in made]
    images = plots.curves(curves).items()
    if images:
        parts.append(("Training", "".join(page.curves(f"Training: {group}", image) for group, image in images)))
    if evaluations and shown:
        parts.append(("Examples", browser.section(examples, judgements_by_judge, shown)))
    records.write_json(file.with_suffix(".json"), numbers)
    records.write_text(file, page.assemble(title, parts))
    return numbers


def leaderboard(evaluations: Sequence[score.Evaluation]) -> Table:
    """One row a judge, the headline first, intervals in brackets."""
    header = ("judge", "mean of sources", "accuracy", "balanced", "F1 incorrect", "AUROC", "unparsed", "tokens")
    names = ("mean_of_sources", "accuracy", "balanced_accuracy", "f1_incorrect", "auroc", "unparsed")
    rows = [(each.judge, *(show(each.metrics[name]) for name in names), round(each.mean_tokens))
            for each in evaluations]
    return Table(title="Judges", header=header, rows=tuple(rows),
                 note="Unparsed verdicts count as wrong. Several judgements of an example are averaged. F1 incorrect: "
                      "of finding the incorrect responses. Tokens: mean length of a judgement.")


def calibration(evaluations: Sequence[score.Evaluation]) -> Table:
    """What scores and repeated judgements are worth, one row a judge."""
    names = ("auroc", "pairwise", "brier", "ece", "agreement", "alpha")
    rows = [(each.judge, *(show(each.metrics[name]) for name in names)) for each in evaluations]
    return Table(title="Scores and consistency", rows=tuple(rows),
                 header=("judge", "AUROC", "pairwise", "Brier", "ECE", "agreement", "alpha"),
                 note="AUROC: a correct response scores above an incorrect one. Pairwise: the same within a problem, "
                      "by verdicts where there are no scores. Brier and ECE (bins of equal mass): lower is better, for "
                      "scores read as probabilities of correct. Agreement: two judgements of an example have one "
                      "verdict; alpha (Krippendorff): beyond chance. -: no scores, or one judgement an example.")


def confusion(evaluations: Sequence[score.Evaluation]) -> Table:
    """Verdicts by label, two rows a judge."""
    rows = [(each.judge, label, *(f"{number:.4g}" for number in verdicts.values()))
            for each in evaluations for label, verdicts in each.confusion.items()]
    return Table(title="Verdicts by label", header=("judge", "label", *score.VERDICTS), rows=tuple(rows),
                 note="Numbers of examples, fractional where several judgements are averaged.")


def differences(comparisons: Sequence[paired.Comparison], metric: str, bootstrap: Bootstrap) -> Table:
    """Both paired tests of each pair of judges."""
    level, pairs = bootstrap.level, len(comparisons)
    needed = math.ceil(2 * pairs / (1 - level))
    few = f" With {bootstrap.num_resamples:,} resamples no pair of {pairs} can be: give {needed:,} or more."
    rows = [(each.second, each.first, show(_estimate(each)), show_p(each.p), show_p(each.p_holm),
             _beyond(each, level), each.only_second, each.only_first, show_p(each.p_mcnemar),
             show_p(each.p_mcnemar_holm)) for each in comparisons]
    return Table(title="Differences, paired", rows=tuple(rows),
                 header=("judge", "minus", metric.replace("_", " "), "p", "p, Holm", "beyond chance", "only it",
                         "only other", "McNemar", "Holm"),
                 note="Both judges are measured on the same resampled problems; p is of no difference, and Holm "
                      f"corrects it over all pairs ({pairs}). Beyond chance: p, Holm is below {1 - level:.2g}."
                      f"{few if bootstrap.num_resamples < needed else ''} McNemar's exact test counts the examples "
                      "that only one judge gets right (majority of its judgements) as if they were independent; "
                      "responses to one problem are not, so believe the bootstrap.")


def needs(comparisons: Sequence[paired.Comparison], target: power.Target, level: float) -> Table:
    """How many problems it takes to find a difference, for each pair."""
    names = [f"{points:g}" for points in target.points]
    rows = [(each.second, each.first, each.power.smallest, each.power.design_effect,
             *(_needed(each.power, name) for name in names)) for each in comparisons]
    return Table(title="Problems that a difference needs", rows=tuple(rows),
                 header=("judge", "minus", "smallest found here", "design effect",
                         *(f"{name} point{'s' if name != '1' else ''}" for name in names)),
                 note="Problems (examples) needed to find a difference in the mean of sources of so many points with "
                      f"chance {target.power:.0%} at level {1 - level:.2g}, uncorrected, from how much the two judges "
                      "differ on these examples. Design effect: by how much it multiplies the variance that responses "
                      "to one problem are alike. -: a source with one problem, or judges that are right on the same "
                      "examples.")


def caution(examples: Sequence[JudgingExample]) -> str:
    """A sentence where a source has too few problems for intervals and tests to be believed, else nothing."""
    few = significance.thin([example.problem_id for example in examples], [example.source for example in examples])
    if not few:
        return ""
    named = ", ".join(f"{source} has {count}" for source, count in few.items())
    return (f"Few problems: {named}. Below {significance.FEWEST} in a source, intervals are too narrow and p-values "
            "too small.")


def _judges(evaluations: Sequence[score.Evaluation]) -> str:
    chart = charts.leaderboard([each.judge for each in evaluations],
                               [each.metrics["mean_of_sources"] for each in evaluations])
    return ('<p class="note">Accuracy, the mean of the sources; .5 is a coin on balanced examples.</p>' + chart
            + page.table(leaderboard(evaluations), heading=False))


def _comparisons(comparisons: Sequence[paired.Comparison], bootstrap: Bootstrap,
                 target: power.Target) -> list[tuple[str, str]]:
    if not comparisons:
        return []
    chart = charts.differences([f"{each.second} − {each.first}" for each in comparisons],
                               [_estimate(each) for each in comparisons])
    table = page.table(differences(comparisons, "mean_of_sources", bootstrap), heading=False)
    needed = page.table(needs(comparisons, target, bootstrap.level))
    if len(comparisons) > _FOLDED:
        table, needed = page.folded("Tests", table), page.folded("Problems that a difference needs", needed)
    return [("Differences, paired", chart + table + needed)]


def _slices(evaluations: Sequence[score.Evaluation], sliced: Sequence[Sequence[slices.Sliced]]) -> str:
    judges = [each.judge for each in evaluations]
    parts = ['<p class="note">Accuracy in each part, with the number of its examples.</p>', charts.legend(judges)]
    for measured in zip(*sliced, strict=True):
        kind = measured[0].kind
        rows = [(each.name, each.num_examples, *(show(of.slices[place].accuracy) for of in measured))
                for place, each in enumerate(measured[0].slices)]
        if measured[0].gap:
            rows.append((f"{rows[0][0]} − {rows[1][0]}", "", *(show(of.gap) for of in measured)))
        numbers = Table(title=f"By {kind}", header=(kind, "examples", *judges), rows=tuple(rows))
        parts.append(f"<h3>By {kind}</h3>{charts.sliced(judges, measured)}"
                     + page.folded("Numbers", page.table(numbers, heading=False)))
    return "".join(parts)


def _scores(evaluations: Sequence[score.Evaluation]) -> str:
    drawn = [charts.reliability(each.judge, place, each.reliability) for place, each in enumerate(evaluations)
             if each.reliability]
    note = ('<p class="note">Share of correct responses over the mean score of each bin; a calibrated judge lies on '
            "the diagonal. Larger dots hold more examples.</p>")
    return ((note + f'<div class="plots">{"".join(drawn)}</div>' if drawn else "")
            + page.table(calibration(evaluations), heading=False))


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> Table:
    return Table(title=title, header=tuple(header), rows=tuple(map(tuple, rows)), note=note)


def _estimate(comparison: paired.Comparison) -> Estimate:
    return Estimate(value=comparison.value, low=comparison.low, high=comparison.high)


def _beyond(comparison: paired.Comparison, level: float) -> str:
    if comparison.p_holm is None or comparison.value is None:
        return "-"
    return "no" if comparison.p_holm >= 1 - level else "higher" if comparison.value > 0 else "lower"


def _needed(found: power.Power, name: str) -> str:
    return "-" if found.problems[name] is None else f"{found.problems[name]:,} ({found.examples[name]:,})"


def _summary(numbers: dict, bootstrap: Bootstrap, warning: str) -> str:
    if not numbers["judges"]:
        return ""
    return (f"<p>{numbers['num_examples']:,} examples of {numbers['num_problems']:,} problems. Brackets and bars are "
            f"{bootstrap.level:.0%} intervals: percentiles of {bootstrap.num_resamples:,} resamples of the problems "
            "within each source.</p>" + (f"<p><strong>{html.escape(warning)}</strong></p>" if warning else ""))


def _finite(value: Any) -> Any:
    """The value as JSON has it: numbers that are not finite become null, what JSON does not know its text."""
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


__all__ = ["SHOWN", "VERSION", "Table", "calibration", "caution", "confusion", "differences", "leaderboard", "needs",
           "show", "to_text", "write"]
