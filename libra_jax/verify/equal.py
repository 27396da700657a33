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
_GROUPS = re.compile(r"\d{1,3}(?:,\d{3})+")
_LIST = re.compile(r"\d[ $]*,(?:[ $]+-?\d|\d{1,2}(?!\d)|\d{4})")
_NOTHING = frozenset({"none", "no solution", "no solutions", "undefined", "not defined", "does not exist", "dne",
                      "empty set"})
_MAX_DIGITS = 15  # a float's; beyond it math-verify may see two different decimals as one
_FAR = Fraction(1, 10**9)  # of the larger; math-verify keeps 15 digits
_ROUNDING = Fraction(2, 10**6)  # two numbers further apart cannot round to the same sixth place


def fast_equal(a: str, b: str) -> bool | None:
    """True or False where strings or plain numbers decide exactly; None: not decided here. Symmetric."""
    if len(a) > MAX_ANSWER or len(b) > MAX_ANSWER:
        return None
    return _short_equal(a, b)


@functools.lru_cache(maxsize=2048)  # most responses to a problem give the same few answers
def _short_equal(a: str, b: str) -> bool | None:
    return _by_unit(_fast(*_lists(a, b)), a, b)


def _by_unit(decided: bool | None, a: str, b: str) -> bool | None:
    """What is decided of two answers whose numbers were compared, once their units are looked at.

    A unit on one side alone is understood. Of two different units, equal numbers do not make equal answers, and other
    numbers of the same kind of measure may: both are undecided, since not all of a unit's names are known.
    """
    one, other = writing.unit(a), writing.unit(b)
    if decided is None or not one or not other or one[0] == other[0]:
        return decided
    return None if decided or (one[1] and one[1] == other[1]) else False


def _lists(a: str, b: str) -> tuple[str, str]:
    """Both answers, "120,240" written as a list ("120, 240") where the other is one; else its comma groups digits."""
    if _GROUPS.fullmatch(a.strip(" $")) and _LIST.search(b):
        return a.replace(",", ", "), b
    if _GROUPS.fullmatch(b.strip(" $")) and _LIST.search(a):
        return a, b.replace(",", ", ")
    return a, b


def _fast(a: str, b: str) -> bool | None:
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
    if _far(a, b):
        return False
    if a == b:
        return None if re.search(r"\{0+\}|/0|nan|zoo", a) else True  # 1/0 is not equal to itself
    one, other = writing.word(a), writing.word(b)
    if one and other:
        return False if _differ(one, other) else None
    return None


def _far(a: str, b: str) -> bool:
    """Whether two numbers, of any number of digits, are so far apart that no rounding makes them one."""
    left, right = (Fraction(text) if _DECIMAL.fullmatch(text) else number(text) for text in (a, b))
    return (left is not None and right is not None
            and abs(left - right) > max(_ROUNDING, _FAR * max(abs(left), abs(right))))


def _differ(one: str, other: str) -> bool:
    """Whether two texts certainly say different things; "odd" and "odd numbers", "none" and "undefined" may not."""
    if _CLOCK.fullmatch(one) and _CLOCK.fullmatch(other):
        return True
    return not ({one, other} <= _NOTHING or {one, other} in ({"yes", "true"}, {"no", "false"})
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
    return _by_unit(_slow(*_lists(answer, reference)), answer, reference)


@functools.lru_cache(maxsize=2048)  # as above; what raises or is interrupted is not kept
def _slow(answer: str, reference: str) -> bool | None:
    parse, verify = _math_verify()
    answer, reference = writing.canonical(answer), writing.canonical(reference)
    words = [writing.word(text) for text in (answer, reference)]
    if all(words):
        return True if answer == reference else None
    if any(word and _CLOCK.fullmatch(word) for word in words):
        return None  # "4:30" against "4:30 p.m.": whether the half of the day is understood depends on the question
    if any(word and (" " in word or word in _NOTHING) for word in words):  # prose against mathematics
        return False if number(answer) is not None or number(reference) is not None else None
    gold, target = parse(reference), parse(answer)
    try:
        if not gold or not target:
            return None
        if isinstance(gold[0], str) or isinstance(target[0], str):
            return True if answer == reference else None
        # Which of the two is the reference matters to math-verify ("(-1,2)" and "-1<x<2"), and should not.
        return any(verify(*pair, timeout_seconds=None, raise_on_error=True)
                   for pair in ((gold[0], target[0]), (target[0], gold[0])))
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
    no_alarm: Any = None  # of its own; annotated as a whole number there
    only_latex = (math_verify.LatexExtractionConfig(),)  # its other extraction evaluates text as Python

    def parse(answer: str) -> list:
        try:
            return math_verify.parse(f"${answer}$", only_latex, parsing_timeout=no_alarm, raise_on_error=True)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # as above
            return []

    return parse, math_verify.verify
