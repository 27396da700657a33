"""libra_jax: a generative judge of hard mathematics, trained and measured in JAX (arXiv 2507.21645).

What `__all__` names is the stable surface (docs/api.md). Each name is loaded when it is first used: `import libra_jax`
costs neither JAX nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers, which read this in place of _HOMES
    from libra_jax.bench.score import Evaluation, evaluate
    from libra_jax.bench.significance import Estimate
    from libra_jax.judges.scoring import Judge, Ranking, Scored
    from libra_jax.judging.prompt import Template
    from libra_jax.records import Judgement, JudgingExample, PreferencePair, Problem, Rollout, VerifiedRollout
    from libra_jax.records import read as read_records
    from libra_jax.records import write as write_records
    from libra_jax.verify.batch import Decision, verify_answer

__version__ = "0.1.0"  # the one place that says so; setup.py reads it here

_HOMES = {
    "judges.scoring": ("Judge", "Scored", "Ranking"),
    "judging.prompt": ("Template",),
    "records": ("Problem", "Rollout", "VerifiedRollout", "JudgingExample", "Judgement", "PreferencePair",
                "read_records", "write_records"),
    "verify.batch": ("verify_answer", "Decision"),
    "bench.score": ("evaluate", "Evaluation"),
    "bench.significance": ("Estimate",),
}
_RENAMED = {"read_records": "read", "write_records": "write"}

__all__ = [
    "Decision",
    "Estimate",
    "Evaluation",
    "Judge",
    "Judgement",
    "JudgingExample",
    "PreferencePair",
    "Problem",
    "Ranking",
    "Rollout",
    "Scored",
    "Template",
    "VerifiedRollout",
    "__version__",
    "evaluate",
    "read_records",
    "verify_answer",
    "write_records",
]


if not TYPE_CHECKING:  # else a checker would let every name pass

    def __getattr__(name: str) -> object:
        """A name of the surface, from the module that holds it (PEP 562)."""
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
        found = getattr(importlib.import_module(f"{__name__}.{home}"), _RENAMED.get(name, name))
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
