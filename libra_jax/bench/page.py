"""The shell of the report: one offline page, its style, and the one small script that filters the examples.

A content security policy lets that script run by its hash, and nothing else: no other script, no event handler, no
frame, no form, no address. So a response cannot do anything to who reads it, even if its escaping had a hole.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import pathlib
import re
from collections.abc import Sequence

from libra_jax.bench.tables import Table, cell

_HERE = pathlib.Path(__file__).parent
SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8")
STYLE = (_HERE / "page.css").read_text(encoding="utf-8")


def assemble(title: str, parts: Sequence[tuple[str, str]]) -> str:
    """The whole page of (heading, HTML) sections; a section without heading has none in the navigation."""
    body, links = [f"<h1>{html.escape(title)}</h1>"], []
    for heading, inner in parts:
        if heading:
            name = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") + f"-{len(links)}"
            links.append(f'<a href="#{name}">{html.escape(heading)}</a>')
            body.append(f'<h2 id="{name}">{html.escape(heading)}</h2>')
        body.append(inner)
    body.insert(1, f"<nav>{''.join(links)}</nav>" if links else "")
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (f"default-src 'none'; script-src 'sha256-{allowed}'; img-src data:; style-src 'unsafe-inline'; "
              "base-uri 'none'; form-action 'none'")
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>", *body,
        f"<script>{SCRIPT}</script></body></html>", ""])


def table(given: Table, *, heading: bool = True) -> str:
    """A table, which scrolls sideways where the screen is narrow, with its title and note."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in given.header)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell(value))}</td>" for value in row) + "</tr>"
                   for row in given.rows)
    title = f"<h3>{html.escape(given.title)}</h3>" if heading else ""
    note = f'<p class="note">{html.escape(given.note)}</p>' if given.note else ""
    return (f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}')


def folded(summary: str, inner: str) -> str:
    """What opens on a click."""
    return f'<details class="more"><summary>{html.escape(summary)}</summary>{inner}</details>'


def curves(name: str, image: str) -> str:
    """A plot of plots.py, a data URI, with its name."""
    name = html.escape(name)
    return f'<figure class="curves"><figcaption>{name}</figcaption><img alt="{name}" src="{image}"></figure>'


def framed(path: str | os.PathLike, *, height: int = 480) -> str:
    """A page's file within another page, as of a notebook: a frame `height` pixels high that holds the whole of it.

    The page's script runs (it filters), but as of a stranger: the sandbox keeps it and the page's texts from what
    is around the frame.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8")
    return (f'<div><iframe sandbox="allow-scripts" width="100%" height="{height}" style="border: 1px solid #8a8a8a" '
            f'srcdoc="{html.escape(text)}"></iframe></div>')
