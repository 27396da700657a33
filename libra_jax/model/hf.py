"""Hugging Face checkpoints in and out, by one table: their tensor name <-> our path, and how the two are laid out.

Weights stream: from safetensors block by block into their shards, out of them again, or from file to file. The peak on
a host beside the parameters themselves is a few blocks (model/transfer.py), whatever the size of the model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from libra_jax import records
from libra_jax.judging.prompt import NOTE as NOTE
from libra_jax.model import config as configs
from libra_jax.model import safetensors_io, transfer, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.model.safetensors_io import INDEX, Reader, Tensor, Writer
from libra_jax.model.transformer import Params

CARRIED_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                 "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
                 "generation_config.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_PIECE = 2**20  # elements that convert holds at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the table. `inputs` axes of ours are the columns of a torch Linear [out, in]; 0: same axis order."""

    path: tuple[str, ...]
    name: str  # below the prefix ("model."); {} is the layer
    inputs: int = 0


def table(config: ModelConfig) -> tuple[Entry, ...]:
    """Every parameter of this config, in the order of export."""
    attention, feedforward = ("blocks", "attention"), ("blocks", "feedforward")
    rows = [Entry(path=("embedding",), name="embed_tokens.weight"),
            Entry(path=("final_norm", "scale"), name="norm.weight")]
    for letter, inputs in (("q", 1), ("k", 1), ("v", 1), ("o", 2)):
        name = f"layers.{{}}.self_attn.{letter}_proj"
        rows.append(Entry(path=(*attention, letter), name=f"{name}.weight", inputs=inputs))
        if config.output_bias if letter == "o" else config.attention_bias:
            rows.append(Entry(path=(*attention, f"{letter}_bias"), name=f"{name}.bias"))
    for ours in ("q_norm", "k_norm") if config.qk_norm else ():
        rows.append(Entry(path=(*attention, ours, "scale"), name=f"layers.{{}}.self_attn.{ours}.weight"))
    for ours in ("gate", "up", "down"):
        rows.append(Entry(path=(*feedforward, ours), name=f"layers.{{}}.mlp.{ours}_proj.weight", inputs=1))
    norms = {"attention_norm": "input_layernorm", "feedforward_norm": "post_attention_layernorm"}
    if config.post_norms:
        norms = {"attention_norm": "input_layernorm", "attention_post_norm": "post_attention_layernorm",
                 "feedforward_norm": "pre_feedforward_layernorm", "feedforward_post_norm": "post_feedforward_layernorm"}
    for ours, theirs in norms.items():
        rows.append(Entry(path=("blocks", ours, "scale"), name=f"layers.{{}}.{theirs}.weight"))
    if not config.tie_embeddings:
        rows.append(Entry(path=("unembedding",), name="lm_head.weight", inputs=1))
    return tuple(rows)


def read_config(path: str | os.PathLike) -> ModelConfig:
    """The ModelConfig of a checkpoint folder, from its config.json. FileNotFoundError, ValueError."""
    file = pathlib.Path(path) / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a folder in Hugging Face format")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not readable JSON ({error}); download or copy it again") from None
    return configs.from_hf(values)


