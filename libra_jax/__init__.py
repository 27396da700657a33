"""libra_jax: a generative judge of hard mathematics, trained and measured in JAX (arXiv 2507.21645).

What `__all__` names is the stable surface (docs/api.md). It is loaded when it is first used: `import libra_jax` alone
costs no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from libra_jax.judges.scoring import Judge, Scored

_HOMES = {"Judge": "judges.scoring", "Scored": "judges.scoring"}

__all__ = ["Judge", "Scored"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
