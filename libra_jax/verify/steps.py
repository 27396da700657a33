r"""Step arithmetic: every "a op b = c" of a text, and GSM8K's calculator marks <<a*b=c>>, checked with fractions.

Exact: 1/3 = 0.33 holds only as a rounding, and is told apart from 1/3 = 0.34. What is not plain arithmetic between two
equals signs (words, variables, functions) is passed over, never guessed. No text is evaluated as code.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from fractions import Fraction

_TOKEN = re.compile(
    r"(?P<number>(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,400})?(?:(?![\w.]*\w)|(?=x\s*[\d$(]))|(?<![\w.])\.\d{1,400}(?!\w))"
    r"|(?P<percent>\\?%)|(?P<op>\*\*|[-+*/^×÷−·]|\\times|\\cdot|\\div|(?<=[\d)\s])x(?=[\d(\s.$]))|(?P<paren>[()])"
    r"|(?P<equals>=)|(?P<line>\n)|(?P<blank>[ \t$]+|\\[$,!; ]|\\[()\[\]])|(?P<other>[^\s\d]|\d+[\w.]*)")
_ANNOTATION = re.compile(r"<<([^<>\n]{1,2000})>>")
_PLAIN = {"×": "*", "·": "*", "x": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/", "−": "-", "**": "^"}
_MAX_TOKENS = 200  # in one expression
_MAX_POWER = 64
_FLOAT_ERROR = Fraction(1, 10**12)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One checked equation. `start` is its place in the text; `right` is what it claims, `left` what it comes to.

    `rounded`: the claim is a decimal, and the true value rounds to it or is cut off to it.
    """

    start: int
    text: str
    left: Fraction
    right: Fraction
    correct: bool
    rounded: bool


def steps(text: str) -> Iterator[Step]:
    """Every equation of plain arithmetic in `text`, by place; of a chain a = b = c, each neighbouring pair."""
    found = [step for mark in _ANNOTATION.finditer(text) for step in _chains(mark[1], mark.start(1))]
    # A mark repeats what stands around it: "2 * 3 = <<2*3=6>>6" is also "2 * 3 = 6", at the same places.
    plain = _ANNOTATION.sub(lambda mark: " " * len(mark[0]), text)
    yield from sorted([*found, *_chains(plain, 0)], key=lambda step: step.start)


def first_wrong(text: str) -> Step | None:
    """The first equation that does not hold, or None. Worked: first_wrong("2+2 = 4\n3*3 = 6").text == "3*3 = 6"."""
    return next((step for step in steps(text) if not step.correct), None)


@dataclasses.dataclass
class _Side:
    tokens: list[tuple[str, str]]
    start: int
    end: int
    clean: bool  # nothing before it that could belong to it


def _chains(text: str, offset: int) -> Iterator[Step]:
    for chain in _runs(text):
        values = [_value(side.tokens) if side.clean else None for side in chain]
        for index in range(len(chain) - 1):
            left, right = values[index], values[index + 1]
            one, other = chain[index], chain[index + 1]
            if left is None or right is None or not (_computes(one.tokens) or _computes(other.tokens)):
                continue
            if left == 100 * right and other.tokens[-1][0] == "percent":
                right = left  # "18 / 450 x 100 = 4%" says the hundred twice, as people do
            rounded = left != right and (_rounds(left, other.tokens) or _rounds(right, one.tokens) or (
                _is_float(one.tokens + other.tokens) and abs(left - right) <= abs(left) * _FLOAT_ERROR))
            yield Step(start=one.start + offset, text=" ".join(text[one.start:other.end].split()), left=left,
                       right=right, correct=left == right or rounded, rounded=rounded)


def _runs(text: str) -> Iterator[list[_Side]]:
    """Stretches of plain arithmetic with equals signs, as their sides."""
    chain: list[_Side] = []
    side: _Side | None = None
    before = "line"  # the kind of token before the stretch
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "blank":
            continue
        if kind in ("other", "line"):
            if side and chain:
                chain.append(side)
            if len(chain) > 1:
                if kind == "other" and _goes_on(text, match.start()):
                    chain[-1].clean = False
                yield chain
            chain, side, before = [], None, _before(text, match) if kind == "other" else "line"
            continue
        if kind == "equals":
            if side is None:
                chain, before = [], "equals"
            else:
                chain.append(side)
                side, before = None, "equals"
            continue
        token = _PLAIN.get(match.group(), match.group())
        if side is None:
            free = before in ("line", "equals", "mark") or (before == "word" and (kind == "number" or token == "("))
            if before == "line" and token in ("-", "*", "+") and text[match.end():match.end() + 1] == " ":
                continue  # a list's bullet
            side = _Side([], match.start(), match.end(), free)
        side.tokens.append((kind, token))
        side.end = match.end()
    if side and chain:
        chain.append(side)
    if len(chain) > 1:
        yield chain


