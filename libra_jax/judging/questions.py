"""Questions that are nearly the same: shared n-grams over lower-case words and signs."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Mapping, Set

_TOKEN = re.compile(r"\w+|[^\w\s]")


class Index:
    """Texts by their n-grams, to find those that are near another text.

    Two texts are near when they share at least `overlap` of the n-grams of the one that has fewer. A text shorter than
    `ngram` is one gram, so only an equal one is near. Texts are numbered in their order.

    Only a text's rarest grams are looked up: of two near texts the one with n grams shares ceil(overlap * n) of them,
    so one of its n - ceil(overlap * n) + 1 rarest is shared (prefix filtering, Chaudhuri et al. 2006). Words that many
    questions have in common ("Give the answer as a fraction.") therefore cost nothing.
    """

    def __init__(self, texts: Iterable[str], *, ngram: int, overlap: float):
        self._ngram, self._overlap = ngram, overlap
        self._texts = [_grams(text, ngram) for text in texts]
        self._counts = collections.Counter(gram for grams in self._texts for gram in grams)
        self._every: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
        self._rare: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
        for number, grams in enumerate(self._texts):
            for gram in grams:
                self._every[gram].append(number)
            for gram in self._rarest(grams):
                self._rare[gram].append(number)

    def near(self, text: str, among: Set[int] | None = None) -> set[int]:
        """Numbers of the texts near `text`, of those in `among` if given."""
        grams = _grams(text, self._ngram)
        larger = {number for gram in self._rarest(grams) for number in self._every.get(gram, ())}
        smaller = {number for gram in grams for number in self._rare.get(gram, ())}
        some = larger | smaller if among is None else (larger | smaller) & among
        return {number for number in some if len(grams & self._texts[number])
                >= self._overlap * min(len(grams), len(self._texts[number]))}

    def _rarest(self, grams: Set[tuple[str, ...]]) -> list[tuple[str, ...]]:
        ordered = sorted(grams, key=lambda gram: (self._counts[gram], gram))
        return ordered[:len(grams) - math.ceil(self._overlap * len(grams)) + 1]


def contaminated(questions: Mapping[str, str], bench_questions: Iterable[str], *, ngram: int = 13,
                 overlap: float = 0.5) -> set[str]:
    """Ids of `questions` (id -> text) that are near some bench question, as `Index` says."""
    index = Index(bench_questions, ngram=ngram, overlap=overlap)
    return {name for name, text in questions.items() if index.near(text)}


def repeated(questions: Mapping[str, str], *, ngram: int, overlap: float) -> set[str]:
    """Ids of `questions` (id -> text) that are near one that stays: of near ones the first given does."""
    index = Index(questions.values(), ngram=ngram, overlap=overlap)
    stay: set[int] = set()
    gone = set()
    for number, (name, text) in enumerate(questions.items()):
        if index.near(text, stay):
            gone.add(name)
        else:
            stay.add(number)
    return gone


def _grams(text: str, n: int) -> set[tuple[str, ...]]:
    tokens = _TOKEN.findall(text.casefold())
    return {tuple(tokens[start : start + n]) for start in range(max(1, len(tokens) - n + 1))}
