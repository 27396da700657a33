"""Pages of thoughts: what the groups that train a step say, with label, verdict, reward and advantage of each.

A page is one offline file of bounded size: texts are cut in the middle, groups and samples are few. It has the report's
shell (bench/page.py), whose policy lets nothing of a text run; all text is escaped.
"""

from __future__ import annotations

import dataclasses
import html
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from libra_jax import records, runs
from libra_jax.bench import formulas, page
from libra_jax.judges.model import ModelJudge
from libra_jax.learning.config import Config
from libra_jax.learning.groups import Group
from libra_jax.objectives import grpo
from libra_jax.records import JudgingExample

LONGEST = 6_000  # characters of a text in a page: half of them its beginning, half its end
LONGEST_NAME = 200
MOST_SAMPLES = 8  # of a group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """One sample of a group: `thought` (all that it wrote, where the verdict is unparsed) and what it was given."""

    thought: str
    verdict: str
    num_tokens: int
    finish: str
    reward: float
    advantage: float


def write(folder: pathlib.Path, title: str, step: int, cards: Sequence[tuple[JudgingExample, Sequence[Said]]], *,
          before: int | None, after: Sequence[int], num_groups: int) -> pathlib.Path:
    """Writes `folder`/step-000100.html; `before` and `after` are the steps of the pages beside it."""
    beside = [*([] if before is None else [before]), *after]
    links = [f'<a href="{name(other)}">step {other}</a>' for other in beside]
    note = (f"{len(cards)} of the {num_groups} groups that train this step. Samples of a group whose rewards are all "
            "equal train nothing and are not among them. The reward is 1 for a verdict that is the label, plus the "
            "length term; the advantage is what pushes each of the sample's tokens up or down.")
    body = f'<p class="note">{note}</p><p class="note">{" · ".join(links)}</p>' + "".join(
        _card(*card, opened=not place) for place, card in enumerate(cards))
    path = folder / name(step)
    records.write_text(path, page.assemble(title, [("", body)]))
    return path


def name(step: int) -> str:
    """The file of a step's page."""
    return f"step-{step:06d}.html"


def _card(example: JudgingExample, said: Sequence[Said], *, opened: bool) -> str:
    label = "correct" if example.correct else "incorrect"
    chips = "".join(_chip(each, label) for each in said[:MOST_SAMPLES])
    samples = "".join(_sample(number, each, label) for number, each in enumerate(said[:MOST_SAMPLES]))
    if len(said) > MOST_SAMPLES:
        samples += f'<p class="note">and {len(said) - MOST_SAMPLES} more samples</p>'
    return (f'<details class="example"{" open" if opened else ""}><summary><code>{_short(example.id)}</code>'
            f'<span class="chip label {label}">label: {label}</span>{chips}</summary>'
            f"<h4>Question <small>{_short(example.source)}</small></h4>{_text(example.question)}"
            f"<h4>Response <small>{_short(example.policy)}</small></h4>{_text(example.response)}"
            f'<div class="judges">{samples}</div></details>')


def _chip(each: Said, label: str) -> str:
    right = each.verdict == label
    return (f'<span class="chip verdict {"right" if right else "wrong"}">{"✓" if right else "✗"} '
            f"{html.escape(each.verdict)}</span>")


def _sample(number: int, each: Said, label: str) -> str:
    cut = "" if each.finish == "stop" else ", cut off"
    return (f"<section><h4>Sample {number} {_chip(each, label)}</h4>"
            f'<p class="said">reward {each.reward:.3f}, advantage {each.advantage:+.3f}, {each.num_tokens:,} tokens'
            f"{cut}</p>{_text(each.thought or '(no thought)')}</section>")


def _short(name: str) -> str:
    return html.escape(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "...")


def _text(text: str) -> str:
    half = LONGEST // 2
    if len(text) <= LONGEST:
        return f'<div class="text">{formulas.render(text)}</div>'
    return (f'<div class="text">{formulas.render(text[:half])}</div><p class="note">[... {len(text) - 2 * half:,} '
            f'characters ...]</p><div class="text">{formulas.render(text[-half:])}</div>')


def show(config: Config, examples: Sequence[JudgingExample], reader: ModelJudge, workdir: pathlib.Path,
         label: str = "rl") -> Callable[[int, Sequence[Group]], None] | None:
    """Writes a page of the groups that train a step, at the steps of the looks, of the judging ones alone.

    `examples` are those of the first prompts.
    """
    how, total = config.watch, config.train.num_steps
    if not how.thoughts:
        return None
    steps = sorted({1, total, *(range(how.every, total, how.every) if how.every else ())})

    def page_of(step: int, groups: Sequence[Group]) -> None:
        if step in steps and runs.is_first():
            judged = [group for group in groups if group.index < len(examples)]
            cards = [(examples[group.index], said(group)) for group in judged[:how.thoughts]]
            place = steps.index(step)
            write(workdir / "thoughts", f"{label}, step {step} of {total}", step, cards,
                           before=steps[place - 1] if place else None, after=steps[place + 1:place + 2],
                           num_groups=len(judged))

    def said(group: Group) -> list[Said]:
        advantages: Any = np.asarray(grpo.advantages(group.rewards[None], normalise=config.grpo.normalise))[0]
        spoken = []
        for sample, reward, advantage in zip(group.samples, group.rewards, advantages, strict=True):
            thought, verdict = reader.read(sample.tokens)
            if verdict == "unparsed":  # what stands behind the thought may be why
                thought = reader.tokenizer.decode([int(token) for token in sample.tokens])
            spoken.append(Said(thought=thought, verdict=verdict, num_tokens=len(sample.tokens),
                                        finish=sample.finish, reward=float(reward), advantage=float(advantage)))
        return spoken

    return page_of
