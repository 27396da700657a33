r"""The formulas within text of models: found, shown as MathML by mathml.py, and all the rest escaped."""

from __future__ import annotations

import html
import re

from libra_jax.bench import mathml

MOST_REFUSED = 100
_OPEN = re.compile(r"\\\$|\$\$|\$|\\\[|\\\(|\\begin\{(?:align|equation|gather)\*?\}")
_CLOSE = {"$$": "$$", "$": "$", r"\[": r"\]", r"\(": r"\)"}
# Two words in a row outside braces: an amount of dollars, and prose up to the next amount.
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}[,.;:]?\s+[A-Za-z]{2,}")
_GROUP = re.compile(r"\{[^{}]*\}")


def render(text: str) -> str:
    r"""Text as escaped HTML with its formulas as MathML: $...$, $$...$$, \(...\), \[...\] and aligned environments.

    A single dollar opens a formula as in pandoc: no space behind it, none before the closing one, no digit behind that,
    no blank line within. Nor does an amount of dollars, in prose or in sums such as "$15000/3=$5000". A formula that is
    not understood stays text, whole, and after MOST_REFUSED of those so does the rest.
    """
    parts, done, refused = [], 0, 0
    for match in _OPEN.finditer(text):
        if refused == MOST_REFUSED:
            break
        if match.start() < done or match[0] == r"\$":
            continue
        found = _formula(text, match)
        if found is None:
            continue
        source, end = found
        display = match[0] not in ("$", r"\(")
        shown = mathml.convert(source, display=display)
        if shown is not None:
            before = text[done:match.start()]
            if display:  # it is a block of its own: the line ends around it would be empty lines
                before, end = before.removesuffix("\n"), end + text.startswith("\n", end)
            parts += [html.escape(before), shown]
            done = end
        refused += shown is None
    return "".join([*parts, html.escape(text[done:])])


def _formula(text: str, match: re.Match) -> tuple[str, int] | None:
    """The source of the formula that `match` opens, and where the text goes on; None if it opens none."""
    opener, start = match[0], match.end()
    closer = _CLOSE.get(opener) or opener.replace("begin", "end")
    end = text.find(closer, start, start + mathml.LONGEST + len(closer))
    if end < 0:
        return None
    source = text[start:end]
    if opener.startswith(r"\begin"):
        return text[match.start():end + len(closer)], end + len(closer)
    if opener == "$":
        after = text[end + 1:end + 2]
        if source[:1].isspace() or source[-1:].isspace() or after.isdigit() or "\n\n" in source:
            return None
        if source[-1:] in "=+-*/" or _PROSE.search(_GROUP.sub("", source)):  # "he pays $20+$5", "$15000/3=$5000"
            return None
    return source, end + len(closer)
