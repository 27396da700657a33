"""Hugging Face checkpoints in and out, by one table: their tensor name <-> our path, and how the two are laid out.

Tensors are read slice by slice from safetensors straight into their shards: the peak beside the parameters themselves
is one stacked tensor (all layers of one kind), and of that only what this host's devices hold.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import shutil
from typing import Any, Literal

import jax
import numpy as np
import safetensors
import safetensors.numpy

from libra_jax import records
from libra_jax.model import config as configs
from libra_jax.model import transformer
from libra_jax.model.config import ModelConfig
from libra_jax.model.transformer import Params

CARRIED_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                 "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
                 "generation_config.json")
_INDEX = "model.safetensors.index.json"


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
    return configs.from_hf(json.loads(file.read_text(encoding="utf-8")))


def load(path: str | os.PathLike, *, dtype: Any = np.float32, mesh: jax.sharding.Mesh | None = None,
         compute_dtype: Literal["float32", "bfloat16"] | None = None,
         remat: Literal["none", "dots", "full"] | None = None) -> tuple[ModelConfig, Params]:
    """Reads a folder in Hugging Face format (single or sharded safetensors) into parameters of `dtype`.

    With a mesh, each device reads its own part (parallel/rules.py); without, all goes to the first device.
    `compute_dtype` and `remat` set those fields of the config (default: float32, none). Errors name the file, the
    tensor, and the expected and found shape: FileNotFoundError for a missing file, ValueError for what does not fit.
    """
    path = pathlib.Path(path)
    config = read_config(path)
    config = dataclasses.replace(config, dtype=compute_dtype or config.dtype, remat=remat or config.remat)
    with _Files(path) as files:
        prefix = files.prefix()
        rows = table(config)
        _check_names(config, rows, files, prefix)
        shapes = transformer.shapes(config)
        shardings = (transformer.shardings(config, mesh) if mesh is not None else
                     jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.local_devices()[0]), shapes))
        params: Params = {}
        for row in rows:
            shape = _get(shapes, row.path).shape
            _set(params, row.path, _read(files, row, prefix, shape, _get(shardings, row.path), np.dtype(dtype)))
            files.close()  # gives the mapped pages back, which would count as a second copy
    return config, params


def save(path: str | os.PathLike, config: ModelConfig, params: Params, *, dtype: Any = np.float32,
         max_shard_bytes: int = 5_000_000_000, tokenizer_from: str | os.PathLike | None = None) -> None:
    """Writes config.json, safetensors in `dtype` (one file, or several and an index above `max_shard_bytes`).

    Tokenizer files and generation_config.json are copied from the folder `tokenizer_from`. config.json is written last,
    so that a folder which has one is whole. In a run of several processes all must call it; the first one writes.
    """
    path, dtype = pathlib.Path(path), np.dtype(dtype)
    transformer.bind(config, params)  # a tree that does not fit fails here, before anything is written
    lead = jax.process_index() == 0
    if lead:
        path.mkdir(parents=True, exist_ok=True)
        for old in (path / "config.json", path / _INDEX, *path.glob("model*.safetensors")):
            old.unlink(missing_ok=True)
    shards = _plan(config, params, dtype.itemsize, max_shard_bytes)
    weight_map, total = {}, 0
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {tensor: _export(row, layer, params, dtype) for tensor, row, layer in shard}
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(array.nbytes for array in tensors.values())
        if lead:
            safetensors.numpy.save_file(tensors, path / name, metadata={"format": "pt"})
    if not lead:
        return
    if len(shards) > 1:
        records.write_json(path / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    if tokenizer_from is not None:
        copy_tokenizer(tokenizer_from, path)
    records.write_json(path / "config.json", {**configs.to_hf(config), "torch_dtype": dtype.name})


def copy_tokenizer(source: str | os.PathLike, target: str | os.PathLike) -> tuple[str, ...]:
    """Copies the tokenizer's files (CARRIED_FILES) that `source` holds, and names them.

    FileNotFoundError when it holds no tokenizer.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    found = tuple(name for name in CARRIED_FILES if (source / name).is_file())
    if not {"tokenizer.json", "tokenizer.model", "vocab.json"} & set(found):
        raise FileNotFoundError(f"{source}: holds no tokenizer.json, tokenizer.model or vocab.json to copy")
    for name in found:
        if (source / name).resolve() != (target / name).resolve():
            shutil.copyfile(source / name, target / name)
    return found


