"""Which samples of which prompts are to be drawn next, and which turn out not to be needed. No JAX.

Without `enough`: all of them, in order. With it, a prompt wants its samples up to the one that is its `enough`-th right
one, as if they were drawn one after another; so no more are begun than are needed for certain, until slots would stay
empty: then further ones are begun, and given up when they prove needless. What is wanted in the end does not depend on
the order in which samples end.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(eq=False)
class _Prompt:
    """What is known of one prompt: `right` of its settled samples, how many were begun, and are under way."""

    samples: Sequence[int]
    right: dict[int, bool] = dataclasses.field(default_factory=dict)
    num_begun: int = 0
    under_way: int = 0

    def right_before(self, sample: int) -> int:
        return sum(right for other, right in self.right.items() if other < sample)


class Demand:
    """Hands out (prompt, samples) in an order that wastes nothing, and learns how samples ended."""

    def __init__(self, samples: Sequence[Sequence[int]], enough: int = 0):
        """`samples`: the sample numbers of each prompt, rising; `enough` 0: all are wanted."""
        self.enough = enough
        self.prompts = [_Prompt(numbers) for numbers in samples]
        self._fresh = collections.deque(index for index, numbers in enumerate(samples) if numbers)
        self._again: collections.deque[int] = collections.deque()  # prompts whose begun samples were not enough
        self._returned: collections.deque[tuple[int, list[int]]] = collections.deque()
        self._open: set[int] = set()  # prompts of which some samples were begun and others may be
        self._dropped: list[int] = []

    def add(self, samples: Sequence[int]) -> int:
        """One prompt more, after all others; returns its index, which may be that of a dropped one."""
        index = self._dropped.pop() if self._dropped else len(self.prompts)
        self.prompts[index : index + 1] = [_Prompt(samples)]
        if samples:
            self._fresh.append(index)
        return index

    def drop(self, prompt: int) -> None:
        """Forgets a prompt, none of whose samples is under way: nothing of it is begun any more."""
        for queue in (self._fresh, self._again):
            if prompt in queue:
                queue.remove(prompt)
        self._returned = collections.deque(each for each in self._returned if each[0] != prompt)
        self._open.discard(prompt)
        self.prompts[prompt] = _Prompt(())
        self._dropped.append(prompt)

    def take(self) -> tuple[int, list[int]] | None:
        """The next prompt and samples of it to begin; None where none is left to begin now."""
        while self._returned:
            prompt, samples = self._returned.popleft()
            needless = [sample for sample in samples if not self.needed(prompt, sample)]
            for sample in needless:
                self.settle(prompt, sample, None)
            if len(needless) < len(samples):
                return prompt, [sample for sample in samples if sample not in needless]
        for queue in (self._again, self._fresh):
            while queue:
                prompt = queue.popleft()
                if begun := self._begin(prompt):
                    return prompt, begun
        if self._open:
            prompt = min(self._open, key=lambda index: (self.prompts[index].under_way, index))
            return prompt, self._begin(prompt)
        return None

    def more(self) -> bool:
        """Whether there is something left to begin."""
        return bool(self._returned or self._again or self._fresh or self._open)

    def put_back(self, prompt: int, samples: Sequence[int]) -> None:
        """Samples that were begun and lost their places; they are begun again first."""
        self._returned.appendleft((prompt, list(samples)))

    def needed(self, prompt: int, sample: int) -> bool:
        """Whether a sample is still wanted, by what is settled."""
        return not self.enough or self.right_before(prompt, sample) < self.enough

    def right_before(self, prompt: int, sample: int) -> int:
        """How many settled samples of the prompt with a lower number are right."""
        return self.prompts[prompt].right_before(sample)

    def settle(self, prompt: int, sample: int, right: bool | None) -> None:
        """A sample under way has ended: right, wrong, or given up as needless (None)."""
        state = self.prompts[prompt]
        state.under_way -= 1
        if right is not None:
            state.right[sample] = right
        if not self._wants_more(state):
            self._open.discard(prompt)
        elif not state.under_way:
            self._again.append(prompt)

    def wanted(self, prompt: int) -> list[int] | None:
        """The prompt's samples, once it is settled which these are; None before."""
        state, right = self.prompts[prompt], 0
        for place, sample in enumerate(state.samples):
            if sample not in state.right:
                return None
            right += state.right[sample]
            if self.enough and right >= self.enough:
                return list(state.samples[: place + 1])
        return list(state.samples)

    def _begin(self, index: int) -> list[int]:
        prompt = self.prompts[index]
        number = len(prompt.samples)
        if self.enough:
            number = max(1, self.enough - sum(prompt.right.values())) if self._wants_more(prompt) else 0
        begun = list(prompt.samples[prompt.num_begun : prompt.num_begun + number])
        prompt.num_begun += len(begun)
        prompt.under_way += len(begun)
        if self._wants_more(prompt):
            self._open.add(index)
        else:
            self._open.discard(index)
        return begun

    def _wants_more(self, prompt: _Prompt) -> bool:
        return bool(self.enough) and prompt.num_begun < len(prompt.samples) and (
            sum(prompt.right.values()) < self.enough)
