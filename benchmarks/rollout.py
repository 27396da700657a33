"""Useful tokens a second of libra_jax's engine, Tunix's sampler and transformers' generate, on the same weights.

    python benchmarks/rollout.py                                      # both workloads, about an hour on 2 cores
    python benchmarks/rollout.py --workload=stops                     # the first alone, minutes
    python benchmarks/rollout.py --tunix_python=ENV/bin/python        # Tunix from an environment of its own
    python benchmarks/rollout.py --preset=1p7b --peer_batch=64,128    # on a GPU: a Qwen3 of 1.7B parameters, bfloat16

Needs torch and transformers (`pip install -e '.[dev]'`) and google-tunix; a sampler that is missing is left out, and
the output says how to get it. Random weights of Qwen3's architecture are written in Hugging Face format and loaded by
all. First each continues a few prompts greedily in float32: other tokens, or log-probabilities that differ by more
than 1e-3, end the benchmark. Then each runs in a process of its own, one after another, under the same environment:
warm-up with the same shapes, then `--runs` runs with other seeds. A run is timed from prompts on the host to tokens on
the host. Useful tokens are those up to the stop token and with it.

Workloads. "stops": 64 prompts, temperature 1, a stop set of 6 in 512 tokens, at most 256 new. "skewed": 512 prompts,
each with a prescribed number of new tokens (lognormal, the longest 20 times the median), no stops, so every sampler
owes exactly the same tokens. The engine takes the prescribed numbers as budgets; the others decode static batches
of `--peer_batch` prompts in the given order until the longest of the batch is done, which they are told beforehand.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import rollout_job
import roofline
from absl import app, flags

from libra_jax.model.config import ModelConfig

FLAGS = flags.FLAGS
flags.DEFINE_enum("workload", "all", ["stops", "skewed", "all"], "Which workload to run.")
flags.DEFINE_list("samplers", ["libra", "tunix", "transformers"], "Which samplers to run, in this order.")
flags.DEFINE_integer("runs", 5, "Measured runs of each sampler.", lower_bound=1)
flags.DEFINE_integer("num_warmups", 2, "Runs before those that are measured; with other seeds.", lower_bound=1)
flags.DEFINE_integer("num_prompts", 0, "Prompts of a workload; 0: 64 of stops, 512 of skewed.", lower_bound=0)
flags.DEFINE_integer("max_new_tokens", 256, "Most new tokens of a prompt in stops.", lower_bound=1)
flags.DEFINE_integer("median_budget", 40, "Median of the prescribed new tokens in skewed.", lower_bound=1)
flags.DEFINE_integer("slots", 64, "Rows that the engine decodes at once (its batch_size).", lower_bound=1)
flags.DEFINE_list("peer_batch", ["64"], "Prompts in a static batch of the others; of several, each sampler is tried "
                                        "with all and measured with its fastest.")
flags.DEFINE_enum("preset", "tiny", ["tiny", "1p7b"], "Model: 4 layers of width 128 in float32, or a 1.7B-shaped "
                                                      "Qwen3 in bfloat16, for a GPU.")
flags.DEFINE_string("tunix_python", sys.executable, "A Python that has google-tunix.")
flags.DEFINE_string("json", "", "A file for the results, with the seconds of every run; empty: none.")
flags.DEFINE_string("make", "", "For the benchmark itself: the folder that this process writes the weights to.")

# Tunix computes with rope_theta 1e6 whatever it is told, so all do. The embedding is not tied: with random weights, a
# tied one continues every prompt with its last token, and the check of equal models would see little.
PRESETS = {
    "tiny": ModelConfig(vocab_size=512, num_layers=4, model_size=128, num_heads=4, num_kv_heads=2, head_size=32,
                        feedforward_size=384, rope_theta=1e6, tie_embeddings=False, max_length=8192),
    "1p7b": ModelConfig(vocab_size=151_936, num_layers=28, model_size=2048, num_heads=16, num_kv_heads=8,
                        head_size=128, feedforward_size=6144, rope_theta=1e6, tie_embeddings=False, max_length=8192,
                        dtype="bfloat16"),
}
SKEW = 20  # the longest budget over the median
TOLERANCE = 1e-3  # of log-probabilities, between samplers
_NUM_CHECKED, _CHECKED_TOKENS = 4, 24
_INSTALL = {
    "tunix": "python -m venv ENV && ENV/bin/pip install google-tunix 'jax>=0.10,<0.11' 'flax>=0.12,<0.13', then give "
             "--tunix_python=ENV/bin/python",
    "transformers": "pip install -e '.[dev]'",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What is asked of every sampler; `budgets` is how many tokens each prompt gets, where that is prescribed."""

    name: str
    prompts: list[list[int]]
    stop_ids: list[int]
    max_new_tokens: int
    budgets: list[int] | None = None

    def line(self, config: ModelConfig) -> str:
        """The workload in words."""
        start = f"{self.name}: {len(self.prompts)} prompts of 16-95 tokens, temperature 1"
        if self.budgets is None:
            return (f"{start}, stop set of {len(self.stop_ids)} of {config.vocab_size} tokens, at most "
                    f"{self.max_new_tokens} new")
        return (f"{start}, prescribed numbers of new tokens: median {statistics.median(self.budgets):g}, longest "
                f"{max(self.budgets)}, {sum(self.budgets):,} in all")


