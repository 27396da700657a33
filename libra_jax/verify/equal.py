r"""Whether two mathematical answers are equal: an exact path for numbers and equal strings, math-verify for the rest.

Both paths read the canonical writing (canonical.py), and where both decide they agree: `fast_equal` leaves to
math-verify whatever its own rules could see otherwise (decimals count as equal when they round to the same sixth
place). Three things differ from calling math-verify directly: no text reaches sympy's `parse_expr`, which evaluates
Python (the LaTeX grammar hands it numerals, nothing else); a time-out or an error is undecided, where math-verify
answers "different"; what does not parse is undecided too.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from libra_jax.verify import canonical as writing

MAX_ANSWER = 1_000  # characters; longer answers are not mathematics that anyone checks
MAX_NESTING = 30
_INTEGER = re.compile(r"[+-]?\d{1,300}")
_DECIMAL = re.compile(r"[+-]?\d*\.\d+")
_FRACTION = re.compile(r"([+-]?)(\d{0,300})\\frac\{([+-]?\d{1,300})\}\{(\d{1,300})\}")
_CLOCK = re.compile(r"\d{1,2}(?::\d\d)?[ap]m")
_MAX_DIGITS = 15  # a float's; beyond it math-verify may see two different decimals as one
_ROUNDING = Fraction(2, 10**6)  # two numbers further apart cannot round to the same sixth place


def fast_equal(a: str, b: str) -> bool | None:
    """True or False where strings or plain numbers decide exactly; None: not decided here. Symmetric."""
    if len(a) > MAX_ANSWER or len(b) > MAX_ANSWER:
        return None
    a, b = writing.canonical(a), writing.canonical(b)
    if not a or not b:
        return None
    left, right = number(a), number(b)
    if left is not None and right is not None:
        if left == right:
            return True
        if "." in a or "." in b:
            return False if abs(left - right) > _ROUNDING else None
        return False
    if a == b:
        return None if re.search(r"\{0+\}|/0|nan|zoo", a) else True  # 1/0 is not equal to itself
    one, other = writing.word(a), writing.word(b)
    if one and other:
        return False if _differ(one, other) else None
    return None


def _differ(one: str, other: str) -> bool:
    """Whether two texts certainly say different things; "odd" and "odd numbers", "none" and "undefined" may not."""
    if _CLOCK.fullmatch(one) and _CLOCK.fullmatch(other):
        return True
    nothing = {"none", "no solution", "no solutions", "undefined", "not defined", "does not exist", "dne", "empty set"}
    return not ({one, other} <= nothing or {one, other} in ({"yes", "true"}, {"no", "false"})
                or {part[:4] for part in one.split()} & {part[:4] for part in other.split()}
                or sorted(one) == sorted(other))  # letters in another order may be a product


def number(text: str) -> Fraction | None:
    r"""The exact value of a canonical integer, decimal, fraction or mixed number; None for all else.

    Worked: number(r"-1\frac{1}{2}") == Fraction(-3, 2).
    """
    if _INTEGER.fullmatch(text):
        return Fraction(int(text))
    if _DECIMAL.fullmatch(text):
        return Fraction(text) if len(text) <= _MAX_DIGITS else None
    match = _FRACTION.fullmatch(text)
    if not match:
        return None
    sign, whole, top, bottom = match.groups()
    if int(bottom) == 0 or (whole and not top.isdigit()):
        return None
    value = int(whole or 0) + Fraction(int(top), int(bottom))
    return -value if sign == "-" else value


def hostile(answer: str) -> str | None:
    """Why an answer is not given to a parser (too long or too deep), or None if it may be."""
    if len(answer) > MAX_ANSWER:
        return f"{len(answer):,} characters; the limit is {MAX_ANSWER:,}"
    depth = deepest = 0
    for char in answer:
        depth += (char in "{([") - (char in "})]")
        deepest = max(deepest, depth)
    return f"brackets nested {deepest} deep; the limit is {MAX_NESTING}" if deepest > MAX_NESTING else None


def slow_equal(answer: str, reference: str) -> bool | None:
    """math-verify's decision; None where one of them does not parse or the comparison fails.

    May hang or eat memory on hostile input: workers.py runs it in bounded processes. RecursionError and MemoryError
    pass through.
    """
    parse, verify = _math_verify()
    answer, reference = writing.canonical(answer), writing.canonical(reference)
    words = [writing.word(text) for text in (answer, reference)]
    if all(words):
        return True if answer == reference else None
    if any(word and _CLOCK.fullmatch(word) for word in words):
        return None  # "4:30" against "4:30 p.m.": whether the half of the day is understood depends on the question
    gold, target = parse(reference), parse(answer)
    try:
        if not gold or not target:
            return None
        if isinstance(gold[0], str) or isinstance(target[0], str):
            return True if answer == reference else None
        return bool(verify(gold[0], target[0], timeout_seconds=None, raise_on_error=True))
    except (MemoryError, RecursionError):
        raise
    except Exception:  # computer algebra raises anything on strange input; it then knows no answer
        return None


def equal(answer: str, reference: str, *, timeout: float = 5.0) -> bool | None:
    """Whether `answer` equals `reference`; None is undecided. Safe for any text, from any thread.

    What the exact path leaves is decided in a bounded worker process, which starts with the first such call.
    """
    decided = fast_equal(answer, reference)
    if decided is not None or hostile(answer) or hostile(reference):
        return decided
    with _LOCK:
        return _compare(timeout)(answer, reference)


_LOCK = threading.Lock()


@functools.lru_cache(maxsize=1)
def _compare(timeout: float) -> Callable[[str, str], bool | None]:
    from libra_jax.verify import workers  # here, since its processes import this module

    return workers.Comparer(timeout).compare


@functools.lru_cache(maxsize=1)
def _math_verify() -> tuple[Callable[[str], list], Callable[..., Any]]:
    """math-verify's `parse` for one LaTeX answer, and its `verify`; their import takes a second."""
    import logging

    import math_verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time-outs are off; ours are on
    only_latex = (math_verify.LatexExtractionConfig(),)  # its other extraction evaluates text as Python

    def parse(answer: str) -> list:
        try:
            return math_verify.parse(f"${answer}$", only_latex, parsing_timeout=None, raise_on_error=True)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # as above
            return []

    return parse, math_verify.verify
