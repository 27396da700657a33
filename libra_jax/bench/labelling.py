"""The labelling page: one offline HTML file in which a person says of drawn responses whether they are correct.

What rule and judges said, and who wrote the response, stays hidden until the person has said something. All text is
data: it lies in the page as JSON in which no "<" is left, and the script shows it as text alone. A content security
policy allows this script and this style by their hashes and nothing else. Labels are kept in the browser's
localStorage; the export is JSON lines of HumanLabel.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from libra_jax import records
from libra_jax.bench.audit import Item, Opinion

_HERE = pathlib.Path(__file__).parent
SCRIPT = (_HERE / "labelling.js").read_text(encoding="utf-8")
STYLE = (_HERE / "labelling.css").read_text(encoding="utf-8")
LONGEST = 60_000  # characters of a response in the page
LONGEST_THOUGHT = 4_000


def write(path: str | os.PathLike, *, title: str, items: Sequence[Item], show_reference: bool) -> None:
    """Writes the page of `items`, in their order. Equal items give equal bytes, and others another storage key."""
    data = json.dumps({"title": title, "items": [_shown(item, show_reference) for item in items]}, ensure_ascii=True)
    data = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    key = hashlib.sha256(data.encode()).hexdigest()[:16]
    policy = (f"default-src 'none'; script-src '{_csp_hash(SCRIPT)}'; style-src '{_csp_hash(STYLE)}'; "
              "base-uri 'none'; form-action 'none'")
    parts = {"title": html.escape(title), "policy": policy, "style": STYLE, "script": SCRIPT, "key": key,
             "data": data}
    pieces = _PAGE.split("%%")  # text and names of parts in turn; what a part holds is never split again
    page = [parts[piece] if place % 2 else piece for place, piece in enumerate(pieces)]
    records.write_text(path, "".join(page))


def _shown(item: Item, show_reference: bool) -> dict[str, Any]:
    label = "undecided" if item.correct is None else "correct" if item.correct else "incorrect"
    said = [{"who": item.decided_by, "verdict": label, "why": item.why}]
    said += [{"who": each.judge + _votes(each), "verdict": each.verdict, "why": _cut(each.thought, LONGEST_THOUGHT)}
             for each in item.opinions]
    return {
        "problem_id": item.problem_id, "policy": item.policy, "sample": item.sample, "source": item.source,
        "question": _cut(item.question, LONGEST), "response": _cut(item.response, LONGEST),
        "reference": item.reference if show_reference else None, "kind": item.kind, "said": said,
    }


def _votes(opinion: Opinion) -> str:
    """How several votes fell, in brackets; nothing for a single one."""
    names = ("correct", "incorrect", "unparsed")
    some = [f"{count} {name}" for count, name in zip(opinion.votes, names, strict=True) if count]
    return f" ({', '.join(some)})" if sum(opinion.votes) > 1 else ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}\n[... {len(text) - longest:,} more characters]"


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_PAGE = """<!doctype html>
<html lang="en" data-key="%%key%%"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="%%policy%%">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>%%title%%</title><style>%%style%%</style>
</head><body>
<header><h1 id="title"></h1><span id="place"></span><span class="fill" id="trouble"></span>
<span id="count"></span><progress id="progress" aria-label="labelled"></progress>
<button id="export"><kbd>e</kbd>Export</button></header>
<main id="main" tabindex="-1"><div class="column"><section><h2>Question</h2><pre id="question"></pre></section>
<section id="reference-box"><h2>Reference answer</h2><pre id="reference"></pre></section>
<section id="said-box"><h2>What rule and judges said</h2><div id="said"></div></section></div>
<div class="column"><section><h2>Response</h2><pre id="response"></pre></section></div></main>
<footer><button id="correct"><kbd>c</kbd>Correct</button><button id="incorrect"><kbd>x</kbd>Incorrect</button>
<button id="unsure"><kbd>u</kbd>Cannot tell</button>
<input id="note" placeholder="note (n; Enter or Esc to leave)" aria-label="note">
<button id="reveal"><kbd>r</kbd>Reveal</button><button id="back"><kbd>&larr;</kbd>Back</button>
<button id="next"><kbd>&rarr;</kbd>Next</button></footer>
<script type="application/json" id="data">%%data%%</script><script>%%script%%</script></body></html>
"""
