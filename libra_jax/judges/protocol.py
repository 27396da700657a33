"""What every judge is: a name, and judgements of examples in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class Sampler(Judge, Protocol):
    """A judge that draws its judgements, tells how far it is, and can be asked otherwise at no cost."""

    def watched(self, told: bool | Callable[[int, int], None]) -> Sampler:
        """This judge, calling `told`(judgements done, of how many) as it goes; True: it writes a line to stderr every
        few seconds, with rate and time left; False: it tells nothing."""

    def with_settings(self, *, votes: int | None = None, temperature: float | None = None,
                      max_new_tokens: int | None = None, seed: int | None = None) -> Sampler:
        """This judge with other settings; None leaves one as it is."""


def given(**settings: Any) -> dict[str, Any]:
    """The settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}
