"""Whether a run fits a TPU, and what it sends between chips: every program compiled for it, on a machine without one.

    libra plan --workdir=DIR --config.model=Qwen/Qwen3-8B --config.topology=v6e:8x8
    libra plan --workdir=DIR --config=configs/libra_rm_8b.py --config.topology=v5e:8x8 --config.programs=rl,decode

Needs libtpu (`pip install 'libra_jax[tpu]'`), and JAX_PLATFORMS=cpu where there is no TPU. Prints a table and writes
plan.md and plan.json. Nothing is run: memory and collectives are the compiler's, floating-point operations a formula's.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from libra_jax import config as configs
from libra_jax import records
from libra_jax.learning import groups
from libra_jax.model import cache as kv_cache
from libra_jax.model import flops, hf, lora, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.model.published import PUBLISHED
from libra_jax.parallel import hlo, rules, topologies
from libra_jax.parallel import mesh as meshes
from libra_jax.sampling import batches, engine, programs
from libra_jax.sampling import store as stores
from libra_jax.stages import rl, sft
from libra_jax.train import optimizer as optimizers
from libra_jax.train import run as training
from libra_jax.train import state as states
from libra_jax.train import step as steps

PROGRAMS = ("sft", "rl", "score", "prefill", "decode")
_GIB = 2**30
_REMEDIES = {
    "parameters": "a larger mesh fsdp or tensor (and a smaller data), or more chips",
    "frozen": "a larger mesh fsdp or tensor (and a smaller data), or more chips",
    "optimizer": "a larger mesh fsdp or tensor (and a smaller data), or more chips",
    "gradients": "a larger mesh fsdp or tensor (and a smaller data), or more chips",
    "activations": "train.remat=full or offload, a larger train.accumulation, a smaller train.logit_chunk, a larger "
                   "mesh sequence or tensor, or shorter rows (sequence_length, or max_new_tokens)",
    "weights": "a larger mesh tensor or fsdp",
    "cache": "sampling.cache_tokens (rows then wait for pages), sampling.cache_dtype=int8, a smaller "
             "sampling.batch_size or max_new_tokens, or a mesh whose tensor divides the kv heads",
    "beside": "more chips: it is what RL keeps while this program runs",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    model: a name in model/published.py, or a folder with a config.json (weights are not read).
    topology: such as v5p:4x4x4, v6e:8x8, v5e:16x16, v4:4x4x4, tpu7x:4x4x4. slices: so many of them, over the network.
    programs: of sft (its step), rl (its step), score (reference and old log-probabilities), and RL's sampling: prefill
      (a chunk of prompts), decode.
    sft, rl: the configs of these stages; sampling is planned on rl's sampling_mesh and sampling_devices.
    """

    model: str = "Qwen/Qwen3-1.7B"
    topology: str = "v6e:8x8"
    slices: int = 1
    programs: tuple[str, ...] = PROGRAMS
    sft: sft.Config = sft.Config()
    rl: rl.Config = rl.Config()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """What is compiled: `function` (jitted) of `arguments` on `mesh`; `terms` are named shares of a device's memory.

    `beside` holds what lies there too while it runs, `flops` and `least_bytes` (of memory, a device) are of one call.
    """

    function: Callable
    arguments: tuple
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    mesh: jax.sharding.Mesh
    terms: dict[str, int]
    inside: dict[str, int] = dataclasses.field(default_factory=dict)
    beside: int = 0
    tokens: int
    flops: float
    least_bytes: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the plan: bytes on a device by term, their total, and whether it fits; `seconds` to compile.

    `least_seconds` of one call at the chip's peak; `temporaries` are the compiler's (activations and gradients), `host`
    those in the host's memory, `aliased` the arguments whose memory the results take over.
    """

    program: str
    terms: dict[str, int]
    total: int
    temporaries: int
    host: int
    aliased: int
    memory: int
    fits: bool
    message: str
    seconds: float
    tokens: int
    flops: float
    least_seconds: float
    collectives: tuple[hlo.Collective, ...]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes plan.md and plan.json to `workdir` and prints the table; returns the plan. ValueError for bad settings."""
    unknown = sorted(set(config.programs) - set(PROGRAMS))
    if unknown or not config.programs:
        raise ValueError(f"programs={','.join(config.programs)!r}: expected some of {', '.join(PROGRAMS)}")
    chip, devices = topologies.chip(config.topology), topologies.devices(config.topology, config.slices)
    shape = find_model(config.model)
    rows = []
    for name in config.programs:
        print(f"plan: compiling {name} for {config.topology}", file=sys.stderr, flush=True)
        train_devices, sampling_devices = rl.devices(config.rl, devices)
        mesh = meshes.make((config.sft if name == "sft" else config.rl).train.mesh,
                           devices if name == "sft" else train_devices)
        program = build(name, config, shape, mesh, groups.sampling_mesh(config.rl, mesh, sampling_devices))
        with jax.set_mesh(program.mesh):
            rows.append(check(name, program, shape, chip, len(devices)))
        print(f"plan: {name}: {'fits' if rows[-1].fits else rows[-1].message}, {rows[-1].seconds:.0f} s",
              file=sys.stderr, flush=True)
    plan = {"model": config.model, "num_parameters": transformer.num_parameters(shape), "topology": config.topology,
            "slices": config.slices, "devices": len(devices), "memory": int(chip.memory), "jax": jax.__version__,
            "config": dataclasses.asdict(config), "programs": [dataclasses.asdict(row) for row in rows]}
    records.write_json(workdir / "plan.json", plan)
    text = "\n".join(table(config, shape, rows, len(devices)))
    records.write_text(workdir / "plan.md", text + "\n")
    print(text)
    return plan


