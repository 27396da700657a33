"""Whether a reward has come apart from what it stands for: it rises while accuracy on known answers falls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Divergence:
    """The rule: from the look `window` looks before to the latest one, the reward rose and accuracy fell by more than
    `drop`.

    Two looks are compared and none between, so a fall that is slower than `drop` in `window` looks is not seen: a
    longer window sees slower ones, later. `drop` should be well above the noise of a look's accuracy (of N responses
    its standard error is about 0.5 / sqrt(N)). drop=1 never stops.

    Attributes:
      drop: a fall of accuracy by more than this, while the reward rose, ends the run; 1 never does.
      window: how many looks before the latest one the other one lies.
    """

    drop: float = 0.05
    window: int = 2

    def __post_init__(self):
        if not 0 <= self.drop <= 1 or self.window < 1:
            raise ValueError(f"drop={self.drop}, window={self.window}: expected a share of accuracy from 0 to 1, and "
                             "at least 1 look")


def found(looks: Sequence[tuple[float, float]], rule: Divergence) -> str | None:
    """What the latest of the `looks` (reward, accuracy), in their order, shows against the rule; None: nothing yet.

    Worked: with drop=0.05 and window=2, looks (0.6, 0.6), (0.7, 0.6), (0.8, 0.5) are reported, and not if the last were
    (0.8, 0.56) or (0.6, 0.5).
    """
    if len(looks) <= rule.window:
        return None
    (reward, accuracy), (reward_before, accuracy_before) = looks[-1], looks[-1 - rule.window]
    if not (reward > reward_before and accuracy_before - accuracy > rule.drop):  # NaN: nothing is known
        return None
    return (f"in {rule.window} looks the reward rose from {reward_before:.3f} to {reward:.3f} and held-out accuracy "
            f"fell from {accuracy_before:.3f} to {accuracy:.3f}, by more than {rule.drop:g}")
