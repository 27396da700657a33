"""Reads a checkpoint in Hugging Face format and writes it again, in another dtype or with other shard sizes.

    libra convert --workdir=DIR --config.checkpoint=IN --config.dtype=bfloat16     # writes DIR/checkpoint

It goes from file to file and holds a few megabytes, whatever the size of the model. The checkpoint is checked before
anything is written: a file that is cut off, a tensor that is missing, unknown or of another shape than config.json
says ends the job with its name. A killed job, started again, keeps the files that are whole and ends in the same
bytes. Tokenizer files are copied along.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import Literal

from libra_jax import config as configs
from libra_jax import runs
from libra_jax.judging.prompt import TEMPLATE_FILE
from libra_jax.model import hf, transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """`checkpoint`: the folder to read. `max_shard_bytes`: a larger model is written as several files."""

    checkpoint: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    max_shard_bytes: int = 5_000_000_000


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes `workdir`/checkpoint; returns its family, number of parameters, files, and how many of them were there.

    Raises FileNotFoundError or ValueError for what is missing or does not fit, as model/hf.py says, and ValueError when
    the files of an earlier run there come from another checkpoint or config.
    """
    if not config.checkpoint:
        raise ValueError("--config.checkpoint is empty; expected a folder in Hugging Face format")
    source, target = pathlib.Path(config.checkpoint), workdir / "checkpoint"
    if target.resolve() == source.resolve():
        raise ValueError(f"--config.checkpoint={source} is where the result goes; give another --workdir")
    model = hf.check(source)
    note = workdir / "checkpoint.config.json"
    if not note.exists() and any(target.glob("*.safetensors")):
        raise ValueError(f"{target}: holds weights that this stage did not write; give another --workdir")
    runs.claim(note, config, inputs=["checkpoint"])
    if (source / TEMPLATE_FILE).is_file():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / TEMPLATE_FILE, target / TEMPLATE_FILE)
    written, kept = hf.convert(source, target, dtype=config.dtype, max_shard_bytes=config.max_shard_bytes)
    files = sorted(file.name for file in target.glob("model*.safetensors"))
    count = transformer.num_parameters(model)
    has_tokenizer = any((target / name).is_file() for name in hf.CARRIED_FILES)
    print(f"{target}: {model.family}, {count:,} parameters in {config.dtype}, {written + kept} "
          f"file{'s' if written + kept > 1 else ''} ({kept} kept from an earlier run)"
          f"{'' if has_tokenizer else '; the checkpoint has no tokenizer files to copy'}")
    return {"family": model.family, "num_parameters": count, "files": files, "num_kept": kept}


def main(argv=None) -> int:
    """Command line: `libra convert`."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