def find_model(name: str) -> ModelConfig:
    """The shape of a published model or of a checkpoint folder. ValueError or FileNotFoundError for neither."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    if not pathlib.Path(name).is_dir():
        raise ValueError(f"model={name!r}: expected a folder with a config.json, or one of {', '.join(PUBLISHED)}")
    return hf.read_config(name)


def build(name: str, config: Config, shape: ModelConfig, mesh: jax.sharding.Mesh,
          sampling: jax.sharding.Mesh | None = None) -> Program:
    """The program `name` of this plan, with abstract arguments laid out over `mesh`, or `sampling` where it samples."""
    stage = config.sft if name == "sft" else config.rl
    model = training.as_trained(shape, stage.train, mesh)
    optimizer = optimizers.make(stage.train.optimizer, stage.train.num_steps)
    adapters = stage.train.lora
    state = states.abstract(model, optimizer, mesh, adapters)
    masters, moments = on_device(state.params), on_device(state.opt_state)
    # What samples, the reference, and what adapters are added to.
    weights = jax.tree.map(_laid, jax.eval_shape(lambda params: transformer.cast(model, params),
                                                 transformer.shapes(model)), transformer.shardings(model, mesh))
    frozen = on_device(weights) if adapters.rank else 0
    reference = on_device(weights) if config.rl.grpo.kl_weight and not frozen else 0
    if name in ("sft", "rl"):
        length, rows = (stage.sequence_length, stage.batch_size) if name == "sft" else _rl_rows(config.rl)
        training.check_rows(rows, stage.train, "rows", ways=_ways(mesh))
        loss = sft.objective(stage) if name == "sft" else rl.objective(stage)
        batch = _batch(mesh, rows, length, _extras(config.rl) if name == "rl" else ())
        return Program(
            function=steps.make(training.objective(loss(model), adapters), optimizer,
                                accumulation=stage.train.accumulation),
            arguments=(state, batch, *([weights] if frozen else [])), mesh=mesh,
            terms={"parameters": masters, "optimizer": moments} | ({"frozen": frozen} if frozen else {}),
            inside={"gradients": masters}, beside=reference if name == "rl" else 0, tokens=rows * length,
            flops=flops.train(model, rows * length, length, lora.num_parameters(model, adapters)))
    kept = masters + moments + frozen + reference
    length, rows = _rl_rows(config.rl)
    if name == "score":
        rows *= config.rl.updates
        batch = {name: value for name, value in _batch(mesh, rows, length).items()
                 if name in ("tokens", "positions", "segment_ids", "loss_mask")}
        return Program(function=rl.scorer(config.rl, model, mesh), arguments=(weights, batch, 1.0), mesh=mesh,
                       terms={"weights": on_device(weights)}, beside=kept - frozen - reference, tokens=rows * length,
                       flops=flops.forward(model, rows * length, length / 2))
    sampling = sampling or mesh
    if sampling is not mesh:
        weights = jax.tree.map(_laid, weights, transformer.shardings(model, sampling))
        kept = kept if set(sampling.devices.flat) == set(mesh.devices.flat) else 0
    return _sampling(name, config.rl, model, sampling, weights, kept)


def _sampling(name: str, config: rl.Config, model: ModelConfig, mesh: jax.sharding.Mesh, weights: Any, kept: int
              ) -> Program:
    """Prefill of a chunk of prompts, or the decode loop of all rows, whose cache is as large as it may become."""
    how = config.sampling
    model = stores.for_devices(model, mesh.devices.flat, mesh.shape["tensor"], how.cache_dtype)
    rows = batches.sizes(how.batch_size, _ways(mesh))[0]
    shape = stores.shapes(rows, _ways(mesh), config.prompt_length, how.max_new_tokens, how.cache_tokens)
    scale = None
    if how.cache_dtype == "int8":
        scale = jnp.ones((model.num_layers, 2, model.num_kv_heads, model.head_size), jnp.float32)
    cache = jax.tree.map(_laid, jax.eval_shape(lambda: kv_cache.init(model, shape.num_pages, how.cache_dtype, scale)),
                         kv_cache.shardings(model, mesh, shape.num_pages, how.cache_dtype))
    size = on_device(cache)

    def array(*dimensions: int, kind=jnp.int32) -> jax.ShapeDtypeStruct:
        axes = ("batch", None)[: len(dimensions)]
        return jax.ShapeDtypeStruct(dimensions, kind, sharding=rules.sharding(mesh, axes, dimensions))

    length = config.prompt_length + how.max_new_tokens
    if name == "prefill":
        number = shape.prompts * shape.chunk
        where = kv_cache.Where(array(shape.prompts, shape.table), array(shape.prompts), array(shape.prompts))
        return Program(function=programs.prefill, arguments=(model, weights, cache, array(shape.prompts, shape.chunk),
                                                             where), mesh=mesh,
                       terms={"weights": on_device(weights), "cache": size}, beside=kept, tokens=number,
                       flops=flops.forward(model, number, config.prompt_length / 2, logits=False))
    state = programs.Rows(array(rows), array(rows), array(rows), array(rows), array(rows, kind=jnp.bool_),
                          array(rows, 2, kind=jnp.uint32), array(rows, shape.table))
    options = engine.decode_options(how, (0,) * 4) | {"limit": programs.SEGMENT, "floor": 0, "tile": 0}
    return Program(function=programs.decode, arguments=(model, weights, state, cache, None), options=options, mesh=mesh,
                   terms={"weights": on_device(weights), "cache": size}, beside=kept, tokens=rows * programs.SEGMENT,
                   flops=flops.forward(model, rows * programs.SEGMENT, length),
                   least_bytes=(on_device(weights) + size) * programs.SEGMENT)


def check(name: str, program: Program, model: ModelConfig, chip: topologies.Chip, devices: int) -> Row:
    """Compiles a program. What does not fit is a row, too; other errors are raised."""
    start = time.monotonic()
    given = sum(program.terms.values()) + program.beside
    try:
        lowered = program.function.lower(*program.arguments, **program.options)
        compiled = lowered.compile(compiler_options=hlo.READABLE)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = _used(str(error))
        temporaries, total = max(0, used - given + program.beside), used + program.beside
        host, aliased, crossing = 0, 0, ()
    else:
        memory = hlo.memory(compiled)
        temporaries, host, aliased = memory.temporaries, memory.host, memory.aliased
        total = memory.total + program.beside
        crossing = tuple(hlo.collectives(compiled.as_text(), model.num_layers))
    inside = {name: min(size, temporaries) for name, size in program.inside.items()}
    terms = program.terms | inside | {"activations": max(0, temporaries - sum(inside.values()))}
    terms |= {"beside": program.beside} if program.beside else {}
    fits = total <= chip.memory
    return Row(program=name, terms=terms, total=total, temporaries=temporaries, host=host, aliased=aliased,
               memory=int(chip.memory),
               fits=fits, message="" if fits else advice(name, terms, total, chip), tokens=program.tokens,
               seconds=time.monotonic() - start, flops=program.flops, collectives=crossing,
               least_seconds=max(program.flops / devices / chip.flops, program.least_bytes / chip.bandwidth))


def advice(name: str, terms: dict[str, int], total: int, chip: topologies.Chip) -> str:
    """What is largest where a program does not fit, and what makes it smaller."""
    largest = sorted(terms, key=terms.get, reverse=True)[:2]
    found = "; ".join(f"{term} {terms[term] / _GIB:.1f} GiB: {_REMEDIES[term]}" for term in largest)
    return f"{name} needs {total / _GIB:.1f} GiB a device of {chip.memory / _GIB:.2f}: the largest are {found}"


def table(config: Config, model: ModelConfig, rows: Sequence[Row], devices: int) -> list[str]:
    """The plan as Markdown: memory, work, and collectives."""
    slices = f", {config.slices} slices" if config.slices > 1 else ""
    lines = [f"**{config.model}** ({transformer.num_parameters(model) / 1e9:.2f} billion parameters) on "
             f"**{config.topology}**{slices}: {devices} devices of {rows[0].memory / _GIB:.2f} GiB", ""]
    names = [term for term in _REMEDIES if any(term in row.terms for row in rows)]
    lines += ["| GiB a device | " + " | ".join(names) + " | total | fits | compiled in |",
              "|---|" + "---|" * (len(names) + 3)]
    for row in rows:
        cells = [f"{row.terms[term] / _GIB:.2f}" if term in row.terms else "" for term in names]
        lines.append(f"| {row.program} | " + " | ".join(cells) + f" | {row.total / _GIB:.2f} | "
                     f"{'yes' if row.fits else '**no**'} | {row.seconds:.0f} s |")
    lines += ["", "| one call | tokens | PFLOP | at least | collectives in the layer loop | outside it |",
              "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row.program} | {row.tokens:,} | {row.flops / 1e15:,.2f} | {row.least_seconds:.2f} s | "
                     f"{_sent(row, True)} | {_sent(row, False)} |")
    return lines + [f"\n{row.message}" for row in rows if row.message]


def on_device(tree: Any) -> int:
    """Bytes that a device holds of abstract arrays with shardings; padding of small tiles is not counted."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _sent(row: Row, in_layers: bool) -> str:
    found = [each for each in row.collectives if each.in_layers == in_layers and each.bytes >= 2**20]
    return ", ".join(f"{each.kind} {each.bytes / _GIB:.2f} GiB" for each in found) or "none of 1 MiB"