def _before(text: str, match: re.Match) -> str:
    """What a stretch of arithmetic after this other token may be: its own ("mark", "word"), or part of it ("part")."""
    if match.group() in ".,:;!?\"":
        return "mark"
    word = re.search(r"[A-Za-z]*$", text[max(0, match.end() - 20):match.end()])[0].lower()
    adjacent = text[match.end():match.end() + 1] not in (" ", "\t", "$")
    return "part" if adjacent or word in ("of", "by", "than", "times", "over", "plus", "minus", "") else "word"


def _goes_on(text: str, start: int) -> bool:
    """Whether an operator follows soon in the same line, as in "= 5 apples + 2 pears"."""
    return re.match(r"(?:[^\W\d]+\s?){1,4}[-+*/×÷^]", text[start:start + 60]) is not None or text[start] in "\\{^_"


def _computes(tokens: list[tuple[str, str]]) -> bool:
    return any(kind == "op" for kind, _ in tokens[1:])


def _is_float(tokens: list[tuple[str, str]]) -> bool:
    """Whether a number is written as floats are, with their own error: 26.666666666666668."""
    return any(kind == "number" and len(token.partition(".")[2]) > 9 for kind, token in tokens)


def _rounds(value: Fraction, tokens: list[tuple[str, str]]) -> bool:
    """Whether `tokens` is one decimal to which `value` rounds or is cut off; percents count a hundredth."""
    sign = -1 if tokens[0][1] == "-" else 1
    numbers = [token for kind, token in tokens if kind == "number"]
    if len(numbers) != 1 or _computes(tokens) or "." not in numbers[0]:
        return False
    claim = abs(_value(tokens)) * sign
    places = len(numbers[0].partition(".")[2])
    unit = Fraction(1, 10 ** places) / (100 if tokens[-1][0] == "percent" else 1)
    off = abs(value) - abs(claim)
    return value * claim >= 0 and (abs(off) <= unit / 2 or 0 <= off < unit)


def _value(tokens: list[tuple[str, str]]) -> Fraction | None:
    """The exact value of an expression, or None if it is none or too large."""
    if len(tokens) > _MAX_TOKENS:
        return None
    try:
        value, rest = _sum(tokens, 0)
    except (ValueError, ZeroDivisionError, IndexError):
        return None
    return value if rest == len(tokens) else None


def _sum(tokens: list, at: int) -> tuple[Fraction, int]:
    value, at = _product(tokens, at)
    while at < len(tokens) and tokens[at][1] in ("+", "-"):
        term, after = _product(tokens, at + 1)
        value, at = (value + term if tokens[at][1] == "+" else value - term), after
    return value, at


def _product(tokens: list, at: int) -> tuple[Fraction, int]:
    value, at = _signed(tokens, at)
    while at < len(tokens) and (tokens[at][1] in ("*", "/") or tokens[at][1] == "("):
        times = tokens[at][1] != "/"
        factor, after = _signed(tokens, at if tokens[at][1] == "(" else at + 1)
        value, at = (value * factor if times else value / factor), after
    return value, at


def _signed(tokens: list, at: int) -> tuple[Fraction, int]:
    if tokens[at][1] in ("-", "+"):
        value, after = _signed(tokens, at + 1)
        return (-value if tokens[at][1] == "-" else value), after
    value, at = _atom(tokens, at)
    if at < len(tokens) and tokens[at][1] == "^":
        power, at = _signed(tokens, at + 1)
        if power.denominator != 1 or abs(power) > _MAX_POWER or value.numerator.bit_length() > 64:
            raise ValueError(f"power {power}: expected a small integer")
        value = value ** int(power)
    return value, at


def _atom(tokens: list, at: int) -> tuple[Fraction, int]:
    kind, token = tokens[at]
    if token == "(":
        value, at = _sum(tokens, at + 1)
        if tokens[at][1] != ")":
            raise ValueError("an open bracket")
        at += 1
    elif kind == "number":
        value, at = Fraction(token.replace(",", "")), at + 1
    else:
        raise ValueError(f"{token!r}: expected a number")
    if at < len(tokens) and tokens[at][0] == "percent":
        value, at = value / 100, at + 1
    return value, at
