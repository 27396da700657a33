"""The report's browser of examples: question, response with its label, and what each judge thought, side by side.

Every text is escaped; its formulas are shown by formulas.py. Filters and search are page.py's script, which reads the
numbers and words that stand in `data-` attributes here.
"""

from __future__ import annotations

import collections
import hashlib
import html
from collections.abc import Mapping, Sequence

from libra_jax.bench import formulas
from libra_jax.bench.charts import NUM_COLORS
from libra_jax.records import Judgement, JudgingExample

LONGEST = 12_000  # characters of a text in the page
MOST_VOTES = 4  # judgements of one judge on one example that are shown


def choose(examples: Sequence[JudgingExample], shown: int) -> list[JudgingExample]:
    """At most `shown` examples, chosen and ordered by their ids' hashes, so that no result sways the choice."""
    return sorted(examples, key=lambda example: hashlib.sha256(example.id.encode()).digest())[:shown]


def section(examples: Sequence[JudgingExample], judgements_by_judge: Mapping[str, Sequence[Judgement]],
            shown: int) -> str:
    """The filters and at most `shown` examples, closed; opening one shows its texts."""
    chosen = choose(examples, shown)
    kept = {example.id for example in chosen}
    said: dict[str, dict[str, list[Judgement]]] = {example.id: collections.defaultdict(list) for example in chosen}
    for judge, judgements in judgements_by_judge.items():
        for judgement in judgements:
            if judgement.example_id in kept:
                said[judgement.example_id][judge].append(judgement)
    judges, sources = list(judgements_by_judge), sorted({example.source for example in chosen})
    which = (f"All {len(chosen):,} examples" if len(chosen) == len(examples) else
             f"{len(chosen):,} of {len(examples):,} examples, chosen by the hashes of their ids and not by results")
    cards = [_card(example, judges, said[example.id], sources.index(example.source)) for example in chosen]
    return (f'<p class="note">{which}. A verdict is the majority of a judge\'s parsed judgements. '
            f"Open an example to read it.</p>{_filters(judges, sources)}<div id=\"cards\">{''.join(cards)}</div>")


def _filters(judges: Sequence[str], sources: Sequence[str]) -> str:
    choices = {
        "label": ("label", [("", "any"), ("correct", "correct"), ("incorrect", "incorrect")]),
        "judge": ("judge", [("", "any"), *((f"{place}", judge) for place, judge in enumerate(judges))]),
        "verdict": ("verdict", [("", "any"), *((word, word) for word in ("correct", "incorrect", "unparsed", "tied"))]),
        "agreement": ("agreement", [("", "any"), ("right", "verdict is the label"),
                                    ("wrong", "verdict is not the label"), ("split", "judges disagree")]),
        "source": ("source", [("", "any"), *((f"{place}", source) for place, source in enumerate(sources))]),
    }
    fields = "".join(
        f'<label>{title}<select name="{name}">'
        + "".join(f'<option value="{value}">{html.escape(text)}</option>' for value, text in options)
        + "</select></label>" for name, (title, options) in choices.items())
    return (f'<form id="filters" hidden>{fields}<label class="search">search<input name="search" type="search" '
            'placeholder="words of any text" autocomplete="off"></label><output></output>'
            '<button type="reset">clear</button></form>')


def _card(example: JudgingExample, judges: Sequence[str], said: Mapping[str, Sequence[Judgement]], source: int) -> str:
    label = "correct" if example.correct else "incorrect"
    verdicts = {judge: decision(said[judge]) for judge in judges}
    chips = "".join(_chip(place, judge, verdicts[judge], label, said[judge]) for place, judge in enumerate(judges))
    split = int(len(set(verdicts.values())) > 1)
    columns = [_column(f"Response of {example.policy}", f"is {label}", f"label {label}", _text(example.response))]
    for place, judge in enumerate(judges):
        shown = said[judge][:MOST_VOTES]
        parts = [f'<p class="said">{html.escape(_said(judgement))}</p>{_text(judgement.thought or "(no thought)")}'
                 for judgement in shown]
        if len(said[judge]) > len(shown):
            parts.append(f'<p class="note">and {len(said[judge]) - len(shown)} more judgements</p>')
        columns.append(_column(judge, verdicts[judge], "right" if verdicts[judge] == label else "wrong", "".join(parts),
                               f'<i class="swatch c{place % NUM_COLORS}"></i>'))
    return (f'<details class="example" data-label="{label}" data-source="{source}" data-split="{split}"><summary>'
            f'<code>{html.escape(example.id)}</code><span class="chip label {label}">label: {label}</span>{chips}'
            f'</summary><h4>Question <small>{html.escape(example.source)}</small></h4>{_text(example.question)}'
            f'<div class="columns">{columns[0]}<div class="judges">{"".join(columns[1:])}</div></div></details>')


def decision(judgements: Sequence[Judgement]) -> str:
    """What most parsed judgements say: "correct", "incorrect", "tied", or "unparsed" where none is parsed."""
    counts = collections.Counter(judgement.verdict for judgement in judgements)
    correct, incorrect = counts["correct"], counts["incorrect"]
    if not correct and not incorrect:
        return "unparsed"
    return "tied" if correct == incorrect else "correct" if correct > incorrect else "incorrect"


def _chip(place: int, judge: str, verdict: str, label: str, judgements: Sequence[Judgement]) -> str:
    agreeing = sum(each.verdict == verdict for each in judgements)
    votes = f" {agreeing}/{len(judgements)}" if len(judgements) > 1 and agreeing else ""
    right = verdict == label
    return (f'<span class="chip verdict {"right" if right else "wrong"}" data-judge="{place}" data-verdict="{verdict}" '
            f'data-right="{int(right)}" title="{html.escape(judge)}"><i class="swatch c{place % NUM_COLORS}"></i>'
            f'{"✓" if right else "✗"} {verdict}{votes}</span>')


def _said(judgement: Judgement) -> str:
    score = "" if judgement.score is None else f", score {judgement.score:.3f}"
    return f"sample {judgement.sample}: {judgement.verdict}, {judgement.num_tokens:,} tokens{score}"


def _column(title: str, outcome: str, kind: str, body: str, mark: str = "") -> str:
    return (f'<section><h4>{mark}{html.escape(title)} <span class="chip {kind}">{html.escape(outcome)}</span></h4>'
            f"{body}</section>")


def _text(text: str) -> str:
    cut = f'<p class="note">[... {len(text) - LONGEST:,} more characters]</p>' if len(text) > LONGEST else ""
    return f'<div class="text">{formulas.render(text[:LONGEST])}</div>{cut}'
