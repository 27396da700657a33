"""Reads a verdict out of the judge's own words after its thought, by an exact grammar.

A verdict is a line that is `verdict_format` with "correct" or "incorrect" in it, up to spaces at its ends. A line that
starts as a verdict and says something else spoils the judgement, and so do two lines that contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from libra_jax.judging.prompt import Template
from libra_jax.records import Verdict


def parse(after_thought: str, template: Template) -> Verdict:
    """The verdict in `after_thought`; "unparsed" when there is none or when there is more than one kind."""
    lines = {template.verdict_format.replace("{verdict}", word).strip(): word for word in ("correct", "incorrect")}
    head = template.verdict_format.partition("{verdict}")[0].strip()
    found = set()
    for line in map(str.strip, after_thought.split("\n")):
        if line in lines:
            found.add(lines[line])
        elif head and line.startswith(head):
            return "unparsed"
    return found.pop() if len(found) == 1 else "unparsed"


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
