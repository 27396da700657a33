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
from collections.abc import Sequence
from typing import Any

from libra_jax import records
from libra_jax.bench.audit import Item, Opinion

LONGEST = 60_000  # characters of a response in the page
LONGEST_THOUGHT = 4_000


def write(path: str | os.PathLike, *, title: str, items: Sequence[Item], show_reference: bool) -> None:
    """Writes the page of `items`, in their order. Equal items give equal bytes, and others another storage key."""
    data = json.dumps({"title": title, "items": [_shown(item, show_reference) for item in items]}, ensure_ascii=True)
    data = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    key = hashlib.sha256(data.encode()).hexdigest()[:16]
    policy = (f"default-src 'none'; script-src '{_csp_hash(_SCRIPT)}'; style-src '{_csp_hash(_STYLE)}'; "
              "base-uri 'none'; form-action 'none'")
    parts = {"title": html.escape(title), "policy": policy, "style": _STYLE, "script": _SCRIPT, "key": key,
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


_STYLE = """
:root { color-scheme: light dark; --back: #f6f7f9; --paper: #fff; --ink: #1c2128; --soft: #656d76; --line: #d8dee4;
  --right: #1a7f37; --wrong: #b93a22; --unsure: #8a6100; --accent: #2f5d9b; }
@media (prefers-color-scheme: dark) { :root { --back: #15181d; --paper: #1e2228; --ink: #e3e7ec; --soft: #939ba5;
  --line: #353b44; --right: #4fb86a; --wrong: #ee8069; --unsure: #d9ab45; --accent: #7fa9e0; } }
* { box-sizing: border-box; }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; background: var(--back); color: var(--ink);
  font: 15px/1.55 system-ui, sans-serif; }
header, footer { background: var(--paper); padding: .6rem 1.2rem; display: flex; gap: 1rem; align-items: center;
  flex-wrap: wrap; }
header { border-bottom: 1px solid var(--line); } footer { border-top: 1px solid var(--line); }
h1 { font-size: 1rem; margin: 0; } h2 { font-size: .74rem; letter-spacing: .06em; text-transform: uppercase;
  color: var(--soft); margin: 0 0 .4rem; font-weight: 600; }
.fill { flex: 1; } #count { color: var(--soft); font-variant-numeric: tabular-nums; }
progress { width: 12rem; height: .5rem; appearance: none; border: 0; border-radius: 4px; background: var(--line);
  overflow: hidden; } ::-webkit-progress-bar { background: var(--line); }
::-webkit-progress-value { background: var(--accent); } ::-moz-progress-bar { background: var(--accent); }
main { flex: 1; overflow: auto; outline: none; padding: 1.2rem; display: grid; gap: 1rem; align-content: start; max-width: 84rem;
  width: 100%; margin: 0 auto; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1.1rem; }
section + section { margin-top: 1rem; }
@media (max-width: 55rem) { main { grid-template-columns: minmax(0, 1fr); } .column { display: contents; }
  section + section { margin: 0; } #said-box { order: 1; } }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; }
#response { font: 14px/1.6 ui-monospace, monospace; }
button { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line); border-radius: 6px;
  padding: .3rem .7rem; cursor: pointer; } button:hover { border-color: var(--accent); }
kbd { font: 600 .78rem ui-monospace, monospace; border: 1px solid var(--line); border-bottom-width: 2px;
  border-radius: 4px; padding: 0 .35rem; margin-right: .35rem; background: var(--paper); color: var(--soft); }
button.chosen { color: #fff; } .chosen kbd { background: transparent; color: inherit; border-color: #fff8; }
#correct.chosen { background: var(--right); } #incorrect.chosen { background: var(--wrong); }
#unsure.chosen { background: var(--unsure); }
@media (prefers-color-scheme: dark) { button.chosen { color: #15181d; } }
#note { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line); border-radius: 6px;
  padding: .3rem .6rem; flex: 1; min-width: 10rem; }
.hidden { color: var(--soft); } .verdict { font-weight: 600; } .verdict.correct { color: var(--right); }
.verdict.incorrect { color: var(--wrong); } .who { margin: .5rem 0 0; }
.why { color: var(--soft); font-size: .87rem; max-height: 12rem; overflow: auto; }
#trouble { color: var(--wrong); }
"""

_SCRIPT = """
"use strict";
const { title, items } = JSON.parse(document.getElementById("data").textContent);
const storage = "libra-audit-" + document.documentElement.dataset.key;
const byId = (id) => document.getElementById(id);
const VALUES = { correct: true, incorrect: false, unsure: null };
let state = { at: 0, labels: {}, notes: {} };
let peeked = new Set();

function load() {
  try {
    state = Object.assign(state, JSON.parse(localStorage.getItem(storage) || "{}"));
    state.at = Math.min(Math.max(0, state.at | 0), items.length - 1);
  } catch (error) { trouble(); }
}
function save() {
  try { localStorage.setItem(storage, JSON.stringify(state)); } catch (error) { trouble(); }
}
function trouble() {
  byId("trouble").textContent = "This browser keeps nothing: export before you close the page.";
}
function add(parent, tag, text, className) {
  const element = parent.appendChild(document.createElement(tag));
  element.textContent = text;
  element.className = className || "";
  return element;
}
function show() {
  const item = items[state.at], label = state.labels[state.at], done = Object.keys(state.labels).length;
  byId("place").textContent = `${state.at + 1} of ${items.length}`;
  byId("count").textContent = done < items.length ? `${done} labelled, ${items.length - done} left` :
    `all ${done} labelled: export them`;
  byId("progress").max = items.length;
  byId("progress").value = done;
  byId("question").textContent = item.question;
  byId("response").textContent = item.response;
  byId("reference-box").hidden = item.reference === null;
  byId("reference").textContent = item.reference || "";
  for (const name in VALUES) {
    byId(name).classList.toggle("chosen", label === name);
    byId(name).setAttribute("aria-pressed", label === name);
  }
  byId("note").value = state.notes[state.at] || "";
  showSaid(item, label !== undefined || peeked.has(state.at));
}
function showSaid(item, open) {
  const box = byId("said");
  box.replaceChildren();
  if (!open) {
    add(box, "div", "Hidden until you have said what you think; r shows it now.", "hidden");
    return;
  }
  add(box, "div", `${item.kind}. Response ${item.sample} of ${item.policy} to ${item.problem_id} (${item.source}).`,
      "hidden");
  for (const { who, verdict, why } of item.said) {
    const line = add(box, "p", `${who}: `, "who");
    add(line, "span", verdict === "none" ? "no verdict" : verdict, `verdict ${verdict}`);
    if (why) add(box, "pre", why, "why");
  }
}
function move(step) {
  state.at = Math.min(Math.max(0, state.at + step), items.length - 1);
  save();
  show();
  byId("main").scrollTop = 0;
}
function say(name) {
  if (state.labels[state.at] === name) delete state.labels[state.at];
  else state.labels[state.at] = name;
  save();
  show();
}
function reveal() {
  peeked.add(state.at);
  show();
}
function exportLabels() {
  const lines = items.flatMap((item, at) => state.labels[at] === undefined ? [] : [JSON.stringify({
    problem_id: item.problem_id, policy: item.policy, sample: item.sample, correct: VALUES[state.labels[at]],
    note: state.notes[at] || "" }) + "\\n"]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  link.download = "labels.jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const KEYS = {
  c: () => say("correct"), x: () => say("incorrect"), u: () => say("unsure"), r: reveal, e: exportLabels,
  n: () => byId("note").focus(), ArrowLeft: () => move(-1), b: () => move(-1), ArrowRight: () => move(1),
  Enter: () => move(1),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.target === byId("note")) {
    if (event.key === "Escape" || event.key === "Enter") { event.preventDefault(); byId("main").focus(); }
  } else if (Object.hasOwn(KEYS, key) && !(key === "Enter" && event.target.closest("button"))) {
    event.preventDefault();
    KEYS[key]();
  }
});
byId("note").addEventListener("input", (event) => {
  state.notes[state.at] = event.target.value;
  save();
});
for (const name in VALUES) byId(name).addEventListener("click", () => say(name));
byId("back").addEventListener("click", () => move(-1));
byId("next").addEventListener("click", () => move(1));
byId("reveal").addEventListener("click", reveal);
byId("export").addEventListener("click", exportLabels);
document.addEventListener("click", (event) => { if (event.target.closest("button")) byId("main").focus(); });
byId("title").textContent = title;
load();
show();
byId("main").focus();  // so that Page Down and the like scroll it
"""

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
