"""A run's numbers in Weights & Biases too, where a config asks for it; what fails there never stops the training.

The run's id lies in its folder, so that a killed run goes on in the same W&B run. Steps that a resumed run does again
are the same numbers; those that W&B has already it leaves out.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal

from libra_jax import records

NOTE = "wandb.json"  # in the run's folder: {"id": ...}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Weights & Biases (pip install "libra_jax[wandb]"), beside TensorBoard; the first host alone logs.

    Attributes:
      project: its name there; empty: nothing is logged.
      entity: user or team; empty: the account's own.
      name: of the run; empty: its folder's name.
      mode: offline writes to `folder`/wandb, without network or account; `wandb sync` sends it later.
    """

    project: str = ""
    entity: str = ""
    name: str = ""
    mode: Literal["online", "offline"] = "online"


def check(config: WandbConfig) -> None:
    """ValueError where a run is to be logged and wandb is not installed: before the training, which could not say so.
    """
    if config.project and importlib.util.find_spec("wandb") is None:
        raise ValueError(f"train.wandb.project={config.project!r}: wandb is not installed; pip install "
                         '"libra_jax[wandb]", or leave it out')


class Tracker:
    """Logs rows to one W&B run, or, after its first failure, which is told once, nothing more."""

    def __init__(self, config: WandbConfig, folder: pathlib.Path, settings: Mapping[str, Any],
                 say: Callable[[str], None]):
        self._say, self._run = say, None
        try:
            import wandb

            note = folder / NOTE
            if not note.exists():
                records.write_json(note, {"id": secrets.token_hex(8)})
            self._run = wandb.init(
                project=config.project, entity=config.entity or None, name=config.name or folder.resolve().name,
                id=json.loads(note.read_text(encoding="utf-8"))["id"], resume="allow", mode=config.mode,
                dir=str(folder), config=dict(settings),
                settings=wandb.Settings(console="off", disable_code=True, disable_git=True, login_timeout=30,
                                        init_timeout=90, silent=True))
        except Exception as error:  # its own, of its service, of the network; they share no class
            self._failed(error)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one step; what is not finite is left out."""
        if self._run is None:
            return
        try:
            self._run.log({name: value for name, value in values.items() if math.isfinite(value)}, step=step)
        except Exception as error:
            self._failed(error)

    def close(self) -> None:
        """Sends what is left."""
        run, self._run = self._run, None
        if run is not None:
            try:
                run.finish()
            except Exception as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._run = None
        why = " ".join(str(error).split())[:300] or type(error).__name__
        self._say(f"wandb: {why}; the run goes on without it, metrics.jsonl and tensorboard/ have all numbers")
