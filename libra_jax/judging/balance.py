"""Which responses stay, decided on rows without texts: kinds, caps, bands of difficulty, balance of source and policy.

A row is half a kilobyte of memory, so that what needs a whole set at once fits one machine where the responses do not.
Rows sort by a hash of their content. The rows that a function takes are sorted and have different ids.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import heapq
from collections.abc import Iterable, Mapping, Sequence


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Row:
    """A judging example without its texts; `key` is the hash that orders."""

    key: str
    id: str
    problem_id: str
    source: str
    policy: str
    correct: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Tally:
    """How many decided responses of one policy to one problem were right, and how many wrong."""

    problem_id: str
    policy: str
    right: int
    wrong: int


def both_kinds(rows: Iterable[Row]) -> list[Row]:
    """The rows of problems that have a correct and an incorrect one."""
    rows = list(rows)
    kinds = collections.defaultdict(set)
    for row in rows:
        kinds[row.problem_id].add(row.correct)
    return [row for row in rows if len(kinds[row.problem_id]) == 2]


def cap(rows: Sequence[Row], limit: int) -> list[Row]:
    """At most `limit` rows of each problem, policies taking turns and both kinds alike."""
    ranks = _ranks(rows)
    taken: collections.Counter = collections.Counter()
    kept = set()
    for row in sorted(rows, key=lambda row: ranks[row.id]):
        if taken[row.problem_id] < limit:
            taken[row.problem_id] += 1
            kept.add(row.id)
    return [row for row in rows if row.id in kept]


def _ranks(rows: Sequence[Row]) -> dict[str, int]:
    """Place of each row (by id) among its problem's rows of its kind, policies taking turns; 0 is kept longest."""
    turns: collections.Counter = collections.Counter()
    places: collections.Counter = collections.Counter()
    order = []
    for row in rows:
        slot = (row.problem_id, row.correct, row.policy)
        order.append((turns[slot], row))
        turns[slot] += 1
    ranks = {}
    for _, row in sorted(order, key=lambda pair: pair[0]):  # stable, so hash order within a turn
        kind = (row.problem_id, row.correct)
        ranks[row.id] = places[kind]
        places[kind] += 1
    return ranks


def shares(tallies: Iterable[Tally], policies: Sequence[str] = ()) -> dict[str, float]:
    """The difficulty of each problem, as the part of its decided responses (of `policies`, if given) that are right.

    1 is the easiest. Problems without such responses are not there.
    """
    right: collections.Counter = collections.Counter()
    decided: collections.Counter = collections.Counter()
    for tally in tallies:
        if not policies or tally.policy in policies:
            right[tally.problem_id] += tally.right
            decided[tally.problem_id] += tally.right + tally.wrong
    return {name: right[name] / decided[name] for name in decided}


def bands(names: Iterable[str], tallies: Iterable[Tally], edges: Sequence[float], policies: Sequence[str] = ()
          ) -> dict[str, int]:
    """The band of each problem of `names`, in their order; those outside `edges` or without a share are left out.

    Band i is edges[i] <= share < edges[i + 1]; the last one holds its upper edge too.
    """
    share = shares(tallies, policies)
    return {name: min(bisect.bisect_right(edges, share[name]) - 1, len(edges) - 2) for name in names
            if name in share and edges[0] <= share[name] <= edges[-1]}


def over_limit(band_of: Mapping[str, int], limit: int, even: bool) -> set[str]:
    """The problems that exceed what a band may hold; the first ones in the order of `band_of` stay.

    A band may hold `limit` problems (0: any number) and, if `even`, no more than the smallest band that has any.
    """
    sizes = collections.Counter(band_of.values())
    limits = ([limit] if limit else []) + ([min(sizes.values())] if even and sizes else [])
    taken: collections.Counter = collections.Counter()
    gone = set()
    for name, band in band_of.items():
        if limits and taken[band] >= min(limits):
            gone.add(name)
        taken[band] += 1
    return gone


def even(rows: Sequence[Row], keep_both_kinds: bool) -> tuple[list[Row], int, int]:
    """As many correct as incorrect rows within each (source, policy), and if so wished problems of both kinds only.

    Returns (rows, removed as surplus, removed because a problem was left with one kind).
    """
    surplus = one_kind = 0
    while True:
        some = _even(rows)
        left = both_kinds(some) if keep_both_kinds else some
        surplus += len(rows) - len(some)
        one_kind += len(some) - len(left)
        if len(left) == len(rows):
            return left, surplus, one_kind
        rows = left


def _even(rows: Sequence[Row]) -> list[Row]:
    """As many correct as incorrect within each (source, policy).

    What goes first is what its problem can spare: of the problem with most of that kind, then with least of the other.
    """
    counts = collections.Counter((row.problem_id, row.correct) for row in rows)
    cells = collections.defaultdict(lambda: {True: [], False: []})
    for row in rows:
        cells[row.source, row.policy][bool(row.correct)].append(row)

    def spare(row: Row) -> tuple[int, int, str]:
        return -counts[row.problem_id, row.correct], counts[row.problem_id, not row.correct], row.key

    gone = set()
    for name in sorted(cells):
        kind = len(cells[name][True]) > len(cells[name][False])
        surplus = cells[name][kind]
        heap = [(spare(row), number) for number, row in enumerate(surplus)]
        heapq.heapify(heap)
        for _ in range(len(surplus) - len(cells[name][not kind])):
            # A place in the heap may be out of date; within a cell `spare` only grows, so the true first comes up.
            while (now := spare(surplus[heap[0][1]])) != heap[0][0]:
                heapq.heapreplace(heap, (now, heap[0][1]))
            row = surplus[heapq.heappop(heap)[1]]
            counts[row.problem_id, kind] -= 1
            gone.add(row.id)
    return [row for row in rows if row.id not in gone]
