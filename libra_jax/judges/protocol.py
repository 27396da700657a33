"""What every judge is: a name, and judgements of examples in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from libra_jax.records import Judgement, JudgingExample


class Judge(Protocol):
    """Judges whether responses are correct; it must not look at `JudgingExample.correct`."""

    @property
    def name(self) -> str:
        """The name that judgements carry."""
        ...

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """Yields judgements in order of examples, and of samples within an example, each named by its example.

        A judge sees all examples at once, since some judge a response by the others to the same problem. `skip` leaves
        out the first judgements of the whole run; those that remain are the same bytes as in the whole run.
        """
