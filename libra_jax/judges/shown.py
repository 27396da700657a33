"""Scored responses as a notebook shows them: HTML whose every text is escaped, since models wrote it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libra_jax.judges.scoring import Scored

LONGEST = 10_000  # characters of one text; the whole is in the object
_TEXT = "white-space: pre-wrap; margin: 0.3em 0 0.8em 1.2em; text-align: left"


def page(scored: Scored) -> str:
    """Verdict, score and tokens; the response; and every vote's thought, of which the one that decided is open."""
    shown = "no score" if scored.score is None else f"score {scored.score:.2f}"
    head = f"<b>{html.escape(scored.verdict)}</b>, {shown}, {len(scored.votes)} votes, {scored.num_tokens:,} tokens"
    parts = [_part("question", scored.question), _part("response", scored.response)]
    decided = next((place for place, vote in enumerate(scored.votes) if vote.verdict == scored.verdict), -1)
    for place, vote in enumerate(scored.votes):
        probability = "" if vote.score is None else f", P(correct) {vote.score:.2f}"
        parts.append(_part(f"vote {vote.sample}: {vote.verdict}{probability}, {vote.num_tokens:,} tokens", vote.thought,
                           opened=place == decided))
    return f"<div>{head}{''.join(parts)}</div>"


def line(text: str, longest: int = 40) -> str:
    """The text's beginning, quoted, for a repr."""
    return repr(text) if len(text) <= longest else repr(text[:longest]) + "..."


def _part(title: str, text: str, *, opened: bool = False) -> str:
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"
    return (f"<details{' open' if opened else ''}><summary>{html.escape(title)}</summary>"
            f"<div style=\"{_TEXT}\">{html.escape(text)}</div></details>")
