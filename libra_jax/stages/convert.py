r"""Reads a checkpoint in Hugging Face format and writes it again, in another dtype or with other shard sizes.

    libra convert --workdir=DIR --config.checkpoint=IN --config.dtype=bfloat16     # writes DIR/checkpoint
    libra convert --workdir=DIR --config.checkpoint=runs/rl/export --config.report=runs/bench/report.json \
        --config.judge=rl --config.base_model=Qwen/Qwen3-1.7B --config.license=apache-2.0

It goes from file to file and holds a few megabytes, whatever the size of the model. The checkpoint is checked before
anything is written: a file that is cut off, a tensor that is missing, unknown or of another shape than config.json
says ends the job with its name. A killed job, started again, keeps the files that are whole and ends in the same
bytes. Tokenizer files are copied along, and of an export of this package libra.json; its model card is made again, with
the figures of a bench where a report is given.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, Literal

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.command import entry
from libra_jax.model import card, hf, transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: the folder to read, in Hugging Face format.
    dtype: of the weights that are written.
    max_shard_bytes: a larger model is written as several files.
    report, judge: a report.json of `libra bench` and a judge's name in it, whose figures the model card shows.
    base_model, license: what the card's YAML says: OWNER/NAME on the Hub, and a licence's name there.
    """

    checkpoint: Annotated[str, configs.Checkpoint(tokenizer=False)] = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    max_shard_bytes: int = 5_000_000_000
    report: str = ""
    judge: str = ""
    base_model: str = ""
    license: str = ""


def check(config: Config) -> None:
    """ValueError where no checkpoint is named."""
    if not config.checkpoint:
        raise ValueError("--config.checkpoint is empty; expected a folder in Hugging Face format")


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes `workdir`/checkpoint; returns its family, number of parameters, files, and how many of them were there.

    Raises FileNotFoundError or ValueError for what is missing or does not fit, as model/hf.py says, and ValueError when
    the files of an earlier run there come from another checkpoint or config.
    """
    check(config)
    source, target = pathlib.Path(config.checkpoint), workdir / "checkpoint"
    if target.resolve() == source.resolve():
        raise ValueError(f"--config.checkpoint={source} is where the result goes; give another --workdir")
    model = hf.check(source)
    carded = card.known(source)
    if not carded and (config.report or config.base_model or config.license):
        raise ValueError(f"{source}: no {card.NOTE} to make a model card of; it comes with "
                         "exports of libra_jax; leave out --config.report, .base_model and .license")
    if config.report:
        card.figures(pathlib.Path(config.report), config.judge)  # before anything is written
    note = workdir / "checkpoint.config.json"
    if not note.exists() and any(target.glob("*.safetensors")):
        raise ValueError(f"{target}: holds weights that this stage did not write; give another --workdir")
    weights = dataclasses.replace(config, report="", judge="", base_model="", license="")  # the card is made anew
    runs.claim(note, weights, inputs=["checkpoint"])
    written, kept = hf.convert(source, target, dtype=config.dtype, max_shard_bytes=config.max_shard_bytes)
    if carded:
        card.rewrite(target, config.report, config.judge, licence=config.license, base_model=config.base_model)
    files = sorted(file.name for file in target.glob("model*.safetensors"))
    count = transformer.num_parameters(model)
    has_tokenizer = any((target / name).is_file() for name in hf.CARRIED_FILES)
    print(f"{target}: {model.family}, {count:,} parameters in {config.dtype}, {written + kept} "
          f"file{'s' if written + kept > 1 else ''} ({kept} kept from an earlier run)"
          f"{'' if has_tokenizer else '; the checkpoint has no tokenizer files to copy'}")
    return {"family": model.family, "num_parameters": count, "files": files, "num_kept": kept}


def main(argv=None) -> int:
    """Command line: `libra convert`."""
    return entry.main(run, Config(), argv, check=check, writes=("checkpoint/",))


if __name__ == "__main__":
    raise SystemExit(main())
