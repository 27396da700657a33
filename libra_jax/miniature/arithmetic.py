"""The miniature's world: chains of small sums, solutions of them, and judgements of solutions, with human failings.

A problem starts at a number below 100 and adds or subtracts one digit two to four times. A solution writes one step
a line; a judgement goes over the lines in a thought and ends in a verdict. The texts that the miniature learns from
have errors on purpose (`Habits`): solvers slip, and an untrained judge often stamps a line without redoing the sum,
as large models do. What SFT and RL later remove are these habits.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator

from libra_jax.records import Problem

SOURCES = {"two steps": 2, "three steps": 3, "four steps": 4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Habits:
    """Probabilities of the failings in the texts that the miniature learned from.

    Attributes:
      slip: a step of a solution is wrong (the later steps go on from the wrong number).
      stamp: a judge copies a line and says "ok" without redoing the sum.
      miscount: a judge that redoes a sum gets it wrong.
      flip: the verdict contradicts the thought.
      ramble: the verdict is not one of the two words.
      guess: with an empty thought, the verdict is wrong.
    """

    slip: float = 0.12
    stamp: float = 0.4
    miscount: float = 0.02
    flip: float = 0.02
    ramble: float = 0.02
    guess: float = 0.25


def problems(seed: int, count: int, *, start: int = 0) -> Iterator[Problem]:
    """Problems number `start` to `start + count` of the stream `seed`; each is a function of (seed, number) alone."""
    names = list(SOURCES)
    for number in range(start, start + count):
        source = names[number % len(names)]
        rng = random.Random(f"problem {seed} {number}")
        expression, answer = _chain(rng, SOURCES[source])
        yield Problem(
            id=f"mini-{seed}-{number:06d}", source=source, question=f"What is {expression}?", answer=str(answer)
        )


def solution(question: str, rng: random.Random, *, slip: float) -> tuple[str, bool]:
    """A worked solution of `question`, each step wrong with probability `slip`. Returns (text, final answer right)."""
    value, steps = _parse(question)
    truth, lines = value, []
    for sign, digit in steps:
        truth = _step(truth, sign, digit)
        result = _step(value, sign, digit)
        if rng.random() < slip:
            result = _wrong(result, rng)
        lines.append(f"{value}{sign}{digit}={result}")
        value = result
    return "\n".join([*lines, f"A: {value}"]), value == truth


def thought(response: str, rng: random.Random, habits: Habits) -> tuple[str, str]:
    """A judge's thought over a `solution` text, up to the first line it finds wrong. Returns (thought, verdict)."""
    lines, found = [], False
    for line in response.split("\n")[:-1]:
        left, _, said = line.partition("=")
        if rng.random() < habits.stamp:
            lines.append(f"{line} ok")
            continue
        result = _step(int(left[:-2]), left[-2], int(left[-1]))
        if rng.random() < habits.miscount:
            result = _wrong(result, rng)
        found = str(result) != said
        lines.append(f"{left}={result} {'no' if found else 'ok'}")
        if found:
            break
    if rng.random() < habits.ramble:
        return "\n".join(lines), "unsure"
    return "\n".join(lines), "incorrect" if found != (rng.random() < habits.flip) else "correct"


def _chain(rng: random.Random, num_steps: int) -> tuple[str, int]:
    value = rng.randrange(1, 100)
    text = str(value)
    for _ in range(num_steps):
        digit = rng.randrange(1, 10)
        sign = "+" if value < 10 else "-" if value > 89 else rng.choice("+-")
        value = _step(value, sign, digit)
        text += f"{sign}{digit}"
    return text, value


def _parse(question: str) -> tuple[int, list[tuple[str, int]]]:
    text = question.removeprefix("What is ").removesuffix("?")
    return int(re.findall(r"^\d+", text)[0]), [(sign, int(digit)) for sign, digit in re.findall(r"([+-])(\d)", text)]


def _step(value: int, sign: str, digit: int) -> int:
    return value + digit if sign == "+" else value - digit


def _wrong(value: int, rng: random.Random) -> int:
    """A believable wrong result: one or two off, or ten off as by a lost carry."""
    return value + rng.choice((-10, -2, -1, 1, 2, 10))
