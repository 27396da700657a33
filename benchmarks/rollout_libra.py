"""libra_jax's engine in benchmarks/rollout.py: slots that take the next prompt when theirs ends."""

from __future__ import annotations

import os

# On a CPU each core is a device of its own, over which rows are spread: what threads are to torch. Small programs gain
# from a schedule without concurrency inside them.
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") +
                           f" --xla_force_host_platform_device_count={len(os.sched_getaffinity(0))}"
                           " --xla_cpu_enable_concurrency_optimized_scheduler=false")

import jax
import rollout_job

from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
from libra_jax.sampling import engine


class Libra:
    """The engine as a stage calls it."""

    def __init__(self, job: rollout_job.Job):
        self.job, self.num_programs = job, 0
        self.mesh = meshes.for_sampling(meshes.MeshConfig(data=-1, fsdp=1))
        self.config, self.params = hf.load(job.checkpoint, mesh=self.mesh, dtype=job.dtype, compute_dtype=job.dtype)

    def greedy(self, num_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        """As rollout_job.Sampler."""
        settings = engine.SamplingConfig(temperature=0.0, max_new_tokens=num_tokens)
        samples = list(engine.generate(self.config, self.params, self.job.prompts, settings, stop_ids=(),
                                       mesh=self.mesh))
        return [sample.tokens.tolist() for sample in samples], [sample.logprobs.tolist() for sample in samples]

    def draw(self, batch_size: int, seed: int) -> list[int]:
        """As rollout_job.Sampler."""
        job = self.job
        settings = engine.SamplingConfig(max_new_tokens=job.max_new_tokens, batch_size=batch_size, seed=seed)
        samples = engine.generate(self.config, self.params, job.prompts, settings, stop_ids=job.stop_ids,
                                  budgets=job.budgets or None, progress=self._count, mesh=self.mesh)
        return [len(sample.tokens) for sample in samples]

    def facts(self) -> dict:
        """As rollout_job.Sampler."""
        return {"versions": f"jax {jax.__version__}", "device": jax.devices()[0].device_kind,
                "num_programs": self.num_programs}

    def _count(self, progress: engine.Progress) -> None:
        self.num_programs = max(self.num_programs, progress.num_programs)


if __name__ == "__main__":
    rollout_job.main(Libra)
