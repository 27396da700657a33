"""Whether two mathematical answers are equal: an exact path for plain numbers and equal strings, then math-verify.

`fast_equal` decides only what it can decide exactly and leaves the rest (None). `slow_equal` may hang or eat memory on
hostile input: batch.py runs it in processes that are bounded and replaced.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_ANSWER = 1_000  # characters; longer answers are not mathematics that anyone checks
MAX_NESTING = 30
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|[+-]?\.\d+")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{([+-]?\d{1,30})\}\{(\d{1,30})\}|([+-]?\d{1,30})/(\d{1,30})")
_UNIT = re.compile(r"(?:\\text|\\mbox|\\mathrm)\{[^{}\\]*\}|\\[!,;: ]|\\%|%|\\\$|\$|\^\{?\\circ\}?|°")


def fast_equal(a: str, b: str) -> bool | None:
    """True or False where both are plain numbers (exact fractions); True for equal strings; None: not decided here."""
    if a.strip() == b.strip():
        return True if a.strip() else None
    left, right = number(a), number(b)
    if left is None or right is None:
        return None
    return left == right


def number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal, fraction or LaTeX fraction, money and unit marks aside; None for others.

    Worked: number("$1,200.50") == Fraction(2401, 2); number("-\\\\frac{3}{6}") == Fraction(-1, 2).
    """
    if len(text) > 100 or "%" in text:
        return None
    text = _UNIT.sub("", text).strip().rstrip(".")
    if _NUMBER.fullmatch(text):
        return Fraction(text.replace(",", "").rstrip("."))
    found = _FRACTION.fullmatch(text)
    if not found:
        return None
    sign, top, bottom = (found[1], found[2], found[3]) if found[3] else ("", found[4], found[5])
    if int(bottom) == 0:
        return None
    return (-1 if sign == "-" else 1) * Fraction(int(top), int(bottom))


def hostile(answer: str) -> str | None:
    """Why an answer is not given to a parser (too long, too deep, a tower of powers), or None if it may be."""
    if len(answer) > MAX_ANSWER:
        return f"{len(answer)} characters; the limit is {MAX_ANSWER}"
    depth = deepest = 0
    for char in answer:
        depth += (char in "{([") - (char in "})]")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        return f"brackets nested {deepest} deep; the limit is {MAX_NESTING}"
    if re.search(r"\^\s*\{?[^{}^]*\^\s*\{?[^{}^]*\^", answer) or "!!" in answer or re.search(r"\d{4,}\s*!", answer):
        return "a tower of powers or a large factorial"
    return None


def slow_equal(a: str, b: str, *, timeout: float) -> bool | None:
    """math-verify's decision, `b` being the reference; None where either does not parse. Main thread only (signals)."""
    from math_verify import parse, verify

    seconds = max(1, int(timeout))
    reference = parse(f"${b}$", parsing_timeout=seconds)
    answer = parse(f"${a}$", parsing_timeout=seconds)
    if not reference or not answer:
        return None
    return bool(verify(reference, answer, timeout_seconds=seconds))


def equal(a: str, b: str, *, timeout: float = 5.0) -> bool | None:
    """Whether answer `a` equals the reference `b`; None is undecided. In this process: for trusted text."""
    fast = fast_equal(a, b)
    if fast is not None:
        return fast
    if hostile(a) or hostile(b):
        return None
    return slow_equal(a, b, timeout=timeout)
