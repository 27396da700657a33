"""The data card of curated sets: counts, difficulty, what each rule removed; as JSON values and as Markdown."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from libra_jax.judging import balance
from libra_jax.judging.balance import Row, Tally
from libra_jax.records import JudgingExample

SHARES = ("0", "0 to 0.2", "0.2 to 0.4", "0.4 to 0.6", "0.6 to 0.8", "0.8 to 1", "1")


def counts(rows: Sequence[Row | JudgingExample], table: Sequence[tuple[str, int, int]], tallies: Iterable[Tally]
           ) -> dict[str, Any]:
    """The counts of one curated set, as JSON values.

    "difficulty" has histograms (`histogram`) of problems: `given` are those with a decided response, before any rule,
    `kept` those with an example; over all policies, and by the responses of each policy alone.
    """
    tallies = list(tallies)
    kept = {row.problem_id for row in rows}

    def both(policies: Sequence[str]) -> dict[str, dict[str, int]]:
        share = balance.shares(tallies, policies)
        return {"given": histogram(share.values()),
                "kept": histogram(share[name] for name in kept if name in share)}

    return {
        "problems": len(kept),
        "examples": len(rows),
        "correct": sum(bool(row.correct) for row in rows),
        "by_source": _by(rows, "source"),
        "by_policy": _by(rows, "policy"),
        "difficulty": {"all": both(()),
                       "by_policy": {name: both((name,)) for name in sorted({tally.policy for tally in tallies})}},
        "rules": [{"rule": rule, "removed": removed, "left": left} for rule, removed, left in table],
    }


def histogram(shares: Iterable[float]) -> dict[str, int]:
    """How many shares lie in each fifth; never and always right are counted apart. 0.2 belongs to "0.2 to 0.4"."""
    found = collections.Counter(
        0 if share == 0 else 6 if share == 1 else 1 + sum(share >= edge for edge in (0.2, 0.4, 0.6, 0.8))
        for share in shares)
    return {name: found[place] for place, name in enumerate(SHARES)}


def rules_table(title: str, rules: Sequence[Mapping[str, Any]]) -> str:
    """What each rule removed, as lines of plain text."""
    width = max(len(line["rule"]) for line in rules)
    lines = [title, f"  {'rule':<{width}}  removed     left"]
    return "\n".join(lines + [f"  {line['rule']:<{width}} {line['removed']:8,} {line['left']:8,}" for line in rules])


def markdown(card: Mapping[str, Any]) -> str:
    """The card that `libra curate` writes to card.json, for reading. Names from the data are escaped."""
    lines = ["# Data card", "", "Judging examples made from verified responses; each says whether one response to one "
             "question is correct.", ""]
    lines += _rows(["set", "examples", "correct", "problems", "problems given", "SHA-256"],
                   [[f"{name}.jsonl", card[name]["examples"], card[name]["correct"], card[name]["problems"],
                     card[name]["problems_given"], card["outputs"][f"{name}.jsonl"]] for name in ("train", "bench")])
    lines += ["## Sources and their licences", ""]
    lines += _rows(["source", "licence", *_KINDS],
                   [[name, licence, *_kinds(card, "by_source", name)] for name, licence in card["licences"].items()])
    policies = sorted({*card["train"]["by_policy"], *card["bench"]["by_policy"]})
    lines += ["## Policies", ""]
    lines += _rows(["policy", *_KINDS], [[name, *_kinds(card, "by_policy", name)] for name in policies])
    for name in ("train", "bench"):
        lines += _difficulty(name, card[name]["difficulty"])
    for name in ("train", "bench"):
        lines += [f"## What each rule removed: {name}", ""]
        lines += _rows(["rule", "responses removed", "left"],
                       [[line["rule"], line["removed"], line["left"]] for line in card[name]["rules"]])
    if ranked := card.get("ranking"):
        lines += ["## Ranking questions", "", "Which of several responses is right: exactly one is.", ""]
        lines += _rows(["set", "questions", "problems with too few responses", "right at", "SHA-256"],
                       [[f"ranking_{name}.jsonl", each["questions"], each["problems_without"],
                         ", ".join(f"{letter}: {count}" for letter, count in each["right_at"].items()), each["sha256"]]
                        for name, each in ranked.items()])
    unknown, broken = card["rollouts_of_unknown_problems"], card["broken_lines"]
    lines += [f"Responses to unknown problems: {unknown}. Broken lines set aside: {broken['problems']} of problems, "
              f"{broken['rollouts']} of rollouts.", "", "## Made from", ""]
    lines += _rows(["input", "file", "SHA-256"],
                   [[role, each["file"], each["sha256"]] for role, files in card["inputs"].items() for each in files])
    return "\n".join([*lines, "by the command", "", f"    {_line(card['command'])}", ""])


_KINDS = ("train: correct", "train: incorrect", "bench: correct", "bench: incorrect")


def _kinds(card: Mapping[str, Any], field: str, name: str) -> list[int]:
    return [card[side][field].get(name, {}).get(kind, 0)
            for side in ("train", "bench") for kind in ("correct", "incorrect")]


def _difficulty(name: str, difficulty: Mapping[str, Any]) -> list[str]:
    given = [("all policies", difficulty["all"]), *difficulty["by_policy"].items()]
    return [f"## Difficulty of the problems: {name}", "",
            "Problems by the part of their decided responses that are right: kept / given.", "",
            *_rows(["responses of", *SHARES],
                   [[whose, *(f"{each['kept'][share]} / {each['given'][share]}" for share in SHARES)]
                    for whose, each in given])]


def _by(rows: Sequence[Row | JudgingExample], field: str) -> dict[str, dict[str, int]]:
    found = collections.Counter((getattr(row, field), row.correct) for row in rows)
    names = sorted({name for name, _ in found})
    return {name: {"correct": found[name, True], "incorrect": found[name, False]} for name in names}


def _rows(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else _cell(cell) for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def _cell(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()#!|~<>&$])", r"\\\1", _line(text))


def _line(text: str) -> str:
    """On one line, since a line break in a name would end a table or a block of code."""
    return " ".join(text.split())
