"""What stands beside exported weights: chat template, sampling defaults, the judging prompt, and a model card.

All of it is data. libra.json holds what is known of the model; README.md is made of it, and can be made again when
there are figures of a bench (`libra convert`). Paths of the machine that trained are in neither.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from libra_jax import records
from libra_jax.judging.prompt import Template
from libra_jax.model.hf import NOTE as NOTE
from libra_jax.text import chat_template
from libra_jax.text.tokenizer import Tokenizer

_MOST = 40  # lines of the table of metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a stage knows of the model that it trains.

    Attributes:
      kind: a judge's turn opens with a thought, a policy's does not.
      template: the words that it was trained with.
      data: counts of what it was trained on, by name.
      temperature, top_p, top_k: how it is drawn from; a temperature below 0: as its base.
    """

    kind: Literal["judge", "policy"]
    template: Template
    data: Mapping[str, int]
    temperature: float = -1.0
    top_p: float = 1.0
    top_k: int = 0


def known(folder: pathlib.Path) -> bool:
    """Whether a model card can be made of what the folder's libra.json says."""
    return "kind" in _json(folder / NOTE)


def files(base: pathlib.Path, words: Tokenizer, card: Card, *, stage: str, config: Mapping[str, Any],
          metrics: Mapping[str, float]) -> dict[str, str]:
    """Name -> text of each file beside the weights of a model that `stage` trained from the folder `base`.

    `config` is shown as it is: leave paths out. Tokenizer and generation settings of the base are kept where nothing
    here replaces them.
    """
    thinking, without = (), ()
    if card.kind == "judge":
        thinking, without = (card.template.judging("", "", thinking=thinks)[-1].content for thinks in (True, False))
    template = chat_template.jinja(words, thinking=thinking, without=without)
    about = {"tokenizer_class": "PreTrainedTokenizerFast", **_json(base / "tokenizer_config.json"),
             "chat_template": template}
    before = _json(base / NOTE)
    note = {"version": 1, "kind": card.kind, "stage": stage, "base_model": before.get("base_model") or _named(base),
            "after": [*before.get("after", []), *([before["stage"]] if "stage" in before else [])],
            "prompt": dataclasses.asdict(card.template), "data": dict(card.data), "config": dict(config),
            "metrics": {name: value for name, value in metrics.items() if value == value}}
    return {"tokenizer_config.json": _text(about), "chat_template.jinja": template,
            "generation_config.json": _text(generation(_json(base / "generation_config.json"), words, card)),
            NOTE: _text(note), "README.md": markdown(note)}


def generation(base: Mapping[str, Any], words: Tokenizer, card: Card) -> dict[str, Any]:
    """generation_config.json: the stop tokens that were trained, and the sampling; no limit of length, which vLLM
    would make the server's."""
    values = {**base, "eos_token_id": list(words.stop_ids), "pad_token_id": words.pad_id}
    if card.temperature < 0:
        return values
    for name in ("temperature", "top_p", "top_k", "min_p", "do_sample", "max_new_tokens", "max_length"):
        values.pop(name, None)
    if not card.temperature:
        return {**values, "do_sample": False}
    return {**values, "do_sample": True, "temperature": card.temperature, "top_p": card.top_p, "top_k": card.top_k}


def markdown(note: Mapping[str, Any], *, figures: Sequence[tuple[str, str, str]] = (), licence: str = "",
             base_model: str = "") -> str:
    """The README.md of a model by its libra.json, for the Hub and for people.

    `figures` are rows of (bench, measure, value with interval). A licence is named only where the user gives one; so is
    a base model on the Hub (OWNER/NAME), since a folder's name is none.
    """
    judge = note["kind"] == "judge"
    base = base_model or note["base_model"]
    lines = ["---", *([f"license: {_quoted(licence)}"] if licence else []),
             *([f"base_model: {_quoted(base)}"] if base.count("/") == 1 else []),
             "library_name: transformers", "pipeline_tag: text-generation", "tags:", "- libra",
             *(["- reward-model", "- generative-reward-model"] if judge else ["- reasoning"]), "---", "",
             f"# {_plain(base)} as a {note['kind']}, after {', '.join([*note['after'], note['stage']])}", "",
             _about(judge), "", "## Use", "", *_use(note, judge), "", "## Training", "",
             f"Base: {_plain(base)}. Stage: `libra {note['stage']}`.", "", *_table("trained on", note["data"]),
             *_table("last metric", note["metrics"]), "<details><summary>Settings</summary>", "",
             *_code(json.dumps(note["config"], indent=2)), "", "</details>", ""]
    lines += ["## Measured", ""]
    if figures:
        lines += ["| bench | measure | value |", "|---|---|---|"]
        lines += [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in figures]
    else:
        lines += ["Nothing yet. `libra bench` measures it; `libra convert --config.report=report.json` puts the "
                  "figures here."]
    lines += ["", "## Limits", "", *(f"- {line}" for line in _limits(judge)), ""]
    if not licence:
        lines += ["The licence is not named here: it follows from the base model and the data. Put `license: ...` into "
                  "the first lines of this file.", ""]
    return "\n".join(lines)


def _about(judge: bool) -> str:
    if judge:
        return ("A generative reward model (Libra, arXiv 2507.21645): it is given a question and a response, without a "
                "reference answer, thinks, and ends in a verdict, correct or incorrect.")
    return "A policy that answers questions, made better by the rewards or preferences of a judge (arXiv 2507.21645)."


