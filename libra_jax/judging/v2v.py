"""V2V, verifiable reasoning to verifiable judging: verified rollouts become judging examples (arXiv 2507.21645).

Everything is a pure function of its inputs and a seed: order comes from hashes of the records' content, so the order in
which they arrive changes nothing. The rules run in the order of the table that `curate` returns.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import heapq
import re
from collections.abc import Iterable, Mapping

from libra_jax.records import JudgingExample, Problem, VerifiedRollout, example_id

_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class V2VConfig:
    """The rules of curation.

    Attributes:
      seed: of every choice between responses, of the split, and of the order of the examples.
      both_kinds: keep a problem only while it has a correct and an incorrect response.
      balance: within each (source, policy), as many correct as incorrect responses.
      max_per_problem: at most so many responses to one problem; 0 for no limit.
      keep_cut_off: keep responses that ended by length; they are incorrect for a reason that needs no judge.
      ngram: words and signs in a row that decontamination compares; shorter questions are compared whole.
      overlap: a train question is contaminated when this share of its n-grams, or of a bench question's, is shared.
    """

    seed: int = 0
    both_kinds: bool = True
    balance: bool = True
    max_per_problem: int = 8
    keep_cut_off: bool = False
    ngram: int = 13
    overlap: float = 0.5

    def __post_init__(self):
        if self.max_per_problem < 0 or (self.both_kinds and self.max_per_problem == 1):
            raise ValueError(f"max_per_problem={self.max_per_problem}: expected 0 (no limit), or 2 and more while "
                             "both_kinds holds; set both_kinds=false for one response a problem")
        if self.ngram < 1 or not 0 < self.overlap <= 1:
            raise ValueError(f"ngram={self.ngram}, overlap={self.overlap}: expected ngram >= 1 and 0 < overlap <= 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curated:
    """Examples in hash order, and the table (rule, responses removed, responses left), in the order of the rules."""

    examples: tuple[JudgingExample, ...]
    table: tuple[tuple[str, int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Item:
    id: str
    key: str  # the hash that orders
    question: str  # normalised
    response: str  # normalised
    problem: Problem
    rollout: VerifiedRollout


def curate(problems: Mapping[str, Problem], rollouts: Iterable[VerifiedRollout], config: V2VConfig, *,
           bench_questions: Iterable[str] = ()) -> Curated:
    """Makes judging examples of the rollouts of `problems` (by id).

    Removes, in order: responses to unknown problems, undecided ones, cut off ones, those to questions too near to
    `bench_questions`, repeated (problem, policy, sample) ids, responses with one text that are labelled both ways (all
    of them), duplicate responses to one question (up to white space), problems of one kind, what exceeds
    `max_per_problem` (policies in turn, both kinds alike), and what is in surplus within a (source, policy), from the
    problems that have the most first. Balancing may leave a problem with one kind; it then goes too, and balancing
    starts again, until both hold.
    """
    table: list[tuple[str, int, int]] = []
    rollouts = list(rollouts)
    items = [_item(problems[r.problem_id], r, config.seed) for r in rollouts if r.problem_id in problems]
    items.sort(key=lambda item: (item.key, item.rollout.why, item.rollout.decided_by))

    def removed(rule: str, left: list[_Item]) -> list[_Item]:
        before = table[-1][2] if table else len(rollouts)
        table.append((rule, before - len(left), len(left)))
        return left

    items = removed("problem unknown", items)
    items = removed("undecided", [item for item in items if item.rollout.correct is not None])
    if not config.keep_cut_off:
        items = removed("cut off", [item for item in items if item.rollout.finish == "stop"])
    questions = {item.problem.id: item.problem.question for item in items}
    near = contaminated(questions, bench_questions, ngram=config.ngram, overlap=config.overlap)
    items = removed("question near the bench", [item for item in items if item.problem.id not in near])
    items = removed("repeated id", _first(items, lambda item: item.id))
    items = removed("labelled both ways", _consistent(items))
    items = removed("duplicate response", _first(items, lambda item: (item.question, item.response)))
    if config.both_kinds:
        items = removed("problem of one kind", _both_kinds(items))
    if config.max_per_problem:
        items = removed("over the cap of a problem", _cap(items, config.max_per_problem))
    if config.balance:
        items, surplus, one_kind = _balance(items, config.both_kinds)
        left = table[-1][2] - surplus
        table.append(("balance of source and policy", surplus, left))
        if config.both_kinds:
            table.append(("one kind after balancing", one_kind, left - one_kind))
    return Curated(examples=tuple(_example(item) for item in items), table=tuple(table))


def split(
    problems: Iterable[Problem], bench_fraction: float, seed: int
) -> tuple[dict[str, Problem], dict[str, Problem]]:
    """Splits problems into (train, bench) by id, disjoint also in their normalised questions.

    A hash of the question decides, so a problem keeps its side when others come or go; the bench holds about
    `bench_fraction` of the questions. Raises ValueError for a fraction outside [0, 1] or one id with two contents.
    """
    if not 0 <= bench_fraction <= 1:
        raise ValueError(f"bench_fraction={bench_fraction}: expected a share between 0 and 1")
    sides: tuple[dict[str, Problem], dict[str, Problem]] = ({}, {})
    for problem in problems:
        share = int(_hash(seed, "split", _normal(problem.question).casefold()), 16) / 16**16
        known = sides[0].get(problem.id) or sides[1].get(problem.id)
        if known not in (None, problem):
            raise ValueError(f"two different problems have the id {problem.id!r}; give each its own id")
        sides[share < bench_fraction][problem.id] = problem
    return sides


def contaminated(questions: Mapping[str, str], bench_questions: Iterable[str], *, ngram: int = 13,
                 overlap: float = 0.5) -> set[str]:
    """Ids of `questions` (id -> text) that share too much with some bench question.

    Both are sets of n-grams over lower-case words and signs; overlap is the number shared over the size of the smaller
    set. A question shorter than `ngram` is one gram, so it is contaminated by an equal one alone.
    """
    index = collections.defaultdict(list)
    sizes = []
    for number, text in enumerate(bench_questions):
        grams = _grams(text, ngram)
        sizes.append(len(grams))
        for gram in grams:
            index[gram].append(number)
    found = set()
    for name, text in questions.items():
        grams = _grams(text, ngram)
        shared = collections.Counter(number for gram in grams for number in index.get(gram, ()))
        if any(count >= overlap * min(len(grams), sizes[number]) for number, count in shared.items()):
            found.add(name)
    return found


def _grams(text: str, n: int) -> set[tuple[str, ...]]:
    tokens = _TOKEN.findall(text.casefold())
    return {tuple(tokens[start : start + n]) for start in range(max(1, len(tokens) - n + 1))}


def _hash(*parts: object) -> str:
    """16 hexadecimal digits that depend on the parts and on nothing else, as Python's own hash would."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def _normal(text: str) -> str:
    return " ".join(text.split())