class _Files:
    """The open safetensors files of a checkpoint: tensor name -> slices. A context manager."""

    def __init__(self, path: pathlib.Path):
        self.path, self.names, self._open = path, {}, {}
        if (path / _INDEX).is_file():
            self.names = json.loads((path / _INDEX).read_text(encoding="utf-8"))["weight_map"]
            self.source = path / _INDEX
        else:
            files = [path / "model.safetensors"] if (path / "model.safetensors").is_file() else sorted(
                path.glob("*.safetensors"))
            if len(files) != 1:
                raise FileNotFoundError(f"{path}: expected model.safetensors, or {_INDEX} and its shards; found "
                                        f"{[f.name for f in files] or 'no *.safetensors'}; checkpoints in .bin need "
                                        "converting with transformers' save_pretrained first")
            self.source = files[0]
            self.names = dict.fromkeys(self._file(files[0].name).keys(), files[0].name)

    def _file(self, name: str):
        if name not in self._open:
            file = self.path / name
            if not file.is_file():
                raise FileNotFoundError(f"{file}: a shard that {_INDEX} names is missing")
            try:
                self._open[name] = safetensors.safe_open(file, framework="numpy")
            except safetensors.SafetensorError as error:
                raise ValueError(f"{file}: not a readable safetensors file ({error})") from None
        return self._open[name]

    def slices(self, tensor: str):
        """(a sliceable view of the tensor, the file it lies in)."""
        name = self.names[tensor]
        try:
            return self._file(name).get_slice(tensor), self.path / name
        except safetensors.SafetensorError as error:
            raise ValueError(f"{self.path / name}: tensor {tensor!r} cannot be read ({error})") from None

    def prefix(self) -> str:
        """What stands before "embed_tokens.weight": "model." or, in multimodal checkpoints, a longer path."""
        for name in self.names:
            if name.endswith("embed_tokens.weight"):
                return name.removesuffix("embed_tokens.weight")
        raise ValueError(f"{self.source}: holds no tensor ending in 'embed_tokens.weight'; not a supported decoder")

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps every file; they open again when they are read."""
        self._open.clear()


def _tensor_name(row: Entry, prefix: str, layer: int | None) -> str:
    return row.name if row.path == ("unembedding",) else prefix + row.name.format(layer)


def _is_stacked(row: Entry) -> bool:
    return row.path[0] == "blocks"


def _check_names(config: ModelConfig, rows: tuple[Entry, ...], files: _Files, prefix: str) -> None:
    wanted = {_tensor_name(row, prefix, layer) for row in rows
              for layer in (range(config.num_layers) if _is_stacked(row) else (None,))}
    missing = sorted(wanted - files.names.keys())
    if missing:
        raise ValueError(f"{files.source}: tensor {missing[0]!r} is missing, which family {config.family!r} with "
                         f"{config.num_layers} layers needs ({len(missing)} missing in all)")
    for name in sorted(files.names.keys() - wanted):
        if name.startswith(prefix + "layers.") and not name.endswith("rotary_emb.inv_freq"):
            raise ValueError(f"{files.source}: tensor {name!r} has no place in family {config.family!r} with "
                             f"{config.num_layers} layers; config.json and the weights do not belong together")


def _read(files: _Files, row: Entry, prefix: str, shape: tuple[int, ...], sharding: jax.sharding.Sharding,
          dtype: np.dtype) -> jax.Array:
    """One parameter, each device's part read on its own; parts that several devices hold are read once."""
    stacked = _is_stacked(row)
    inner = shape[1:] if stacked else shape
    for layer in range(shape[0]) if stacked else (None,):
        name = _tensor_name(row, prefix, layer)
        view, file = files.slices(name)
        if tuple(view.get_shape()) != _theirs(row, inner):
            raise ValueError(f"{file}: tensor {name!r} has shape {tuple(view.get_shape())}, expected "
                             f"{_theirs(row, inner)} from config.json")
    parts: dict[str, np.ndarray] = {}

    def part(index: tuple[slice, ...]) -> np.ndarray:
        if str(index) not in parts:
            bounds = [range(*s.indices(size)) for s, size in zip(index, shape, strict=True)]
            own = bounds[1:] if stacked else bounds
            out = np.empty([len(b) for b in bounds], dtype)
            for place, layer in enumerate(bounds[0]) if stacked else ((..., None),):
                view, _ = files.slices(_tensor_name(row, prefix, layer))
                out[place] = _take(view, row, inner, own)
            parts[str(index)] = out
        return parts[str(index)]

    return jax.make_array_from_callback(shape, sharding, part)


