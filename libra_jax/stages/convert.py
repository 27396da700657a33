"""Reads a checkpoint in Hugging Face format and writes it again, in another dtype or with other shard sizes.

    libra convert --workdir=DIR --config.checkpoint=IN --config.dtype=bfloat16     # writes DIR/checkpoint

The checkpoint is checked on the way: a tensor that is missing, unknown or of another shape than config.json says ends
the job with its name. Tokenizer files are copied along.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Literal

from libra_jax import config as configs
from libra_jax.model import hf, transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """`checkpoint`: the folder to read. `max_shard_bytes`: a larger model is written as several files."""

    checkpoint: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    max_shard_bytes: int = 5_000_000_000


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes `workdir`/checkpoint; returns its family, number of parameters and files.

    Raises FileNotFoundError or ValueError for what is missing or does not fit, as model/hf.py says.
    """
    if not config.checkpoint:
        raise ValueError("--config.checkpoint is empty; expected a folder in Hugging Face format")
    source, target = pathlib.Path(config.checkpoint), workdir / "checkpoint"
    if target.resolve() == source.resolve():
        raise ValueError(f"--config.checkpoint={source} is where the result goes; give another --workdir")
    model_config, params = hf.load(source, dtype=config.dtype)
    has_tokenizer = any((source / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))
    hf.save(target, model_config, params, dtype=config.dtype, max_shard_bytes=config.max_shard_bytes,
            tokenizer_from=source if has_tokenizer else None)
    files = sorted(file.name for file in target.glob("model*.safetensors"))
    count = transformer.num_parameters(model_config)
    print(f"{target}: {model_config.family}, {count:,} parameters in {config.dtype}, {len(files)} "
          f"file{'s' if len(files) > 1 else ''}"
          f"{'' if has_tokenizer else '; the checkpoint has no tokenizer files to copy'}")
    return {"family": model_config.family, "num_parameters": count, "files": files}


def main(argv=None) -> int:
    """Command line: `libra convert`."""
    return configs.main(run, Config(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
