"""Judges that a user brings: JUDGE in a Python file, or an entry point of GROUP in an installed package.

Either is an object that follows protocol.Judge, and the user's own trusted code: it runs as it is, in this process. On
several hosts it must judge alike on all of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from libra_jax import config as configs
from libra_jax.judges.protocol import Judge
from libra_jax.records import Judgement, JudgingExample, Verdict

GROUP = "libra_jax.judges"  # of entry points


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """As protocol.Judge. A brought judge, each of whose judgements is looked at before it is written down."""

    brought: Judge

    @property
    def name(self) -> str:
        """The name that the judge gives itself."""
        return self.brought.name

    def judge(self, examples: Sequence[JudgingExample], *, skip: int = 0) -> Iterator[Judgement]:
        """As Judge.judge. ValueError for what is no judgement of one of the examples."""
        known, verdicts = {example.id for example in examples}, typing.get_args(Verdict)
        for found in self.brought.judge(examples, skip=skip):
            if not isinstance(found, Judgement) or found.verdict not in verdicts or found.example_id not in known:
                raise ValueError(f"the judge {self.name!r} gave {found!r:.200}; expected a Judgement whose example_id "
                                 f"is an example's and whose verdict is one of {', '.join(verdicts)}")
            yield found


def check(name: str, shipped: Sequence[str]) -> None:
    """ValueError, naming the nearest, for a name that is not `shipped`, no Python file and no entry point."""
    known = [*shipped, *importlib.metadata.entry_points(group=GROUP).names]
    if name in known or name.endswith(".py"):
        return
    near = difflib.get_close_matches(name, known, 1, 0)
    raise ValueError(f"judge={name!r}: the nearest is {near[0]!r} of {', '.join(known)}; a judge of your own is a file "
                     "FILE.py with JUDGE")


def load(name: str) -> Checked:
    """The judge of this file or entry point. ValueError for a file without JUDGE, or what is no judge."""
    if name.endswith(".py"):
        found: Any = getattr(configs.execute(name, "--config.judge"), "JUDGE", None)
    else:
        point = importlib.metadata.entry_points(group=GROUP)[name]
        try:
            found = point.load()
        except Exception as error:
            raise ValueError(f"the judge {name!r} is {point.value} of an installed package, which does not load: "
                             f"{type(error).__name__}: {error}") from error
    if not callable(getattr(found, "judge", None)) or not isinstance(getattr(found, "name", None), str):
        raise ValueError(f"--config.judge={name}: JUDGE is {found!r:.60}; expected an object with a name and a method "
                         "judge(examples, *, skip=0), as libra_jax/judges/protocol.py")
    return Checked(brought=found)