def workload(name: str, config: ModelConfig, *, num_prompts: int, max_new_tokens: int, median_budget: int) -> Workload:
    """A workload for a vocabulary; the same for the same arguments."""
    rng = np.random.default_rng(0)
    # The same share of any vocabulary, so that a model with random weights stops after about as many tokens.
    stop_ids = rng.choice(config.vocab_size, 6 * config.vocab_size // 512, replace=False).tolist()
    words = np.setdiff1d(np.arange(config.vocab_size), stop_ids)
    prompts = [rng.choice(words, size).tolist() for size in rng.integers(16, 96, num_prompts)]
    if name == "stops":
        return Workload(name=name, prompts=prompts, stop_ids=stop_ids, max_new_tokens=max_new_tokens)
    budgets = skewed_budgets(num_prompts, median_budget)
    return Workload(name=name, prompts=prompts, stop_ids=[], max_new_tokens=max(budgets), budgets=budgets)


def skewed_budgets(num_prompts: int, median: int) -> list[int]:
    """Lognormal numbers of new tokens, stretched so that the longest is SKEW times the median."""
    normal = np.random.default_rng(1).standard_normal(num_prompts)
    normal -= np.median(normal)
    sigma = np.log(SKEW) / max(normal.max(), 1e-9)
    return [max(1, round(float(value))) for value in median * np.exp(sigma * normal)]


def make_checkpoint(folder: str, config: ModelConfig) -> None:
    """Writes random weights in Hugging Face format."""
    import jax

    from libra_jax.model import hf, transformer

    hf.save(folder, config, transformer.init(config, key=jax.random.key(0)), dtype=config.dtype)


def do(sampler: str, job: rollout_job.Job, folder: pathlib.Path) -> dict:
    """Runs one sampler's process and returns what it found. RuntimeError with the end of its messages if it failed."""
    file, errors = folder / f"{sampler}.json", folder / f"{sampler}.stderr"
    file.write_text(json.dumps(dataclasses.asdict(job)), encoding="utf-8")
    script = pathlib.Path(__file__).with_name(f"rollout_{sampler}.py")
    with errors.open("w", encoding="utf-8") as stderr:
        done = subprocess.run([_python(sampler), str(script), str(file)], stdout=subprocess.PIPE, stderr=stderr,
                              text=True, check=False, env=_environment(exact=job.check_tokens > 0))
    if done.returncode:
        raise RuntimeError(f"{sampler} failed:\n{errors.read_text(encoding='utf-8')[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def differences(found: dict[str, dict]) -> list[str]:
    """Where samplers' greedy continuations or their log-probabilities differ from those of the first sampler."""
    (first, expected), *others = found.items()
    wrong = []
    for name, result in others:
        for prompt, (ours, theirs) in enumerate(zip(expected["tokens"], result["tokens"], strict=True)):
            gap = float(np.abs(np.subtract(expected["logprobs"][prompt], result["logprobs"][prompt])).max())
            if ours != theirs:
                wrong.append(f"{name} continues prompt {prompt} with {theirs[:8]}..., {first} with {ours[:8]}...")
            elif gap > TOLERANCE:
                wrong.append(f"{name} gives prompt {prompt} log-probabilities that are {gap:.2g} from {first}'s")
    return wrong


HEADER = (f"{'sampler':14} {'batch':>5} {'useful tokens':>13} {'seconds median (min-max)':>25} {'tokens/s':>9} "
          f"{'libra / it':>10}")


def row(name: str, result: dict, ours: dict | None) -> str:
    """The table's line of a sampler, with the ratio of the speed of `ours` to its own, and a line of what it ran on."""
    seconds, speed = result["seconds"], rate(result)
    spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
    ratio = f"{rate(ours) / speed:.2f}" if ours else "-"
    num_useful = statistics.median(map(sum, result["lengths"]))
    tried = "".join(f"; one run of batch {size}: {seconds:.1f} s" for size, seconds in result["tried"].items())
    programs = f"; {result['num_programs']} programs" if "num_programs" in result else ""
    return (f"{name:14} {result['batch_size']:5} {num_useful:13,.0f} {spread:>25} {speed:9,.0f} {ratio:>10}\n"
            f"    {result['versions']}; {result['device']}{programs}; compiled in measured runs: "
            f"{result['num_compiled']}{tried}")


def rate(result: dict) -> float:
    """Useful tokens a second: the median over the runs, each of which has its own number of tokens."""
    return statistics.median(sum(lengths) / seconds
                             for lengths, seconds in zip(result["lengths"], result["seconds"], strict=True))


def share_of_roofline(config: ModelConfig, work: Workload, result: dict) -> str:
    """What part of the time the device's memory needs at least; in words where that is not known."""
    bandwidth = roofline.BANDWIDTH.get(result["device"])
    if bandwidth is None:
        return f"share of the decode roofline: not measured ({result['device']}: no bandwidth in roofline.BANDWIDTH)"
    shares = [roofline.least_bytes(config, [len(prompt) for prompt in work.prompts], lengths, result["batch_size"])
              / bandwidth / seconds for lengths, seconds in zip(result["lengths"], result["seconds"], strict=True)]
    return f"share of the decode roofline at {bandwidth / 1e12:g} TB/s: {statistics.median(shares):.1%}"


def main(argv: list[str]) -> None:
    """Prints a table for each workload; exits with 1 when the samplers do not compute the same model."""
    config = PRESETS[FLAGS.preset]
    if FLAGS.make:
        make_checkpoint(FLAGS.make, config)
        return
    samplers = [name for name in FLAGS.samplers if _is_there(name)]
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="libra_rollout_") as temporary:
        folder = pathlib.Path(temporary)
        subprocess.run([sys.executable, argv[0], f"--make={folder / 'checkpoint'}", f"--preset={FLAGS.preset}"],
                       check=True, env={**_environment(), "JAX_PLATFORMS": "cpu"})
        for name in ("stops", "skewed") if FLAGS.workload == "all" else (FLAGS.workload,):
            work = workload(name, config, num_prompts=FLAGS.num_prompts or {"stops": 64, "skewed": 512}[name],
                            max_new_tokens=FLAGS.max_new_tokens, median_budget=FLAGS.median_budget)
            job = rollout_job.Job(
                checkpoint=str(folder / "checkpoint"), dtype=config.dtype, prompts=work.prompts,
                stop_ids=work.stop_ids, max_new_tokens=work.max_new_tokens, budgets=work.budgets, batch_sizes=[1],
                seeds=list(range(FLAGS.runs)), num_warmups=FLAGS.num_warmups)
            if not found and len(samplers) > 1:
                _check(samplers, job, folder)
            print(f"\n{work.line(config)}; {FLAGS.runs} runs", flush=True)
            peers = sorted({min(int(size), len(work.prompts)) for size in FLAGS.peer_batch})
            print(HEADER, flush=True)
            results = found[name] = {}
            for sampler in samplers:
                sizes = [FLAGS.slots] if sampler == "libra" else peers
                results[sampler] = do(sampler, dataclasses.replace(job, batch_sizes=sizes), folder)
                print(row(sampler, results[sampler], results.get("libra")), flush=True)
                if sampler == "libra":
                    print("    " + share_of_roofline(config, work, results[sampler]), flush=True)
                if FLAGS.json:
                    pathlib.Path(FLAGS.json).write_text(json.dumps({"preset": FLAGS.preset, "workloads": found}),
                                                        encoding="utf-8")


def _check(samplers: list[str], job: rollout_job.Job, folder: pathlib.Path) -> None:
    """Exits unless all samplers compute the same model, in float32 on a few prompts."""
    checked = dataclasses.replace(job, dtype="float32", prompts=job.prompts[:_NUM_CHECKED], budgets=None, stop_ids=[],
                                  check_tokens=_CHECKED_TOKENS)
    wrong = differences({name: do(name, checked, folder) for name in samplers})
    if wrong:
        sys.exit("The samplers do not compute the same model, so nothing was timed:\n" + "\n".join(wrong))
    print(f"{', '.join(samplers)}: the same greedy tokens, and log-probabilities within {TOLERANCE}", flush=True)


def _is_there(name: str) -> bool:
    """Whether a sampler's package is importable in its Python; says how to get it if not."""
    if name == "libra":
        return True
    if name not in _INSTALL:
        raise app.UsageError(f"--samplers: {name!r} is not known; expected some of libra, {', '.join(_INSTALL)}")
    packages = {"tunix": ("tunix",), "transformers": ("transformers", "torch")}[name]
    code = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(name) for name in {packages}))"
    if subprocess.run([_python(name), "-c", code], check=False).returncode == 0:
        return True
    print(f"{name}: not measured, since {' or '.join(packages)} is not installed in its Python. To get it: "
          f"{_INSTALL[name]}", flush=True)
    return False


def _python(sampler: str) -> str:
    return FLAGS.tunix_python if sampler == "tunix" else sys.executable


def _environment(*, exact: bool = False) -> dict[str, str]:
    """The same for all: large pages for large arrays, no network; `exact`: no GPU rounds a product's float32.

    OMP_WAIT_POLICY is for torch: threads that spin while they wait made it ten times slower on a shared machine.
    """
    precision = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"} if exact else {}
    return {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1", **precision}


if __name__ == "__main__":
    app.run(main)