def _used(message: str) -> int:
    """Bytes that an out-of-memory error of the TPU compiler speaks of; 0 where it names none."""
    found = re.search(r"(?:Used|temporaries \()\s?([\d.]+)([KMGT])", message)
    return int(float(found.group(1)) * 1024 ** ("KMGT".index(found.group(2)) + 1)) if found else 0


def _ways(mesh: jax.sharding.Mesh) -> int:
    return mesh.shape["data"] * mesh.shape["fsdp"]


def _rl_rows(config: rl.Config) -> tuple[int, int]:
    """(length, number) of the rows of an optimizer step whose samples are all as long as they may be."""
    length = training.round_up(config.prompt_length + config.sampling.max_new_tokens, config.train)
    return length, config.groups * config.sampling.num_samples // config.updates


def _extras(config: rl.Config) -> tuple[str, ...]:
    """What the batch of this RL step holds beside what SFT's has."""
    return ("sampler_logprobs", "advantages", *(["old_logprobs"] if config.updates > 1 else []),
            *(["plain_logprobs"] if config.sampling.temperature != 1 else []),
            *(["reference_logprobs"] if config.grpo.kl_weight else []))


def _batch(mesh: jax.sharding.Mesh, rows: int, length: int, floats: Sequence[str] = ()) -> dict[str, Any]:
    layout = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
    kinds = {"tokens": jnp.int32, "positions": jnp.int32, "segment_ids": jnp.int32, "loss_mask": jnp.bool_}
    batch = {name: jax.ShapeDtypeStruct((rows, length), kind, sharding=layout)
             for name, kind in (kinds | dict.fromkeys(floats, jnp.float32)).items()}
    return batch | {"denominator": jax.ShapeDtypeStruct((), jnp.float32, sharding=jax.NamedSharding(mesh, jax.P()))}


def _laid(leaf: jax.ShapeDtypeStruct, layout: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout)


def main(argv: Sequence[str] | None = None) -> int:
    """`libra plan`; see the module's docstring."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