def load(path: str | os.PathLike, *, dtype: Any = np.float32, mesh: jax.sharding.Mesh | None = None,
         compute_dtype: Literal["float32", "bfloat16"] | None = None,
         remat: Literal["none", "dots", "full"] | None = None,
         block_bytes: int = transfer.BLOCK_BYTES) -> tuple[ModelConfig, Params]:
    """Reads a folder in Hugging Face format (single or sharded safetensors) into parameters of `dtype`.

    With a mesh, each host reads what its devices hold (parallel/rules.py); without, all goes to the first device.
    `compute_dtype` and `remat` set those fields of the config (default: float32, none). A host holds a few blocks
    of `block_bytes` beside the parameters. Everything is checked before the first weight is read; errors name the file,
    the tensor, and the expected and found shape: FileNotFoundError for a missing file, ValueError for what is damaged
    or does not fit.
    """
    path, dtype = pathlib.Path(path), np.dtype(dtype)
    config = read_config(path)
    config = dataclasses.replace(config, dtype=compute_dtype or config.dtype, remat=remat or config.remat)
    shapes = transformer.shapes(config)
    shardings = (transformer.shardings(config, mesh) if mesh is not None else
                 jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.local_devices()[0]), shapes))
    params: Params = {}
    with Reader(path) as files:
        sources = _check(config, files)
        for row in table(config):
            tensors = [sources[_tensor_name(row, "model.", layer)] for layer in _layers(config, row)]
            layout = _layout(row, _get(shapes, row.path).shape)

            def read(layer: int, start: int, stop: int, tensors=tensors, unit=layout.unit) -> np.ndarray:
                return files.read(tensors[layer], start * unit, (stop - start) * unit)

            dtypes = {tensor.dtype for tensor in tensors}  # of one, the devices convert; JAX has no float64
            staged = dtypes.pop() if len(dtypes) == 1 and np.dtype(np.float64) not in dtypes else dtype
            _set(params, row.path, transfer.load(layout, _get(shardings, row.path), dtype, read, staged=staged,
                                                 block_bytes=block_bytes))
    return config, params


def save(path: str | os.PathLike, config: ModelConfig, params: Params, *, dtype: Any = np.float32,
         max_shard_bytes: int = 5_000_000_000, tokenizer_from: str | os.PathLike | None = None,
         files: Mapping[str, str] = types.MappingProxyType({}), block_bytes: int = transfer.BLOCK_BYTES) -> None:
    """Writes config.json, safetensors in `dtype` (one file, or several and an index above `max_shard_bytes`).

    Tokenizer files and generation_config.json are copied from the folder `tokenizer_from`; `files` (name -> text) are
    written over them. config.json is written last, so that a folder which has one is whole. In a run of several
    processes all must call it; the first one writes, and all return when it has. Memory as in `load`. OSError when the
    disk is full, ValueError for a tree that does not fit.
    """
    path, dtype = pathlib.Path(path), _writable(dtype)
    transformer.bind(config, params)  # a tree that does not fit fails here, before anything is written
    lead = jax.process_index() == 0
    if lead:
        path.mkdir(parents=True, exist_ok=True)
        for old in (path / "config.json", *path.glob("model*.safetensors*")):
            old.unlink(missing_ok=True)
    shards = _plan(config, dtype.itemsize, max_shard_bytes)
    for name, shard in shards.items():
        with _writer(path / name, shard, dtype) if lead else contextlib.nullcontext() as out:
            for item in shard:
                array = _get(params, item.row.path)
                layout = _layout(item.row, array.shape)
                for unit, units in transfer.fetch(layout, array, item.layer or 0, dtype, block_bytes=block_bytes):
                    if out:
                        out.write(item.name, unit * layout.unit, units)
    if lead:
        _finish(path, config, shards, dtype, tokenizer_from, files)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"saved {path}")


def convert(source: str | os.PathLike, target: str | os.PathLike, *, dtype: Any, max_shard_bytes: int = 5_000_000_000
            ) -> tuple[int, int]:
    """Writes the checkpoint `source` again as `save` would, from file to file; returns (files written, files kept).

    Goes on where a killed run of the same arguments stopped: files of weights that are whole in `target` are kept.
    Errors as `load` and `save`, and ValueError for a value that `dtype` cannot hold.
    """
    source, target, dtype = pathlib.Path(source), pathlib.Path(target), _writable(dtype)
    config = read_config(source)
    kept = 0
    with Reader(source) as files:
        sources = _check(config, files)
        shards = _plan(config, dtype.itemsize, max_shard_bytes)
        target.mkdir(parents=True, exist_ok=True)
        for name, shard in shards.items():
            if _is_written(target / name, shard, dtype):
                kept += 1
                continue
            (target / "config.json").unlink(missing_ok=True)
            with _writer(target / name, shard, dtype) as out:
                for item in shard:
                    tensor, size = sources[item.name], math.prod(item.shape)
                    for start in range(0, size, _PIECE):
                        piece = files.read(tensor, start, min(_PIECE, size - start))
                        out.write(item.name, start, _rounded(piece, dtype, tensor))
    has_tokenizer = any((source / name).is_file() for name in _TOKENIZERS)
    beside = {name: (source / name).read_text(encoding="utf-8") for name in (NOTE,) if (source / name).is_file()}
    _finish(target, config, shards, dtype, source if has_tokenizer else None, beside)
    return len(shards) - kept, kept