def _use(note: Mapping[str, Any], judge: bool) -> list[str]:
    asked = note["prompt"]["judge" if judge else "solve"]
    code = ["import json, re", "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
            'folder = "FOLDER OR OWNER/NAME"',
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            'model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", device_map="auto")',
            f"prompt = {asked!r}"]
    slots = '{"{question}": question, "{response}": response}' if judge else '{"{question}": question}'
    code += ['question = "What is 2 + 3?"', *(['response = "2 + 3 = 6. The answer is 6."'] if judge else []),
             f"slots = {slots}  # filled in one pass: braces in a text stay what they are",
             'text = re.sub(r"\\{(question|response)\\}", lambda slot: slots.get(slot[0], slot[0]), prompt)',
             f'messages = [{{"role": "system", "content": {note["prompt"]["system"]!r}}}]' if note["prompt"]["system"]
             else "messages = []",
             'messages.append({"role": "user", "content": text})',
             "inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True,",
             '                                       return_tensors="pt").to(model.device)',
             "output = model.generate(**inputs, max_new_tokens=4096)",
             'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:]))']
    lines = [*_code("\n".join(code), "python"), "",
             "`libra.json` holds the prompt, the chat template renders it token for token as in training, and "
             "`generation_config.json` the stop tokens and the sampling."]
    if judge:
        lines += ["", "With libra_jax, many pairs at once, with votes:", "",
                  "    libra judge --workdir=DIR --config.examples=examples.jsonl --config.checkpoint=FOLDER \\",
                  f"        --config.template=FOLDER/{NOTE}", "",
                  "Served by vLLM:", "", "    vllm serve FOLDER", "",
                  "    libra judge --workdir=DIR --config.examples=examples.jsonl --config.judge=endpoint \\",
                  f"        --config.template=FOLDER/{NOTE} --config.endpoint.url=http://127.0.0.1:8000/v1 \\",
                  "        --config.endpoint.model=FOLDER"]
    return lines


def _limits(judge: bool) -> list[str]:
    if not judge:
        return ["Trained on what a judge or a rule prefers; a policy can learn to please its judge. Measure it on "
                "problems with answers."]
    return ["A verdict is a guess, and a model's own. Average several, and measure on your own data before it decides.",
            "It was trained on the kinds of questions above; elsewhere nothing is known of it.",
            "It judges final answers. A right answer by a wrong way may pass.",
            "In libra_jax a response's text never becomes a control token. In transformers and vLLM it does: text such "
            "as the end-of-turn token in a response ends the turn. Remove such text from what strangers write."]


def _table(head: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    shown = [(name, f"{value:,}" if isinstance(value, int) else f"{value:.4g}") for name, value in values.items()]
    return [f"| {head} | |", "|---|---|", *(f"| {_plain(name)} | {value} |" for name, value in shown[:_MOST]), ""]


def _code(text: str, language: str = "") -> list[str]:
    """A block of code behind a fence that the text does not contain."""
    fence = "```"
    while fence in text:
        fence += "`"
    return [fence + language, text, fence]


def _plain(text: str) -> str:
    line = " ".join(str(text).split())
    return "".join("\\" + letter if letter in "\\`*[]()#!|~<>&$" else letter for letter in line)


def _quoted(text: str) -> str:
    return json.dumps("".join(letter if letter.isprintable() else " " for letter in text), ensure_ascii=False)


def _named(base: pathlib.Path) -> str:
    """OWNER/NAME where the folder lies in the Hub's cache (models--OWNER--NAME/snapshots/...), else its own name."""
    for part in base.parts:
        if part.startswith("models--") and part.count("--") == 2:
            return part.removeprefix("models--").replace("--", "/")
    return base.resolve().name


def _json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def figures(report: pathlib.Path, judge: str) -> list[tuple[str, str, str]]:
    """The rows of `markdown` for one judge of a report.json of `libra bench`. ValueError where it is not in there."""
    found = json.loads(report.read_text(encoding="utf-8"))
    judges = {each["judge"]: each for each in found["judges"]}
    if judge not in judges:
        raise ValueError(f"{report}: no judge {judge!r}; it has {', '.join(judges)}; give one as --config.judge")
    each = judges[judge]
    bench = f"{found['title']}: {each['num_examples']:,} examples, {each['num_judgements']:,} judgements"
    rows: list[tuple[str, str, str]] = []
    for name in ("mean_of_sources", "accuracy", "balanced_accuracy", "f1_incorrect", "auroc", "unparsed"):
        value = each["metrics"].get(name)
        if value and value["value"] is not None:
            rows.append((bench, name.replace("_", " "),
                         f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"))
    return rows


def rewrite(folder: pathlib.Path, report: str, judge: str, *, licence: str = "", base_model: str = "") -> None:
    """Writes README.md in `folder` again, with a report's figures, a licence and a base model on the Hub, if given."""
    note = _json(folder / NOTE)
    if not known(folder):
        raise ValueError(f"{folder}: no {NOTE}, so nothing is known to make a model card of; it comes with exports of "
                         "libra_jax")
    rows = figures(pathlib.Path(report), judge) if report else ()
    records.write_text(folder / "README.md", markdown(note, figures=rows, licence=licence, base_model=base_model))
