"""What --dry_run says of devices and of the lengths of prompts: the first records of a file, rendered."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

from libra_jax import records
from libra_jax.judging.prompt import Template, load_template
from libra_jax.model import hf
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Message
from libra_jax.text import chat, tokenizer

LOOKED = 200  # records that are rendered
Ask = Callable[[Template, Any], Sequence[Message]]


def devices(config: meshes.MeshConfig) -> str:
    """The mesh over the devices that are here. ValueError where they cannot be divided so."""
    mesh = meshes.make(config)
    axes = ", ".join(f"{name}={size}" for name, size in mesh.shape.items() if size > 1) or "one device"
    return f"mesh: {axes}, of {mesh.size} {mesh.devices.flat[0].platform}"


def prompts(config: Any, cls: type, path: str, *, ask: Ask, new_tokens: int = 0, longest: int = 0, limit: str = ""
            ) -> str:
    """As `rendered`, of the records of the file `path`."""
    found = list(itertools.islice(records.read(path, cls, rejected=[], aside=os.devnull), LOOKED))
    return rendered(config, found, f"{path}: prompts", ask=ask, new_tokens=new_tokens, longest=longest, limit=limit)


def rendered(config: Any, some: Sequence[Any], what: str, *, ask: Ask, new_tokens: int = 0, longest: int = 0,
             limit: str = "") -> str:
    """How long records are in tokens of `config.checkpoint`, under `config.template`, in words.

    `longest` is the field named `limit`, above which a stage leaves records out: ValueError where it leaves none. Else
    a prompt and `new_tokens` must fit the model's context: ValueError where the longest does not.
    """
    words, template = tokenizer.load(config.checkpoint), load_template(config.template)
    model = hf.read_config(config.checkpoint)
    lengths = sorted(len(chat.render(words, ask(template, each), open_last=not limit or bool(new_tokens)).tokens)
                     for each in some)
    told = f"{what}: {lengths[0]:,} to {lengths[-1]:,} tokens in the first {len(lengths)}"
    if longest:
        kept = [each for each in lengths if each <= longest]
        if not kept:
            raise ValueError(f"{what}: the shortest of the first {len(lengths)} has {lengths[0]:,} tokens, "
                             f"{limit}={longest:,}; raise it, or give shorter ones")
        told += f", {len(lengths) - len(kept)} of them above {limit}={longest:,}, to be left out"
        lengths = kept
    if lengths[-1] + new_tokens > model.max_length:
        raise ValueError(f"{what}: the longest has {lengths[-1]:,} tokens, and max_new_tokens={new_tokens:,}; together "
                         f"expected at most the model's context of {model.max_length:,}; lower max_new_tokens, or "
                         "leave long records out")
    return told