def check(path: str | os.PathLike) -> ModelConfig:
    """The ModelConfig of a checkpoint whose files are whole and fit it, by their headers; errors as `load`."""
    config = read_config(path)
    with Reader(pathlib.Path(path)) as files:
        _check(config, files)
    return config


def copy_tokenizer(source: str | os.PathLike, target: str | os.PathLike) -> tuple[str, ...]:
    """Copies the tokenizer's files (CARRIED_FILES) that `source` holds, and names them.

    FileNotFoundError when it holds no tokenizer.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    found = tuple(name for name in CARRIED_FILES if (source / name).is_file())
    if not set(_TOKENIZERS) & set(found):
        raise FileNotFoundError(f"{source}: holds no tokenizer.json, tokenizer.model or vocab.json to copy")
    for name in found:
        if (source / name).resolve() != (target / name).resolve():
            shutil.copyfile(source / name, target / name)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Item:
    """One tensor of a file to write; `layer` is None where its parameter has no axis of layers."""

    name: str
    row: Entry
    layer: int | None
    shape: tuple[int, ...]


def _plan(config: ModelConfig, itemsize: int, max_bytes: int) -> dict[str, list[_Item]]:
    """File name -> its tensors, layer by layer; a tensor above the limit has a file of its own."""
    rows, shapes = table(config), transformer.shapes(config)
    order = [(row, None) for row in rows if row.path == ("embedding",)]
    order += [(row, layer) for layer in range(config.num_layers) for row in rows if _is_stacked(row)]
    order += [(row, None) for row in rows if not _is_stacked(row) and row.path != ("embedding",)]
    shards: list[list[_Item]] = [[]]
    used = 0
    for row, layer in order:
        shape = _theirs(row, _get(shapes, row.path).shape)
        size = math.prod(shape) * itemsize
        if shards[-1] and used + size > max_bytes:
            shards.append([])
            used = 0
        shards[-1].append(_Item(name=_tensor_name(row, "model.", layer), row=row, layer=layer, shape=shape))
        used += size
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{number:05}-of-{len(shards):05}.safetensors": shard for number, shard in enumerate(shards, 1)}


def _writer(file: pathlib.Path, shard: list[_Item], dtype: np.dtype) -> Writer:
    return Writer(file, [(item.name, item.shape) for item in shard], dtype)


def _is_written(file: pathlib.Path, shard: list[_Item], dtype: np.dtype) -> bool:
    """Whether `file` is there and whole, with these tensors."""
    try:
        found = [(tensor.name, tensor.shape, tensor.dtype) for tensor in safetensors_io.header(file).values()]
    except (FileNotFoundError, ValueError):
        return False
    return found == [(item.name, item.shape, dtype) for item in shard]


def _finish(path: pathlib.Path, config: ModelConfig, shards: dict[str, list[_Item]], dtype: np.dtype,
            tokenizer_from: str | os.PathLike | None,
            files: Mapping[str, str] = types.MappingProxyType({})) -> None:
    """Writes what is beside the weights, config.json last."""
    if len(shards) > 1:
        total = sum(math.prod(item.shape) for shard in shards.values() for item in shard) * dtype.itemsize
        weight_map = {item.name: name for name, shard in shards.items() for item in shard}
        records.write_json(path / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    if tokenizer_from is not None:
        copy_tokenizer(tokenizer_from, path)
    for name, text in files.items():
        records.write_text(path / name, text)
    records.write_json(path / "config.json", {**configs.to_hf(config), "torch_dtype": dtype.name})


def _writable(dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype not in safetensors_io.DTYPES.values():
        names = ", ".join(known.name for known in safetensors_io.DTYPES.values())
        raise ValueError(f"dtype={dtype.name}: weights are not written in it; expected one of {names}")
    return dtype


def _rounded(piece: np.ndarray, dtype: np.dtype, tensor: Tensor) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = piece.astype(dtype, copy=False)
    if dtype == np.float16 and (lost := np.isfinite(piece) & ~np.isfinite(rounded)).any():
        raise ValueError(f"{tensor.file}: tensor {tensor.name!r} holds {piece[lost][0]}, expected at most 65504 for "
                         "float16; use bfloat16")
    return rounded


def _prefix(files: Reader) -> str:
    """What stands before "embed_tokens.weight": "model." or, in multimodal checkpoints, a longer path."""
    for name in files.tensors:
        if name.endswith("embed_tokens.weight"):
            return name.removesuffix("embed_tokens.weight")
    raise ValueError(f"{files.source}: holds no tensor ending in 'embed_tokens.weight'; not a supported decoder")


def _check(config: ModelConfig, files: Reader) -> dict[str, Tensor]:
    """The tensors of `files` by the names that `save` gives them. ValueError for what does not fit config.json."""
    prefix, shapes = _prefix(files), transformer.shapes(config)
    kind = f"family {config.family!r} with {config.num_layers} layers"
    wanted = {_tensor_name(row, prefix, layer): (_tensor_name(row, "model.", layer),
                                                 _theirs(row, _get(shapes, row.path).shape))
              for row in table(config) for layer in _layers(config, row)}
    missing = sorted(wanted.keys() - files.tensors.keys())
    if missing:
        raise ValueError(f"{files.source}: tensor {missing[0]!r} is missing, which {kind} needs ({len(missing)} "
                         "missing in all)")
    for name, tensor in sorted(files.tensors.items()):
        if name in wanted:
            if tensor.shape != wanted[name][1]:
                raise ValueError(f"{tensor.file}: tensor {name!r} has shape {tensor.shape}, expected "
                                 f"{wanted[name][1]} from config.json; they do not belong together")
            tensor.dtype  # noqa: B018 - raises for one that cannot be read
        elif name.startswith(prefix + "layers.") and not name.endswith("rotary_emb.inv_freq"):
            raise ValueError(f"{tensor.file}: tensor {name!r} has no place in {kind}; config.json and the weights do "
                             "not belong together")
    return {ours: files.tensors[name] for name, (ours, _) in wanted.items()}


def _tensor_name(row: Entry, prefix: str, layer: int | None) -> str:
    return row.name if row.path == ("unembedding",) else prefix + row.name.format(layer)


def _is_stacked(row: Entry) -> bool:
    return row.path[0] == "blocks"


def _layers(config: ModelConfig, row: Entry) -> Iterable[int | None]:
    return range(config.num_layers) if _is_stacked(row) else (None,)


def _layout(row: Entry, shape: tuple[int, ...]) -> transfer.Layout:
    return transfer.Layout(shape=shape, stacked=_is_stacked(row), inputs=row.inputs)


def _theirs(row: Entry, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The Hugging Face shape of a parameter of this shape (of one layer of it)."""
    inner = shape[_is_stacked(row):]
    if row.inputs:
        return math.prod(inner[row.inputs:]), math.prod(inner[:row.inputs])
    return (math.prod(inner),) if row.path[-1].endswith("_bias") else inner


def _get(tree: Params, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _set(tree: Params, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
