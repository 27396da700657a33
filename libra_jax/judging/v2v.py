"""V2V, verifiable reasoning to verifiable judging: verified rollouts become judging examples (arXiv 2507.21645).

Everything is a pure function of its inputs and a seed: order comes from hashes of the records' content, so the order in
which they arrive changes nothing. The rules run in the order of `rules`, first those that need the problems of one
question alone (`of_question`), then those that look at the whole set (`choose`, on rows without texts), so that the
first may run on many machines (data/beam.py).
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from libra_jax.judging import balance, questions
from libra_jax.judging.balance import Row, Tally
from libra_jax.records import JudgingExample, Problem, VerifiedRollout, example_id

T = TypeVar("T")
ROW_ORDER = operator.attrgetter("key", "id", "problem_id")  # faster than comparing whole rows, and the same


@dataclasses.dataclass(frozen=True, kw_only=True)
class V2VConfig:
    """The rules of curation.

    Attributes:
      seed: of every choice between responses, of the split, and of the order of the examples.
      both_kinds: keep a problem only while it has a correct and an incorrect response.
      balance: within each (source, policy), as many correct as incorrect responses.
      max_per_problem: at most so many responses to one problem; 0 for no limit.
      keep_cut_off: keep responses that ended by length; they are incorrect for a reason that needs no judge.
      near_questions: keep questions of one set that are near each other; else the first of them by hash stays.
      ngram: words and signs in a row that the comparison of questions counts; shorter questions are compared whole.
      overlap: questions are near when they share this part of the n-grams of the one that has fewer.
      bands: edges, ascending in 0 to 1, of bands of difficulty, which is the part of a problem's decided responses
        that are right; problems outside go. "0.2,0.8": one band; "0,0.25,0.5,0.75,1": four. Empty: all stay.
      difficulty_policies: whose responses count for the difficulty; empty: those of all policies.
      max_per_band: at most so many problems in each band; 0 for no limit.
      balance_bands: as many problems in each band as in the smallest that has any.
    """

    seed: int = 0
    both_kinds: bool = True
    balance: bool = True
    max_per_problem: int = 8
    keep_cut_off: bool = False
    near_questions: bool = False
    ngram: int = 13
    overlap: float = 0.5
    bands: tuple[float, ...] = ()
    difficulty_policies: tuple[str, ...] = ()
    max_per_band: int = 0
    balance_bands: bool = False

    def __post_init__(self):
        if self.max_per_problem < 0 or (self.both_kinds and self.max_per_problem == 1):
            raise ValueError(f"max_per_problem={self.max_per_problem}: expected 0 (no limit), or 2 and more while "
                             "both_kinds holds; set both_kinds=false for one response a problem")
        if self.ngram < 1 or not 0 < self.overlap <= 1:
            raise ValueError(f"ngram={self.ngram}, overlap={self.overlap}: expected ngram >= 1 and 0 < overlap <= 1")
        edges = list(self.bands)
        if edges and (len(edges) < 2 or edges != sorted(set(edges)) or edges[0] < 0 or edges[-1] > 1):
            raise ValueError(f"bands={','.join(map(str, edges))}: expected two or more ascending edges in 0 to 1, such "
                             "as 0.2,0.8")
        if not edges and (self.max_per_band or self.balance_bands or self.difficulty_policies):
            raise ValueError("max_per_band, balance_bands and difficulty_policies need bands, which is empty; give "
                             "edges, such as bands=0,0.25,0.5,0.75,1")
        if self.max_per_band < 0:
            raise ValueError(f"max_per_band={self.max_per_band}: expected 0 (no limit) or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curated:
    """Examples in hash order; the table (rule, responses removed, responses left), in the order of the rules; and how
    often each policy was right on each problem, before anything else was removed."""

    examples: tuple[JudgingExample, ...]
    table: tuple[tuple[str, int, int], ...]
    tallies: tuple[Tally, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What the rules that look at one question leave: `examples` by row, and `removed` responses by rule."""

    examples: dict[Row, JudgingExample]
    tallies: tuple[Tally, ...]
    removed: collections.Counter


