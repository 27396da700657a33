"""Groups of samples for reinforcement: drawn from the current parameters, rewarded, and packed into batches.

Sampling and training share all devices of all hosts, or have some each. Every host gets all samples, in one order,
rewards them alike and packs the same batch, of whose rows it feeds its own share. (So each host reads all prompts:
every device program gets them all.)
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from libra_jax.data import packing
from libra_jax.judging import reward as rewards
from libra_jax.learning import mixture
from libra_jax.learning.config import Config
from libra_jax.learning.seen import Seen, seen
from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import grpo
from libra_jax.parallel import mesh as meshes
from libra_jax.sampling import engine, entrance
from libra_jax.train import preemption, watching
from libra_jax.train import run as training
from libra_jax.train import step as steps

MIN_ROW = 256  # places of a row at least, so that short samples share one


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Samples of one prompt, and their `rewards` float32 [n]; `index` is the prompt's, of all those of the run, and
    `kind` the number of its kind in the mixture."""

    prompt: Sequence[int]
    samples: Sequence[engine.Sample]
    rewards: np.ndarray
    index: int = 0
    kind: int = 0

    @property
    def useful(self) -> bool:
        """Whether the rewards differ: equal ones teach nothing."""
        return np.ptp(self.rewards) > 1e-6


def sampling_mesh(config: Config, mesh: jax.sharding.Mesh, devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
    """How parameters lie over `devices` while they sample; `mesh` is the trainer's."""
    if any(dataclasses.astuple(config.sampling_mesh)):
        return meshes.make(config.sampling_mesh, devices)
    return mesh if set(devices) == set(mesh.devices.flat) else meshes.make(meshes.MeshConfig(), devices)


def to_batch(groups: Sequence[Group], row_step: int, length: int, normalise: str) -> dict[str, np.ndarray]:
    """All samples with their prompts, packed into arrays [rows, length]; `rows` is a multiple of `row_step`.

    As packing.pack, and float32 sampler_logprobs and advantages. The mask marks sampled tokens.
    """
    every = []
    for group in groups:
        values = np.asarray(grpo.advantages(group.rewards[None], normalise=normalise))[0]
        every += [(group.prompt, sample, value) for sample, value in zip(group.samples, values, strict=True)]
    rows = packing.plan([len(prompt) + len(sample.tokens) for prompt, sample, _ in every], length)
    batch = packing.empty(max(-(-len(rows) // row_step), 1) * row_step, length)
    batch |= {name: np.zeros(batch["tokens"].shape, np.float32) for name in ("sampler_logprobs", "advantages")}
    for row, members in enumerate(rows):
        start = 0
        for segment, index in enumerate(members, 1):
            prompt, sample, advantage = every[index]
            mask = np.arange(len(prompt) + len(sample.tokens)) >= len(prompt)
            end = packing.put(batch, row, start, segment, [*prompt, *sample.tokens], mask)
            batch["sampler_logprobs"][row, start + len(prompt) : end] = sample.logprobs
            batch["advantages"][row, start + len(prompt) : end] = advantage
            start = end
    return batch


# (number of a step from 1, the groups that train it), on every host
Show = Callable[[int, Sequence[Group]], None]


def measure(groups: Sequence[Group]) -> dict[str, float]:
    """Mean reward and tokens of a sample, shares of samples cut off and of groups with unequal rewards, and entropy.

    `entropy` is the mean over all sampled tokens of -log p, as the sampler gave p: at temperature 1 an unbiased
    estimate of the policy's entropy a token, in nats; at another one the cross-entropy to the policy at temperature 1.
    """
    samples = [sample for group in groups for sample in group.samples]
    tokens = [len(sample.tokens) for sample in samples]
    return {
        "reward": float(np.concatenate([group.rewards for group in groups]).mean()),
        "tokens": float(np.mean(tokens)),
        "cut_off": float(np.mean([sample.finish == "length" for sample in samples])),
        "useful_groups": float(np.mean([group.useful for group in groups])),
        "entropy": -float(sum(np.sum(sample.logprobs, dtype=np.float64) for sample in samples)) / max(sum(tokens), 1),
    }


class Drawer:
    """Draws groups from the current parameters and rewards them; a pure function of (step number, parameters)."""

    def __init__(self, config: Config, kinds: mixture.Mixture, stop_ids: Sequence[int], scorer: Callable,
                 devices: Sequence[jax.Device], show: Show | None = None):
        """`scorer` (model, mesh) gives a function as stages/rl.py's scorer does; `devices` are those that sample."""
        self.show = show
        self.config, self.mixture, self.prompts, self.stop_ids = config, kinds, kinds.prompts, stop_ids
        self.scorer, self.devices = scorer, list(devices)
        self.ahead: tuple[int, concurrent.futures.Future] | None = None  # a step's number, and its groups to come
        self.thread = concurrent.futures.ThreadPoolExecutor(1, "drawing") if config.overlap else None
        self.closed = threading.Event()
        self.longest = max(map(len, self.prompts)) + config.sampling.max_new_tokens
        self.length = training.round_up(max(self.longest, MIN_ROW), config.train)

    def prepare(self, model: ModelConfig, params: Any, mesh: jax.sharding.Mesh) -> None:
        """Binds the model; keeps its first parameters where the KL term needs a reference."""
        self.model, self.mesh = model, mesh
        self.sampling_mesh = sampling_mesh(self.config, mesh, self.devices)
        self.reference = None
        if self.config.grpo.kl_weight:  # what adapters are added to stays as it is
            self.reference = params if self.config.train.lora.rank else transformer.cast(model, params)
        self.score = self.scorer(model, mesh)
        unit = self.config.updates * mesh.shape["data"] * mesh.shape["fsdp"] * self.config.train.accumulation
        most = self.config.groups * self.config.sampling.num_samples * self.longest / self.length
        self.row_step = math.ceil(most / (8 * unit)) * unit

    def close(self) -> None:
        """Ends what is drawn ahead, at its next look."""
        self.closed.set()
        if self.thread:
            self.thread.shutdown(wait=True, cancel_futures=True)

    def draw(self, params: Any, number: int, again: int, kinds: Sequence[int]
             ) -> tuple[list[Group], dict[str, float]]:
        """Draw `again` of step `number`: a group for each of its prompts of these `kinds`, and what was measured.

        `params` lie as they sample.
        """
        config, turn = self.config, number * (self.config.redraws + 1) + again
        chosen = self.mixture.chosen(config.train.seed, number, again, config.redraws + 1, config.groups, kinds)
        seed = int(np.random.SeedSequence([config.train.seed, turn]).generate_state(1)[0] >> 1)  # fits an int32
        samples = list(engine.generate(
            self.model, params, [self.prompts[i] for i in chosen],
            dataclasses.replace(config.sampling, seed=seed), stop_ids=self.stop_ids, progress=self._look,
            longest=max(map(len, self.prompts)),
            mesh=self.sampling_mesh if self.sampling_mesh.size > 1 else None))
        given, measured = self.mixture.reward([chosen[sample.prompt] for sample in samples], samples)
        limits = config.grpo
        values = np.array([value + rewards.length_term(len(sample.tokens), limits.length_expected,
                                                       limits.length_maximum)
                           for value, sample in zip(given, samples, strict=True)], np.float32)
        size = config.sampling.num_samples
        groups = [Group(self.prompts[prompt], samples[place * size : (place + 1) * size],
                        values[place * size : (place + 1) * size], int(prompt),
                        self.mixture.kind_of(prompt))
                  for place, prompt in enumerate(chosen)]
        measured |= measure(groups)
        if len(self.mixture.kinds) > 1:
            for kind in kinds:
                own = measure([group for group in groups if group.kind == kind])
                measured |= {f"{self.mixture.kinds[kind].name}/{name}": value for name, value in own.items()}
        return groups, measured

    def collect(self, number: int, params: Any) -> tuple[list[Group], dict[str, float]]:
        """Groups of unequal rewards for step `number`, at most its number of each kind, and what was measured.

        Kinds that have too few are drawn again. What was measured is the mean over the draws that it was measured in.
        """
        missing = self.mixture.counts(number, self.config.groups)
        useful: list[Group] = []
        turns: list[dict[str, float]] = []
        while any(missing) and len(turns) <= self.config.redraws:
            groups, measured = self.draw(params, number, len(turns), [kind for kind, few in enumerate(missing) if few])
            turns.append(measured)
            for group in groups:
                if group.useful and missing[group.kind]:
                    useful.append(group)
                    missing[group.kind] -= 1
        names = dict.fromkeys(name for measured in turns for name in measured)
        means = {name: float(np.mean([measured[name] for measured in turns if name in measured])) for name in names}
        return useful, means | {"draws": len(turns)}

    def groups_of(self, number: int, params: Any) -> tuple[list[Group], dict[str, float]]:
        """As `collect`, from the parameters that train; with overlap those of the step before, which it then follows
        with the groups of the next step, drawn beside."""
        weights = entrance.enter(self.model, params, self.sampling_mesh)
        if not self.thread:
            return self.collect(number, weights)
        ahead, self.ahead = self.ahead, None
        behind = ahead is not None and ahead[0] == number
        groups, measured = ahead[1].result() if behind else self.collect(number, weights)
        train, following = self.config.train, number + 1
        if following < train.num_steps and not (train.save_every and following % train.save_every == 0):
            self.ahead = following, self.thread.submit(self.collect, following, weights)
        return groups, measured | {"steps_behind": float(behind)}

    def seen(self, step: int, params: Any, rows: watching.Rows) -> Seen:
        """What a watch is given of the parameters after `step` steps."""
        return seen(step, params, rows, self.model, self.sampling_mesh, self.stop_ids, progress=self._look,
                    longest=max(map(len, self.prompts)), thread=self.thread)

    def _look(self, _: engine.Progress) -> None:
        preemption.look()
        if self.closed.is_set():
            raise RuntimeError("drawing was ended")

    def batch_at(self, number: int, params: Any) -> dict[str, Any]:
        """The batch of step `number`: of its rows, those that this host feeds; and what was measured."""
        config, heat = self.config, self.config.sampling.temperature
        useful, metrics = self.groups_of(number, params)
        if self.show:
            self.show(number + 1, useful)
        batch: dict[str, Any] = to_batch(useful, self.row_step, self.length, config.grpo.normalise)
        if config.updates > 1:  # mix long and short ones over the parts
            order = np.random.default_rng([config.train.seed, number]).permutation(len(batch["tokens"]))
            batch = {name: value[order] for name, value in batch.items()}
        denominator = np.float32(max(batch["loss_mask"].sum() / config.updates, 1))  # of all hosts
        shares, own = meshes.shares(len(batch["tokens"]), self.mesh)
        batch = {name: value[shares[own]] for name, value in batch.items()}
        wanted = {"old_logprobs": (params, heat)} if config.updates > 1 else {}
        wanted |= {"plain_logprobs": (params, 1.0)} if heat != 1.0 else {}
        wanted |= {"reference_logprobs": (self.reference, heat)} if self.reference is not None else {}
        if wanted:
            scored = ("tokens", "positions", "segment_ids", "loss_mask")
            fed = steps.put({name: batch[name] for name in scored}, self.mesh)
            batch |= {name: steps.host_rows(self.score(of, fed, at)) for name, (of, at) in wanted.items()}
        batch["denominator"] = denominator
        return batch | {f"metric/{name}": value for name, value in metrics.items()}
