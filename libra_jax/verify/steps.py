r"""Step arithmetic: every "a op b = c" of a text, and GSM8K's calculator marks <<a*b=c>>, checked with fractions.

Exact: 1/3 = 0.33 holds only as a rounding, and is told apart from 1/3 = 0.34. LaTeX's fractions and powers are read,
and units after numbers are read over ("8 sapphires * $800/sapphire = $6400"). What is not plain arithmetic between two
equals signs (variables, functions, other words) is passed over, never guessed. No text is evaluated as code.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from fractions import Fraction

from libra_jax.verify import canonical

_TOKEN = re.compile(
    r"(?P<number>(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,400})?(?:(?![\w.]*\w)|(?=x\s*[\d$(]))|(?<![\w.])\.\d{1,400}(?!\w))"
    r"|(?P<percent>\\?%)|(?P<op>\*\*|[-+*/^×÷−·]|\\times|\\cdot|\\div|(?<=[\d)\s])x(?=[\d(\s.$]))|(?P<paren>[()])"
    r"|(?P<equals>=)|(?P<line>\n)|(?P<blank>[ \t$]+|\\[$,!; ]|\\[()\[\]])|(?P<other>[^\s\d]|\d+[\w.]*)")
_ANNOTATION = re.compile(r"<<([^<>\n]{1,2000})>>")
_PLAIN = {"×": "*", "·": "*", "x": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/", "−": "-", "**": "^",
          "\\%": "%"}
_LATEX = (  # each is written anew in as many characters
    (re.compile(r"\\left\("), lambda match: "(     "),
    (re.compile(r"\\right\)"), lambda match: "      )"),
    (re.compile(r"\\text ?\{ ?([A-Za-z][A-Za-z ]{0,40})\}"), lambda match: match[1].rjust(len(match[0]) - 1) + " "),
    (re.compile(r"\^\{([-+]?\d{1,3})\}"), lambda match: f"^({match[1]})"),
    (re.compile(r"(?<![\d)])(?<![\d)] )\\[dt]?frac\{([^{}\n]{1,200})\}\{([^{}\n]{1,200})\}"),  # not 3\frac{1}{2}
     lambda match: "(" + f"({match[1]})/({match[2]}))".rjust(len(match[0]) - 1)))
_NESTED = 3  # fractions in fractions
_UNIT = re.compile(r"((?:[A-Za-z]{2,20} ){0,2}[A-Za-z]{2,20})?(?:/ ?(?:[A-Za-z]{2,20} ?){1,2})?")
_GOES_ON = re.compile(r"[ \t$]*(?:[-+*/×÷−·=)]|\\times|\\cdot|\\div|x[ \d])")
# Words that make another number of the one before them, or begin another statement.
_NO_UNITS = canonical.NOT_UNITS - {"cent", "cents"} | {"is", "are", "was", "were", "so", "then", "because", "if"}
_OF = re.compile(r"of (?=[$\d(])")
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
    found = [step for mark in _ANNOTATION.finditer(text) for step in _chains(mark[1], mark[1], mark.start(1))]
    # A mark repeats what stands around it: "2 * 3 = <<2*3=6>>6" is also "2 * 3 = 6", at the same places.
    plain = _plain(_ANNOTATION.sub(lambda mark: " " * len(mark[0]), text))
    yield from sorted([*found, *_chains(plain, text, 0)], key=lambda step: step.start)


def first_wrong(text: str) -> Step | None:
    """The first equation that does not hold, or None. Worked: first_wrong("2+2 = 4\n3*3 = 6").text == "3*3 = 6"."""
    return next((step for step in steps(text) if not step.correct), None)


@dataclasses.dataclass
class _Side:
    tokens: list[tuple[str, str]]
    start: int
    end: int
    clean: bool  # nothing before it that could belong to it
    units: list[str]


def _plain(text: str) -> str:
    """The text with its LaTeX in plain signs, every character at its own place."""
    for pattern, write in (*_LATEX, *_LATEX[-1:] * (_NESTED - 1)):
        text = pattern.sub(write, text)
    return text


def _chains(plain: str, text: str, offset: int) -> Iterator[Step]:
    """The equations of `plain`; `text` is the same as it was written, with its marks."""
    for chain in _runs(plain):
        values = [_value(side.tokens) if side.clean else None for side in chain]
        for index in range(len(chain) - 1):
            left, right = values[index], values[index + 1]
            one, other = chain[index], chain[index + 1]
            if left is None or right is None or not (_computes(one.tokens) or _computes(other.tokens)):
                continue
            if (left == 100 * right and other.tokens[-1][0] == "percent") or (
                    left in (100 * right, right / 100) and "100%" == "".join(sign for _, sign in one.tokens[-2:])):
                right = left  # people say the hundred twice, "18 / 450 x 100 = 4%", or once, "0.5 * 100% = 50"
            rounded = left != right and (
                _rounds(left, other.tokens) or _rounds(right, one.tokens)
                or (_is_float(one.tokens + other.tokens) and abs(left - right) <= abs(left) * _FLOAT_ERROR)
                or any(_whole(mark[1], left, right) for mark in _ANNOTATION.finditer(text, one.end, other.end)))
            if left != right and not rounded and _converts(text[max(0, one.start - 1):other.end], one, other):
                continue
            yield Step(start=one.start + offset, text=" ".join(text[one.start:other.end].split()), left=left,
                       right=right, correct=left == right or rounded, rounded=rounded)


def _whole(mark: str, left: Fraction, right: Fraction) -> bool:
    """Whether a whole number was made of what the mark says: "56/6 = <<56/6=9.333333333333334>>9 oranges"."""
    claim = mark.rpartition("=")[2].strip()
    if right.denominator != 1 or not right or not re.fullmatch(r"-?\d{1,20}\.\d{1,30}", claim):
        return False
    off = abs(left) - abs(right)
    return (abs(Fraction(claim) - left) <= abs(left) * _FLOAT_ERROR and left * right > 0
            and (0 <= off < 1 or abs(off) <= Fraction(1, 2)))


def _converts(text: str, one: _Side, other: _Side) -> bool:
    """Whether units change in an equation: "2 feet + 6 inches = 30 inches", "1 tray = 6 * 4 eggs"."""
    amount = [kind if kind == "number" else token for kind, token in one.tokens]
    singular = [{word.removesuffix("s") for word in side.units} for side in (one, other)]
    if amount in (["number"], ["number", "/", "number"]) and len(one.units) == 1 and singular[0] != singular[1]:
        return True
    units = {canonical.unit("1 " + words) for words in one.units + other.units} | (
        {("dollar", "money")} if "$" in text else set())
    measured = [unit for unit in units if unit and unit[1]]
    return len({kind for _, kind in measured}) < len(measured)


def _runs(text: str) -> Iterator[list[_Side]]:
    """Stretches of plain arithmetic with equals signs, as their sides."""
    chain: list[_Side] = []
    side: _Side | None = None
    before = "line"  # the kind of token before the stretch
    place = 0
    while match := _TOKEN.search(text, place):
        kind, place = match.lastgroup, match.end()
        if kind == "blank":
            continue
        token = _PLAIN.get(match.group(), match.group())
        if side and (kind == "other" or token == "/"):
            end = _after_number(text, match.start(), side)
            if end:
                place = end
                continue
        if side is None and match.group() == "x":
            kind = "other"  # a variable
        if kind in ("other", "line"):
            if side and chain:
                chain.append(side)
            if len(chain) > 1:
                if kind == "other" and _belongs(text, match.start()):
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
        if side is None:
            starts = kind == "number" or token == "("
            signs = token == "-" and text[match.end():match.end() + 1] != " "
            free = before in ("line", "equals") or (before == "mark" and (starts or signs)) or (
                before == "word" and starts)
            if before == "line" and token in ("-", "*", "+") and text[match.end():match.end() + 1] == " ":
                before = "word"  # a list's bullet
                continue
            side = _Side([], match.start(), match.end(), free, [])
        side.tokens.append((kind or "", token))
        side.end = match.end()
    if side and chain:
        chain.append(side)
    if len(chain) > 1:
        yield chain


def _after_number(text: str, start: int, side: _Side) -> int:
    """Where reading goes on behind a unit or an "of" that stands at `start`, after a number; 0 if none does."""
    kind, token = side.tokens[-1]
    if kind not in ("number", "percent") and token != ")":
        return 0
    of = _OF.match(text, start)
    if of and (kind == "percent" or token == ")" or (len(side.tokens) > 2 and side.tokens[-2][1] == "/")):
        side.tokens.append(("op", "*"))  # a share of a number
        return of.end()
    match = _UNIT.match(text, start)
    if match is None or not match[0]:
        return 0
    words = (match[1] or "").lower()
    if _NO_UNITS & set(words.split()):
        return 0
    side.units.append(words.partition(" ")[0])
    return match.end() if _GOES_ON.match(text, match.end()) else 0  # 0: the stretch ends here


def _before(text: str, match: re.Match) -> str:
    """What a stretch of arithmetic after this other token may be: its own ("mark", "word"), or part of it ("part")."""
    if match.group() == ":" and text[max(0, match.start() - 3):match.start()].rstrip(" $)")[-1:].isdigit():
        return "part"  # a ratio
    if match.group() in ".,:;!?\"":
        return "mark"
    word = re.findall(r"[A-Za-z]*$", text[max(0, match.end() - 20):match.end()])[0].lower()
    adjacent = text[match.end():match.end() + 1] not in (" ", "\t", "$")
    return "part" if adjacent or word in ("of", "by", "than", "times", "over", "plus", "minus", "") else "word"


def _belongs(text: str, start: int) -> bool:
    """Whether what stands here belongs to the number before it: a variable, a power, a remainder, more sum."""
    return re.match(r"[\\{^_!]|:\s?\d|(?![aAI]\b)[^\W\d]\b|remainder\b|(?:[^\W\d]+\s?){1,4}[-+*/×÷^]",
                    text[start:start + 60]) is not None


def _computes(tokens: list[tuple[str, str]]) -> bool:
    return any(kind == "op" for kind, _ in tokens[1:])


def _is_float(tokens: list[tuple[str, str]]) -> bool:
    """Whether a number is written as floats are, with their own error: 26.666666666666668."""
    return any(kind == "number" and len(token.partition(".")[2]) > 9 for kind, token in tokens)


def _rounds(value: Fraction, tokens: list[tuple[str, str]]) -> bool:
    """Whether `tokens` is one decimal to which `value` rounds or is cut off; percents count a hundredth."""
    sign = -1 if tokens[0][1] == "-" else 1
    numbers = [token for kind, token in tokens if kind == "number"]
    found = _value(tokens)
    if found is None or len(numbers) != 1 or _computes(tokens) or "." not in numbers[0]:
        return False
    claim = abs(found) * sign
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
