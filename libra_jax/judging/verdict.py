"""Reads a verdict out of the judge's own words after its thought, by an exact grammar.

A verdict is a line that is `verdict_format` with "correct" or "incorrect" in it, or, of several responses, the letter
of one, up to spaces at its ends. A line that starts as a verdict and says something else spoils the judgement, and so
do two lines that contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from libra_jax.judging.prompt import LETTERS, Template
from libra_jax.records import Verdict

W = TypeVar("W", bound=str)
_SIDES: tuple[Verdict, ...] = ("correct", "incorrect")


def parse(after_thought: str, template: Template) -> Verdict:
    """The verdict in `after_thought`; "unparsed" when there is none or when there is more than one kind."""
    return _only(after_thought, template, _SIDES) or "unparsed"


def parse_choice(after_thought: str, template: Template, num_responses: int) -> int | None:
    """The place, from 0, of the response whose letter the verdict in `after_thought` is; None is unparsed.

    A letter that none of the `num_responses` responses has is something else than a verdict.
    """
    letter = _only(after_thought, template, LETTERS[:num_responses])
    return None if letter is None else LETTERS.index(letter)


def _only(after_thought: str, template: Template, words: Sequence[W]) -> W | None:
    """The one of `words` that the verdict says; None when there is no verdict, a spoilt one, or more than one kind."""
    lines = {template.verdict_format.replace("{verdict}", word).strip(): word for word in words}
    head = template.verdict_format.partition("{verdict}")[0].strip()
    found = set()
    for line in map(str.strip, after_thought.split("\n")):
        if line in lines:
            found.add(lines[line])
        elif head and line.startswith(head):
            return None
    return found.pop() if len(found) == 1 else None


def read(text: str, template: Template, *, thinking: bool = True) -> tuple[str, Verdict]:
    """Splits the judge's own continuation into (thought, verdict).

    `text` is what the judge wrote after `Template.judging(..., thinking=thinking)`, without its end token. With
    `thinking` the thought ends at the first think_close; a thought that never ends is "unparsed". Where token ids are
    at hand `split_tokens` is safer, since a thought may quote the text of a think_close.
    """
    if not thinking:
        return "", parse(text, template)
    thought, close, after = text.partition(template.think_close)
    return thought.strip(), parse(after, template) if close else "unparsed"


def split_tokens(tokens: Sequence[int], close_id: int) -> tuple[list[int], list[int] | None]:
    """Splits token ids [T] at the first `close_id`: (thought, what follows), or (all, None) when it never comes."""
    tokens = [int(token) for token in tokens]
    if close_id not in tokens:
        return tokens, None
    at = tokens.index(close_id)
    return tokens[:at], tokens[at + 1 :]
