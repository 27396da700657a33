"""The report of measured judges: report.html, one file that opens offline, and report.json with the same numbers.

Nothing in the page runs: it has no scripts, its plots are inline images, text of models is escaped, and a content
security policy forbids the rest, so a response cannot do anything to who reads it.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import html
import itertools
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from libra_jax import records
from libra_jax.bench import plots, score
from libra_jax.bench.significance import Bootstrap, Estimate
from libra_jax.records import Judgement, JudgingExample

SHOWN = 24  # examples in the page
LONGEST = 12_000  # characters of a text in the page


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table: `rows` of cells, as many as `header` has; numbers are written with three digits after the point."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


def write(path: str | os.PathLike, *, title: str, examples: Sequence[JudgingExample],
          judgements_by_judge: Mapping[str, Sequence[Judgement]],
          curves: Mapping[str, Sequence[tuple[float, float]]] | None = None,
          tables: Sequence[Table | tuple] = (), bootstrap: Bootstrap = Bootstrap()) -> dict:  # noqa: B008 (frozen)
    """Measures every judge and writes the page and its numbers; returns what report.json holds.

    Args:
      path: a folder, which gets report.html and report.json; or a file ending in .html, with the .json beside it.
      title: the page's heading.
      examples: what was judged, with labels.
      judgements_by_judge: judgements of each judge, in the order in which the page lists them.
      curves: points (x, y) by name, such as "sft/loss" over steps; the part before the first "/" groups the plots.
      tables: Table, or tuples (title, header, rows), shown below the comparison of the judges.
      bootstrap: how intervals are made.

    Raises ValueError as score.tabulate does, before anything is written.
    """
    page = pathlib.Path(path)
    page = page if page.suffix == ".html" else page / "report.html"
    tables = [table if isinstance(table, Table) else _table(*table) for table in tables]
    curves = {name: [(float(x), float(y)) for x, y in points] for name, points in (curves or {}).items()}
    evaluations = [score.evaluate(judge, examples, some, bootstrap) for judge, some in judgements_by_judge.items()]
    differences = compare(examples, judgements_by_judge, bootstrap)
    numbers = {
        "title": title,
        "num_examples": len(examples),
        "num_problems": len({example.problem_id for example in examples}),
        "bootstrap": dataclasses.asdict(bootstrap),
        "leaderboard": dataclasses.asdict(leaderboard(evaluations)),
        "judges": [dataclasses.asdict(evaluation) for evaluation in evaluations],
        "differences": [{"first": first, "second": second} | dataclasses.asdict(estimate)
                        for first, second, estimate in differences],
        "curves": curves,
        "tables": [dataclasses.asdict(table) for table in tables],
    }
    body = [f"<h1>{html.escape(title)}</h1>", _summary(numbers, bootstrap)]
    if evaluations:
        body += [_html_table(leaderboard(evaluations)),
                 _figure("Accuracy with intervals", plots.leaderboard(evaluations))]
    body += [_html_table(_differences(differences))] if differences else []
    body += [_html_table(table) for table in tables]
    body += [_figure(f"Training: {group}", image) for group, image in plots.curves(curves).items()]
    body += [_html_table(table) for table in breakdowns(evaluations)]
    body += _examples(examples, judgements_by_judge)
    numbers = _finite(numbers)
    records.write_json(page.with_suffix(".json"), numbers)
    before, after = _PAGE.split("{body}")
    records.write_text(page, before.replace("{title}", html.escape(title)) + "\n".join(body) + after)
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


def breakdowns(evaluations: Sequence[score.Evaluation]) -> list[Table]:
    """Accuracy by source and by policy, one column a judge, and verdicts by label."""
    if not evaluations:
        return []
    made = []
    for kind in ("source", "policy"):
        groups = [getattr(each, f"by_{kind}") for each in evaluations]
        rows = [(name, groups[0][name][0], *(show(group[name][1]) for group in groups)) for name in groups[0]]
        made.append(Table(title=f"Accuracy by {kind}", rows=tuple(rows),
                          header=(kind, "examples", *(each.judge for each in evaluations))))
    rows = [(each.judge, label, *(f"{number:.4g}" for number in verdicts.values()))
            for each in evaluations for label, verdicts in each.confusion.items()]
    made.append(Table(title="Verdicts by label", header=("judge", "label", *score.VERDICTS), rows=tuple(rows),
                      note="Numbers of examples, fractional where several judgements are averaged."))
    return made


def compare(examples: Sequence[JudgingExample], judgements_by_judge: Mapping[str, Sequence[Judgement]],
            bootstrap: Bootstrap) -> list[tuple[str, str, Estimate]]:
    """(first, second, by how much the second's headline is higher) for each pair of judges, paired."""
    return [(first, second, score.difference(examples, judgements_by_judge[first], judgements_by_judge[second],
                                             bootstrap))
            for first, second in itertools.combinations(judgements_by_judge, 2)]


def show(estimate: Estimate) -> str:
    """An estimate in words: "0.812 [0.790, 0.834]", or "-" where it is undefined."""
    if estimate.value is None:
        return "-"
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{interval}"


def to_text(table: Table) -> str:
    """A table for a terminal, columns aligned."""
    cells = [list(map(str, table.header)), *([_cell(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([table.title, *lines])


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> Table:
    return Table(title=title, header=tuple(header), rows=tuple(map(tuple, rows)), note=note)


def _differences(differences: Sequence[tuple[str, str, Estimate]]) -> Table:
    rows = [(second, first, show(estimate), _beyond(estimate)) for first, second, estimate in differences]
    return Table(title="Differences, paired", header=("judge", "minus", "mean of sources", "beyond chance"),
                 rows=tuple(rows), note="Both judges are measured on the same resampled problems. Beyond chance: the "
                                        "interval leaves out 0.")


def _beyond(estimate: Estimate) -> str:
    if estimate.low is None:
        return "-"
    return "higher" if estimate.low > 0 else "lower" if estimate.high < 0 else "no"


def _summary(numbers: dict, bootstrap: Bootstrap) -> str:
    if not numbers["judges"]:
        return ""
    return (f"<p>{numbers['num_examples']:,} examples of {numbers['num_problems']:,} problems. Brackets are "
            f"{bootstrap.level:.0%} intervals: percentiles of {bootstrap.num_resamples:,} resamples of the problems "
            "within each source.</p>")


def _examples(examples: Sequence[JudgingExample], judgements_by_judge: Mapping[str, Sequence[Judgement]]) -> list[str]:
    """Some examples with what each judge said, chosen by their ids' hashes, so that no result sways the choice."""
    if not judgements_by_judge:
        return []
    chosen = sorted(examples, key=lambda example: hashlib.sha256(example.id.encode()).digest())[:SHOWN]
    kept = {example.id for example in chosen}
    said = collections.defaultdict(list)
    for judge, judgements in judgements_by_judge.items():
        for judgement in judgements:
            if judgement.example_id in kept:
                said[judgement.example_id].append((judge, judgement))
    parts = ["<h2>Examples</h2>", f"<p>{len(chosen)} of {len(examples):,}, drawn by chance. Click to open one.</p>"]
    for example in chosen:
        label = "correct" if example.correct else "incorrect"
        verdicts = "".join(f' <span class="{_mark(judgement, label)}" title="{html.escape(judge)}">'
                           f"{html.escape(judgement.verdict)}</span>" for judge, judgement in said[example.id])
        blocks = [("Question", example.question), (f"Response of {example.policy}, which is {label}", example.response)]
        blocks += [(f"{judge}, sample {judgement.sample}: {judgement.verdict} ({judgement.num_tokens} tokens)",
                    judgement.thought or "(no thought)") for judge, judgement in said[example.id]]
        inner = "".join(f"<h4>{html.escape(name)}</h4><pre>{html.escape(_cut(text))}</pre>" for name, text in blocks)
        parts.append(f"<details><summary><code>{html.escape(example.id)}</code> is {label}:{verdicts}</summary>"
                     f"{inner}</details>")
    return parts


def _mark(judgement: Judgement, label: str) -> str:
    return "right" if judgement.verdict == label else "wrong"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n[... {len(text) - LONGEST:,} more characters]"


def _cell(cell: Any) -> str:
    return f"{cell:.3f}" if isinstance(cell, float) else "-" if cell is None else str(cell)


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(_cell(cell))}</td>" for cell in row) + "</tr>"
                   for row in table.rows)
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return (f'<h2>{html.escape(table.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>{note}")


def _figure(name: str, image: str) -> str:
    name = html.escape(name)
    return f'<figure><img alt="{name}" src="{image}"><figcaption>{name}</figcaption></figure>'


def _finite(value: Any) -> Any:
    """The value as JSON has it: numbers that are not finite become null, what JSON does not know its text."""
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
:root { color-scheme: light dark; --line: #8884; --right: #1a7f37; --wrong: #c4432b; }
body { font: 14px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h4 { margin: .8rem 0 .2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.note, figcaption { color: #777; font-size: .87rem; } figure { margin: 1.5rem 0; }
img { max-width: 100%; background: #fff; border-radius: 6px; }
details { border-bottom: 1px solid var(--line); padding: .35rem 0; } summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .6rem; margin: 0; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
</style></head><body>
{body}
</body></html>
"""
