r"""One way to write an answer: what people write in many ways, math-verify or the exact path then reads in one.

Worked: canonical(r"$\dfrac12$.") == r"\frac{1}{2}"; canonical("$1{,}200$ dollars") == "1200";
canonical(r"4:30 \text{ PM}") == canonical("4:30 p.m.") == r"\text{4:30pm}"; canonical("12 3/5") == r"12\frac{3}{5}".
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"
_SIGNS = str.maketrans({
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ",
    "≥": r"\ge ", "√": r"\sqrt ", "°": r"^{\circ}", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\n": " ", "\t": " ",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"})
_LOOKS = (  # what changes how an answer looks and not what it is
    (re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?|limits)(?![A-Za-z])\.?"), ""),
    (re.compile(r"\\(?:d|t|c)frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:mathrm|textrm|textbf|textit|textnormal|mbox|bf|rm)\s*(?=\{)"), r"\\text"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\{[^{}]*\})\s*(\d)(?!\d)"), r"\1{\2}"),
    (re.compile(r"\{\s*,\s*\}"), ","),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\[,;: ]|\\q?quad(?![A-Za-z])|(?<!\\)~"), " "),
    (re.compile(r"\\\$|\$|€|£|¥"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\text ?\{ ?infinity ?\}|(?<![A-Za-z\\])infinity(?![A-Za-z])"), r"\\infty"),
    (re.compile(r" {2,}"), " "))
_GROUPED = re.compile(r"([+-]?[1-9]\d{0,2})((?:,\d{3})+|(?: \d{3})+)(?![\d,])(?=$|[.%^A-Za-z\\ ])")
_MIXED = re.compile(r"([+-]?\d+) (\d+)/(\d+)")
_MIXED_LATEX = re.compile(r"([+-]?\d+) (\\frac\{\d+\}\{\d+\})")
_SLASH = re.compile(r"([+-]?\d+) ?/ ?(\d+)")
_REPEATING = re.compile(r"([+-]?\d*)\.(\d*)(?:\\overline|\\bar)\s?\{(\d+)\}")
_DEGREES = re.compile(rf"({_NUMBER}) ?(?:\^ ?\{{? ?\\(?:circ|degree) ?\}}?)")
_CLOCK = re.compile(r"(?:\\text ?\{)?(\d{1,2}(?::\d\d)?) ?(?:\\text ?\{)? ?([AaPp])\.? ?[Mm]\.?\}?")
_SCALED = re.compile(rf"({_NUMBER}) ?(hundred|thousand|million|billion|trillion)(?: [a-z]{{2,}})?")
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_COUNTED = re.compile(
    rf"({_NUMBER}|[+-]?\d+/\d+|[+-]?\d*\\frac\{{\d+\}}\{{\d+\}}) ?"
    r"([A-Za-z]{4,}(?: [A-Za-z]{2,}){0,3}|[ckm]?m|kg|ft|lbs?|hrs?|mph|cup|oz)"
    r"(?:\^ ?\{?[23]\}?)?")
_EXPONENT = re.compile(rf"({_NUMBER})[eE]([+-]?\d{{1,2}})")
_UNIT = re.compile(r".*[\d}] ?(?:\\text ?\{ ?([A-Za-z]+(?: [A-Za-z]+)*)\.? ?\}|([A-Za-z]+(?: [A-Za-z]+)*)\.?)"
                   r"(?: ?\^ ?\{?([23])\}?)?", re.DOTALL)
# What can be told in other units of the same kind: the same number of them is not the same, another number may be.
_MEASURES = {
    "length": "mm millimeter,cm centimeter,m meter metre,km kilometer kilometre,inch inches in,ft foot feet,yd yard,"
              "mile mi",
    "time": "second sec s,minute min,hour hr h,day,week,month,year yr",
    "mass": "mg milligram,g gram,kg kilogram,oz ounce,lb pound,ton",
    "volume": "ml milliliter,l liter litre,cup,pint,quart,gallon gal",
    "money": "cent,dollar,euro,penny pennies pence,nickel,dime",
    "share": "percent percentage pct,degree deg,radian rad"}
_SAME = {name: (names.split()[0], kind) for kind, groups in _MEASURES.items() for names in groups.split(",")
         for name in names.split()}
# Words after a number that change its value; only other words ("18 eggs") are a unit that may be left out.
NOT_UNITS = frozenset(
    "and or to plus minus times over half halves third thirds fourth fourths quarter quarters fifth fifths sixth "
    "sixths eighth eighths tenth tenths dozen percent percentage pct pi sqrt sin cos tan cot sec csc log ln exp mod "
    "base alpha beta gamma delta theta lambda sigma omega am pm below negative under squared cubed cents cent "
    "factorial hundred thousand million billion trillion".split())
_WORDS = re.compile(
    r"\\text ?\{ ?\(?([A-Za-z]+(?:[ -][A-Za-z]+)*)\)?\.? ?\}"
    r"|([A-Za-z]{4,}(?: [A-Za-z]+)*|[A-Za-z]{2,}(?: [A-Za-z]+)+|(?i:yes|no|all|dne))")


def canonical(answer: str) -> str:
    """The answer in one way of writing; linear in its length up to constants. Never evaluates anything."""
    answer = _looks(answer)
    if match := _GROUPED.match(answer):
        answer = match[1] + re.sub(r"[, ]", "", match[2]) + answer[match.end():]
    for pattern, write in _FORMS:
        if match := pattern.fullmatch(answer):
            return write(match) or answer
    return answer


def unit(answer: str) -> tuple[str, str] | None:
    r"""The unit that an answer names after its number, and what kind of measure it is ("" for things); None: no unit.

    Worked: unit("5 kilometres") == ("km", "length"); unit(r"6\text{ cm}^2") == ("cm^2", "length^2"); unit("18 eggs")
    == ("egg", ""); unit("2x") is None.
    """
    match = _UNIT.fullmatch(_looks(answer))
    if not match:
        return None
    words, power = (match[1] or match[2]).lower().split(), match[3] or ""
    if words[0] in ("square", "cubic") and len(words) > 1:
        power, words = {"square": "2", "cubic": "3"}[words[0]], words[1:]
    if words[0] in ("sq", "cu") and len(words) > 1:
        power, words = {"sq": "2", "cu": "3"}[words[0]], words[1:]
    name = " ".join(words)
    name, kind = _SAME.get(name) or _SAME.get(name.removesuffix("s")) or (name, "")
    if not kind and ((match[1] is None and len(words[0]) < 4) or NOT_UNITS & set(words)):
        return None
    power = power and f"^{power}"
    return (name if kind else name.removesuffix("s")) + power, (kind and kind + power)


def word(text: str) -> str | None:
    r"""The word or words of a canonical answer that is text alone, lower case: r"\text{Evelyn}" is "evelyn"."""
    return text[6:-1] if text.startswith("\\text{") and text.endswith("}") else None


@functools.lru_cache(maxsize=2048)  # a problem has one reference and many responses
def _looks(answer: str) -> str:
    """The answer without what changes only its looks."""
    answer = _bare(answer.translate(_SIGNS))
    for pattern, replacement in _LOOKS:
        answer = pattern.sub(replacement, answer)
    return answer.strip()


def _bare(answer: str) -> str:
    """Without math delimiters, emphasis, quotes and a sentence's punctuation around it."""
    before = None
    while answer != before:
        before = answer
        answer = answer.strip(" *_\"`")
        if answer.endswith((".", ",", ";", ":")) and not re.search(r"[AaPp]\. ?[Mm]\.$", answer[-6:]):
            answer = answer[:-1]
        for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            inside = answer[len(opening):-len(closing)]
            if answer.startswith(opening) and answer.endswith(closing) and inside and opening not in inside:
                answer = inside
    return answer


