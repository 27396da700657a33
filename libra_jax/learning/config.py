"""What a run of reinforcement is told (stages/rl.py)."""

from __future__ import annotations

import dataclasses
from typing import Literal

from libra_jax.judging import curriculum
from libra_jax.learning import looks
from libra_jax.parallel import mesh as meshes
from libra_jax.sampling import engine
from libra_jax.train import run as training
from libra_jax.train.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrpoConfig:
    """The objective (objectives/grpo.py); `length_expected` and `length_maximum` in tokens (judging/reward.py)."""

    normalise: Literal["std", "mean"] = "std"
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_weight: float = 0.0
    importance_cap: float = 2.0
    length_expected: int = 4096
    length_maximum: int = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: folder in Hugging Face format.
    examples: JSON lines of JudgingExample, with labels; may be empty where one of the next two is not.
    judgements: "" for all examples; else JSON lines of Judgement, several an example by the judge that is to learn (as
      `libra reject` and `libra judge` write them): their pass rates choose examples, as `curriculum` says, and order
      them. (Easy first, an epoch passes over the examples that wait for redraws which no step needed.)
    ranking: JSON lines of RankingExample, as `libra curate` makes them; empty: none.
    problems: JSON lines of Problem, with answers, to solve; empty: none.
    weights: of judging, ranking and problems: their shares of the groups, of those three that have a file.
    timeout: seconds after which an answer to a problem is undecided.
    template: a name in judging/prompt.py.
    prompt_length: longer prompts are left out and counted.
    groups: groups a step. redraws: how often a step draws again while groups of equal rewards leave gaps.
    updates: optimizer steps for each draw; more than one makes the data off-policy, which the clips bound.
    sampling: `num_samples` is the group's size; the seed is the train seed's. The objective's log-probabilities are
      taken at its temperature; filters (top_k, top_p) would sample from another policy and are refused.
    sampling_mesh: how the parameters lie while they sample; zeros: as while they train, where devices are shared. New
      ones are laid out by one program on the devices after each step.
    overlap: draw the groups of the next step while this one trains, with the parameters before it (off-policy by one
      step; `grpo.importance_cap` corrects). After each checkpoint of `save_every` the next groups wait for it, so that
      a resumed run is the same run. On one host.
    held_out: JSON lines of labelled JudgingExample of other problems, judged while the run goes on; "": none.
    watch: when that is, and what else can be seen of the run (learning/looks.py).
    sampling_devices: with `overlap`, so many devices draw and the others train; 0: the one device does both.
    """

    checkpoint: str = ""
    examples: str = ""
    judgements: str = ""
    curriculum: curriculum.CurriculumConfig = curriculum.CurriculumConfig()
    ranking: str = ""
    problems: str = ""
    weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    timeout: float = 5.0
    template: str = "libra"
    prompt_length: int = 8192
    groups: int = 32
    redraws: int = 2
    updates: int = 1
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=4096, num_samples=8)
    sampling_mesh: meshes.MeshConfig = meshes.MeshConfig(data=0, fsdp=0, sequence=0, tensor=0)
    overlap: bool = False
    sampling_devices: int = 0
    held_out: str = ""
    watch: looks.WatchConfig = looks.WatchConfig()
    grpo: GrpoConfig = GrpoConfig()
    train: training.TrainConfig = training.TrainConfig(optimizer=OptimizerConfig(learning_rate=1e-6))