def _theirs(row: Entry, inner: tuple[int, ...]) -> tuple[int, ...]:
    """The Hugging Face shape of a parameter whose shape (of one layer) is `inner`."""
    if row.inputs:
        return math.prod(inner[row.inputs:]), math.prod(inner[:row.inputs])
    return (math.prod(inner),) if row.path[-1].endswith("_bias") else inner


def _take(view: Any, row: Entry, inner: tuple[int, ...], bounds: list[range]) -> np.ndarray:
    """The part `bounds` (a range for each axis of ours) of one layer's tensor, read as a slice of the file."""
    if not row.inputs:
        if len(view.get_shape()) == len(inner):
            return view[tuple(slice(b.start, b.stop) for b in bounds)]
        return view[:].reshape(inner)[tuple(slice(b.start, b.stop) for b in bounds)]
    groups = []
    for axes in (slice(row.inputs, None), slice(0, row.inputs)):  # rows (outputs), columns (inputs)
        width = math.prod(inner[axes][1:])
        groups.append(slice(bounds[axes][0].start * width, bounds[axes][0].stop * width))
    array = view[groups[0], groups[1]].T
    leads = [len(bounds[0]), *inner[1:row.inputs], len(bounds[row.inputs]), *inner[row.inputs + 1:]]
    rest = [slice(None) if axis in (0, row.inputs) else slice(b.start, b.stop) for axis, b in enumerate(bounds)]
    return array.reshape(leads)[tuple(rest)]


def _plan(config: ModelConfig, params: Params, itemsize: int, max_bytes: int
          ) -> list[list[tuple[str, Entry, int | None]]]:
    """Greedy shards of (tensor name, row, layer), layer by layer; a tensor above the limit has a shard of its own."""
    rows = table(config)
    order = [(row, None) for row in rows if row.path == ("embedding",)]
    order += [(row, layer) for layer in range(config.num_layers) for row in rows if _is_stacked(row)]
    order += [(row, None) for row in rows if not _is_stacked(row) and row.path != ("embedding",)]
    shards: list[list[tuple[str, Entry, int | None]]] = [[]]
    used = 0
    for row, layer in order:
        size = _get(params, row.path).size * itemsize // (config.num_layers if layer is not None else 1)
        if shards[-1] and used + size > max_bytes:
            shards.append([])
            used = 0
        shards[-1].append((_tensor_name(row, "model.", layer), row, layer))
        used += size
    return shards


def _export(row: Entry, layer: int | None, params: Params, dtype: np.dtype) -> np.ndarray:
    array = _get(params, row.path)
    array = array if layer is None else array[layer]
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        from jax.experimental import multihost_utils

        array = multihost_utils.process_allgather(array, tiled=True)
    array = np.asarray(array)
    theirs = _theirs(row, array.shape)
    array = array.reshape(theirs[::-1]).T if row.inputs else array.reshape(theirs)
    return np.ascontiguousarray(array.astype(dtype))


def _get(tree: Params, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _set(tree: Params, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