def curate(problems: Mapping[str, Problem], rollouts: Iterable[VerifiedRollout], config: V2VConfig, *,
           bench_questions: Iterable[str] = ()) -> Curated:
    """Makes judging examples of the rollouts of `problems` (by id).

    Removes, in order: responses to unknown problems; of one question, what `of_question` says; of the set, what
    `choose` says. Questions near `bench_questions` lose all responses.
    """
    groups: dict[str, dict[str, tuple[Problem, list[VerifiedRollout]]]] = collections.defaultdict(dict)
    unknown = 0
    for rollout in rollouts:
        if problem := problems.get(rollout.problem_id):
            same = groups[question_key(problem.question)]
            same.setdefault(problem.id, (problem, []))[1].append(rollout)
        else:
            unknown += 1
    index = questions.Index(bench_questions, ngram=config.ngram, overlap=config.overlap)
    parts = [of_question(same.values(), config, index) for same in groups.values()]
    examples = {row: example for part in parts for row, example in part.examples.items()}
    tallies = tuple(sorted(tally for part in parts for tally in part.tallies))
    removed = sum((part.removed for part in parts), collections.Counter({"problem unknown": unknown}))
    rows, table = choose(examples, tallies, {row.problem_id: example.question for row, example in examples.items()},
                         removed, config)
    return Curated(examples=tuple(examples[row] for row in rows), table=table, tallies=tallies)


def question_key(question: str) -> str:
    """Equal for questions that are equal up to white space: what `of_question` needs together."""
    return digest("question", _normal(question))


def of_question(group: Iterable[tuple[Problem, Iterable[VerifiedRollout]]], config: V2VConfig,
                bench: questions.Index) -> Part:
    """Applies the rules that need no other question to all problems of one question (up to white space).

    Removes, in order: undecided responses, repeated (problem, policy, sample), cut off ones, all if the question is
    near one of `bench`, responses with one text that are labelled both ways (all of them), duplicate responses (up to
    white space), problems of one kind, and what exceeds `max_per_problem` (policies in turn, both kinds alike).
    """
    given = [(_row(problem, rollout, config.seed), problem, rollout) for problem, rollouts in group
             for rollout in rollouts]
    decided = sorted(((row, problem, rollout) for row, problem, rollout in given if rollout.correct is not None),
                     key=lambda each: (each[0], each[2].finish))
    by_id = {each[0].id: each for each in _first(decided, lambda each: each[0].id)}
    rollout_of = {row: rollout for row, _, rollout in by_id.values()}
    texts = {row: _normal(rollout.text) for row, rollout in rollout_of.items()}
    removed = collections.Counter({"undecided": len(given) - len(decided), "repeated id": len(decided) - len(by_id)})
    rows = list(rollout_of)
    tallies = _tally(rows)

    def left(rule: str, some: list[Row]) -> list[Row]:
        removed[rule] += len(rows) - len(some)
        return some

    if not config.keep_cut_off:
        rows = left("cut off", [row for row in rows if rollout_of[row].finish == "stop"])
    near = any(bench.near(text) for text in {problem.question for _, problem, _ in by_id.values()})
    rows = left("question near the bench", [] if near else rows)
    labels = collections.defaultdict(set)
    for row in rows:
        labels[texts[row]].add(row.correct)
    rows = left("labelled both ways", [row for row in rows if len(labels[texts[row]]) == 1])
    rows = left("duplicate response", _first(rows, texts.__getitem__))
    if config.both_kinds:
        rows = left("problem of one kind", balance.both_kinds(rows))
    if config.max_per_problem:
        rows = left("over the cap of a problem", balance.cap(rows, config.max_per_problem))
    return Part(examples={row: _example(row, *by_id[row.id][1:]) for row in rows}, tallies=tallies, removed=removed)