def _item(problem: Problem, rollout: VerifiedRollout, seed: int) -> _Item:
    name = example_id(rollout)
    return _Item(id=name, key=_hash(seed, name, rollout.text, rollout.correct), question=_normal(problem.question),
                 response=_normal(rollout.text), problem=problem, rollout=rollout)


def _example(item: _Item) -> JudgingExample:
    return JudgingExample(id=item.id, problem_id=item.problem.id, question=item.problem.question,
                          response=item.rollout.text, correct=item.rollout.correct, policy=item.rollout.policy,
                          source=item.problem.source)


def _first(items: list[_Item], name) -> list[_Item]:
    first: dict = {}
    for item in items:
        first.setdefault(name(item), item)
    return list(first.values())


def _consistent(items: list[_Item]) -> list[_Item]:
    labels = collections.defaultdict(set)
    for item in items:
        labels[item.question, item.response].add(item.rollout.correct)
    return [item for item in items if len(labels[item.question, item.response]) == 1]


def _both_kinds(items: list[_Item]) -> list[_Item]:
    kinds = collections.defaultdict(set)
    for item in items:
        kinds[item.problem.id].add(item.rollout.correct)
    return [item for item in items if len(kinds[item.problem.id]) == 2]


def _ranks(items: list[_Item]) -> dict[str, int]:
    """Place of each item (by id) among its problem's items of its kind, policies taking turns; 0 is kept longest."""
    turns: collections.Counter = collections.Counter()
    places: collections.Counter = collections.Counter()
    order = []
    for item in items:
        slot = (item.problem.id, item.rollout.correct, item.rollout.policy)
        order.append((turns[slot], item))
        turns[slot] += 1
    ranks = {}
    for _, item in sorted(order, key=lambda pair: pair[0]):  # stable, so hash order within a turn
        kind = (item.problem.id, item.rollout.correct)
        ranks[item.id] = places[kind]
        places[kind] += 1
    return ranks


def _cap(items: list[_Item], limit: int) -> list[_Item]:
    ranks = _ranks(items)
    taken: collections.Counter = collections.Counter()
    kept = set()
    for item in sorted(items, key=lambda item: ranks[item.id]):
        if taken[item.problem.id] < limit:
            taken[item.problem.id] += 1
            kept.add(item.id)
    return [item for item in items if item.id in kept]


def _balance(items: list[_Item], both_kinds: bool) -> tuple[list[_Item], int, int]:
    """Returns (items, removed as surplus, removed because a problem was left with one kind)."""
    surplus = one_kind = 0
    while True:
        even = _even(items)
        left = _both_kinds(even) if both_kinds else even
        surplus += len(items) - len(even)
        one_kind += len(even) - len(left)
        if len(left) == len(items):
            return left, surplus, one_kind
        items = left


def _even(items: list[_Item]) -> list[_Item]:
    """As many correct as incorrect within each (source, policy).

    What goes first is what its problem can spare: of the problem with most of that kind, then with least of the other.
    """
    counts = collections.Counter((item.problem.id, item.rollout.correct) for item in items)
    cells = collections.defaultdict(lambda: {True: [], False: []})
    for item in items:
        cells[item.problem.source, item.rollout.policy][item.rollout.correct].append(item)

    def spare(item: _Item) -> tuple[int, int, str]:
        kind = item.rollout.correct
        return -counts[item.problem.id, kind], counts[item.problem.id, not kind], item.key

    gone = set()
    for name in sorted(cells):
        kind = len(cells[name][True]) > len(cells[name][False])
        surplus = cells[name][kind]
        heap = [(spare(item), number) for number, item in enumerate(surplus)]
        heapq.heapify(heap)
        for _ in range(len(surplus) - len(cells[name][not kind])):
            # A place in the heap may be out of date; within a cell `spare` only grows, so the true first comes up.
            while (now := spare(surplus[heap[0][1]])) != heap[0][0]:
                heapq.heapreplace(heap, (now, heap[0][1]))
            item = surplus[heapq.heappop(heap)[1]]
            counts[item.problem.id, kind] -= 1
            gone.add(item.id)
    return [item for item in items if item.id not in gone]