def _repeating(match: re.Match) -> str | None:
    whole, start, cycle = match.groups()
    if len(start) + len(cycle) > 12:
        return None
    value = Fraction(int(start + cycle) - int(start or 0), 10 ** len(start) * (10 ** len(cycle) - 1))
    value = value + abs(int(whole)) if whole.strip("+-") else value
    return f"{'-' if whole.startswith('-') else ''}\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _scaled(match: re.Match) -> str | None:
    if len(match[1]) > 15:
        return None
    value = Fraction(match[1]) * _SCALES[match[2]]
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _exponent(match: re.Match) -> str | None:
    if len(match[1]) > 15 or abs(int(match[2])) > 12:
        return None
    value = Fraction(match[1]) * Fraction(10) ** int(match[2])
    return str(value.numerator) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _counted(match: re.Match) -> str | None:
    return None if NOT_UNITS & set(match[2].lower().split()) else match[1]


_FORMS = (
    (_MIXED, lambda match: f"{match[1]}\\frac{{{match[2]}}}{{{match[3]}}}"),
    (_MIXED_LATEX, lambda match: match[1] + match[2]),
    (_SLASH, lambda match: f"\\frac{{{match[1]}}}{{{match[2]}}}"),
    (_REPEATING, _repeating),
    (_DEGREES, lambda match: match[1]),
    (_CLOCK, lambda match: f"\\text{{{match[1].removesuffix(':00').removeprefix('0')}{match[2].lower()}m}}"),
    (_SCALED, _scaled),
    (_EXPONENT, _exponent),
    (_WORDS, lambda match: f"\\text{{{(match[1] or match[2]).lower()}}}"),
    (_COUNTED, _counted))
