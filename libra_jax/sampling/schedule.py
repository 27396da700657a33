"""Which row of the batch draws which sample, and which pages of the cache it has. No JAX: arrays of the host.

The rows of a device (`ways` devices or groups of them hold equal shares) borrow pages of its own pool. A prompt is
prefilled once on a device; its samples there list its full pages together, and each gets the last, unfilled page as a
copy of its own. A row gets pages shortly before it needs them; when none is free, the row that has drawn least gives
its pages up and its sample is drawn again later, to the same tokens.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from libra_jax.model.cache import PAGE
from libra_jax.sampling.demand import Demand


class Pool:
    """The pages of one device: which are free, and how many hold each of the others."""

    def __init__(self, num_pages: int):
        self.num_pages = num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._holders = np.zeros(num_pages, np.int32)

    def __len__(self) -> int:
        """How many are free."""
        return len(self._free)

    def take(self, number: int) -> list[int]:
        """`number` free pages; the caller has asked how many there are."""
        pages = [self._free.pop() for _ in range(number)]
        self._holders[pages] += 1
        return pages

    def share(self, pages: Sequence[int]) -> None:
        """One more holds these pages."""
        self._holders[pages] += 1

    def give_back(self, pages: Sequence[int]) -> None:
        """One less holds these pages; those that nobody holds are free."""
        self._holders[pages] -= 1
        self._free += [page for page in pages if not self._holders[page]]


@dataclasses.dataclass(eq=False)
class Row:
    """What one row is at: a sample, with `pages` of its device; its next token stands at `position`."""

    prompt: int
    sample: int
    pages: list[int]
    position: int
    last: int  # the highest position that it may write
    count: int = 0


@dataclasses.dataclass(eq=False)
class Held:
    """A prompt that is prefilled on a device and whose samples `left` have no row yet."""

    prompt: int
    pages: list[int]
    left: collections.deque[int]


@dataclasses.dataclass(frozen=True)
class Fill:
    """What the device has to do for new rows: `prompts` [ways][.] (prompt, pages) to prefill, then `copies`
    [ways][.] (from, to) of pages; `rows` are the new ones."""

    prompts: list[list[tuple[int, list[int]]]]
    copies: list[list[tuple[int, int]]]
    rows: list[int]


class Schedule:
    """Rows, pages and what is still to be drawn. A prompt of n tokens is prefilled without its last one, which the
    row feeds first."""

    def __init__(self, demand: Demand, lengths: Sequence[int], budgets: Sequence[int], *, num_rows: int, ways: int,
                 num_pages: int, prompts_a_fill: int):
        """`lengths` and `budgets`: tokens of each prompt, and the most that may follow; `num_pages` of each device."""
        self.demand, self.lengths, self.budgets = demand, lengths, budgets
        self.ways, self.prompts_a_fill = ways, prompts_a_fill
        self.pools = [Pool(num_pages) for _ in range(ways)]
        self.held: list[Held | None] = [None] * ways
        self.rows: list[Row | None] = [None] * num_rows
        self.num_preempted = 0

    def shard(self, index: int) -> range:
        """The rows of device group `index`."""
        size = len(self.rows) // self.ways
        return range(index * size, (index + 1) * size)

    def at(self, index: int) -> Row:
        """The sample of a row that draws; RuntimeError for one that does not, a fault of the caller's."""
        row = self.rows[index]
        if row is None:
            raise RuntimeError(f"row {index} draws nothing")
        return row

    def live(self) -> list[int]:
        """The rows that draw."""
        return [index for index, row in enumerate(self.rows) if row is not None]

    def fill(self) -> Fill:
        """Gives free rows samples, as far as pages and `prompts_a_fill` go; devices take turns."""
        found = Fill([[] for _ in range(self.ways)], [[] for _ in range(self.ways)], [])
        free = [[row for row in self.shard(index) if self.rows[row] is None] for index in range(self.ways)]
        released: list[tuple[int, list[int]]] = []  # given back at the end: copies may still read them
        going = set(range(self.ways))
        while going:
            for index in sorted(going):
                if not (free[index] and self._hold(index, found.prompts[index], released)
                        and self._place(index, free[index][0], found.copies[index])):
                    going.discard(index)
                    continue
                found.rows.append(free[index].pop(0))
        for index, pages in released:
            self.pools[index].give_back(pages)
        return found

    def grow(self, steps: int) -> list[tuple[int, Row]]:
        """Gives every row the pages of its next `steps` positions; the rows that had to give theirs up."""
        gone = []
        for index, pool in enumerate(self.pools):
            rows = [row for row in self.shard(index) if self.rows[row] is not None]
            for row in sorted(rows, key=lambda row: -self.at(row).count):  # the furthest first
                while (mine := self.rows[row]) is not None:
                    missing = min(mine.position + steps - 1, mine.last) // PAGE + 1 - len(mine.pages)
                    if missing <= len(pool):
                        mine.pages += pool.take(max(0, missing))
                        break
                    if self.held[index] is not None:
                        pool.give_back(self._release(index))
                        continue
                    least = min((other for other in rows if self.rows[other] is not None),
                                key=lambda other: self.at(other).count)
                    gone.append((least, self._take_away(least)))
        return gone

    def end(self, row: int) -> Row:
        """Frees a row."""
        mine = self.at(row)
        self.pools[row // (len(self.rows) // self.ways)].give_back(mine.pages)
        self.rows[row] = None
        return mine

    def shrink(self, num_rows: int) -> list[int] | None:
        """Packs the live rows into `num_rows`: the old index of each new row (any for an empty one), or None where a
        device has too many."""
        keep = []
        for index in range(self.ways):
            shard = self.shard(index)
            live = [row for row in shard if self.rows[row] is not None]
            if len(live) > num_rows // self.ways:
                return None
            rest = [row for row in shard if self.rows[row] is None]
            keep += (live + rest)[: num_rows // self.ways]
        self.rows = [self.rows[row] for row in keep]
        return keep

    def _holds(self, index: int) -> Held:
        held = self.held[index]
        if held is None:
            raise RuntimeError(f"device {index} holds no prompt")
        return held

    def _hold(self, index: int, prompts: list, released: list) -> bool:
        """Whether device `index` has a prompt with samples to place; takes the next one where it has none."""
        while True:
            held = self.held[index]
            while held and held.left and not self.demand.needed(held.prompt, held.left[0]):
                self.demand.settle(held.prompt, held.left.popleft(), None)
            if held and held.left:
                return True
            if held:
                released.append((index, self._release(index)))
            taken = None if len(prompts) >= self.prompts_a_fill else self.demand.take() or self._split()
            if taken is None:
                return False
            prompt, samples = taken
            number = -(-(self.lengths[prompt] - 1) // PAGE)
            if len(self.pools[index]) < number + 1 + self._running(index):
                self.demand.put_back(prompt, samples)
                return False
            taken_pages = self.pools[index].take(number)
            self.held[index] = Held(prompt, taken_pages, collections.deque(samples))
            if number:
                prompts.append((prompt, taken_pages))

    def _split(self) -> tuple[int, list[int]] | None:
        """Half of the samples that wait at the device where most do, where no prompt is left for another."""
        most = max((held for held in self.held if held), key=lambda held: len(held.left), default=None)
        if most is None or len(most.left) < 2:
            return None
        return most.prompt, [most.left.pop() for _ in range(len(most.left) // 2)][::-1]

    def _place(self, index: int, row: int, copies: list) -> bool:
        """Gives `row` the next sample of the held prompt; False where too few pages are free."""
        held, pool = self._holds(index), self.pools[index]
        full, rest = divmod(self.lengths[held.prompt] - 1, PAGE)
        last = len(held.left) == 1  # it takes over the prompt's pages; the others share the full ones
        pages = list(held.pages)
        if not last:
            if rest and len(pool) < 1 + self._running(index):
                return False
            pages = held.pages[:full]
            pool.share(pages)
            if rest:
                pages = pages + pool.take(1)
                copies.append((held.pages[full], pages[full]))
        position = self.lengths[held.prompt] - 1
        self.rows[row] = Row(held.prompt, held.left.popleft(), pages, position,
                             position + self.budgets[held.prompt] - 1)
        if last:
            self.held[index] = None
        return True

    def _release(self, index: int) -> list[int]:
        """Lets go of the held prompt, whose samples without a row are to be begun again; returns its pages."""
        held, self.held[index] = self._holds(index), None
        if held.left:
            self.demand.put_back(held.prompt, list(held.left))
        return held.pages

    def _take_away(self, row: int) -> Row:
        mine = self.end(row)
        self.demand.put_back(mine.prompt, [mine.sample])
        self.num_preempted += 1
        return mine

    def _running(self, index: int) -> int:
        return sum(self.rows[row] is not None for row in self.shard(index))