def choose(rows: Iterable[Row], tallies: Iterable[Tally], texts: Mapping[str, str], removed: Mapping[str, int],
           config: V2VConfig) -> tuple[list[Row], tuple[tuple[str, int, int], ...]]:
    """Applies the rules that look at the whole set; returns the rows that stay, in hash order, and the whole table.

    `texts`: the questions by problem; `removed`: responses by rule, before these. Removes, in order: responses whose id
    is that of another problem's response, problems near one that stays, problems outside the bands, problems over the
    limit of their band, and what is in surplus within a (source, policy), from the problems that have the most first.
    Balancing may leave a problem with one kind; it then goes too, and balancing starts again, until both hold.
    """
    items, removed = sorted(rows, key=ROW_ORDER), collections.Counter(removed)
    total = len(items) + removed.total()

    def left(rule: str, some: list[Row]) -> list[Row]:
        removed[rule] += len(items) - len(some)
        return some

    def without(gone: set[str]) -> list[Row]:
        return [row for row in items if row.problem_id not in gone]

    items = left("id of another problem's", _first(items, lambda row: row.id))
    names = sorted({row.problem_id for row in items}, key=lambda name: (digest(config.seed, "problem", name), name))
    if not config.near_questions:
        gone = questions.repeated({name: texts[name] for name in names}, ngram=config.ngram, overlap=config.overlap)
        items = left("question near another", without(gone))
        names = [name for name in names if name not in gone]
    if config.bands:
        bands = balance.bands(names, tallies, config.bands, config.difficulty_policies)
        items = left("outside the bands of difficulty", without({name for name in names if name not in bands}))
        over = balance.over_limit(bands, config.max_per_band, config.balance_bands)
        items = left("over the limit of a band", without(over))
    if config.balance:
        items, surplus, one_kind = balance.even(items, config.both_kinds)
        removed["balance of source and policy"] += surplus
        removed["one kind after balancing"] += one_kind
    table = []
    for rule in rules(config):
        total -= removed[rule]
        table.append((rule, removed[rule], total))
    return items, tuple(table)


def rules(config: V2VConfig) -> tuple[str, ...]:
    """The names of the rules in force, in the order in which they run."""
    return (
        "problem unknown", "undecided", "repeated id", *(() if config.keep_cut_off else ("cut off",)),
        "question near the bench", "labelled both ways", "duplicate response",
        *(("problem of one kind",) if config.both_kinds else ()),
        *(("over the cap of a problem",) if config.max_per_problem else ()),
        "id of another problem's",
        *(() if config.near_questions else ("question near another",)),
        *(("outside the bands of difficulty", "over the limit of a band") if config.bands else ()),
        *(("balance of source and policy",) if config.balance else ()),
        *(("one kind after balancing",) if config.balance and config.both_kinds else ()),
    )


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
        known = sides[0].get(problem.id) or sides[1].get(problem.id)
        if known not in (None, problem):
            raise ValueError(f"two different problems have the id {problem.id!r}; give each its own id")
        sides[in_bench(problem.question, bench_fraction, seed)][problem.id] = problem
    return sides


def in_bench(question: str, bench_fraction: float, seed: int) -> bool:
    """Which side of `split` a question is on."""
    return int(digest(seed, "split", _normal(question).casefold()), 16) / 16**16 < bench_fraction


def digest(*parts: object) -> str:
    """16 hexadecimal digits that depend on the parts and on nothing else, as Python's own hash would."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def _normal(text: str) -> str:
    return " ".join(text.split())


def _row(problem: Problem, rollout: VerifiedRollout, seed: int) -> Row:
    name = example_id(rollout)
    return Row(key=digest(seed, name, rollout.text, rollout.correct), id=name, problem_id=problem.id,
               source=problem.source, policy=rollout.policy, correct=rollout.correct)


def _example(row: Row, problem: Problem, rollout: VerifiedRollout) -> JudgingExample:
    return JudgingExample(id=row.id, problem_id=problem.id, question=problem.question, response=rollout.text,
                          correct=row.correct, policy=row.policy, source=row.source)


def _first(some: Iterable[T], name: Callable[[T], str]) -> list[T]:
    """The first of those that have one name, in their order."""
    first: dict[str, T] = {}
    for each in some:
        first.setdefault(name(each), each)
    return list(first.values())


def _tally(rows: Iterable[Row]) -> tuple[Tally, ...]:
    counts = collections.Counter((row.problem_id, row.policy, row.correct) for row in rows)
    pairs = sorted({(problem, policy) for problem, policy, _ in counts})
    return tuple(Tally(problem_id=problem, policy=policy, right=counts[problem, policy, True],
                       wrong=counts[problem, policy, False]) for problem, policy in pairs)
