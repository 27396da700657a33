"""LoRA adapters in the files of Hugging Face's PEFT: adapter_config.json and adapter_model.safetensors.

Names and shapes as in "PEFT checkpoint format" of its developer guides: of a Linear that the model calls NAME,
`base_model.model.NAME.lora_A.weight` [R, in] and `.lora_B.weight` [out, R]. It adds lora_alpha / r * B A to the weight.
"""

from __future__ import annotations

import contextlib
import math
import pathlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from libra_jax import records
from libra_jax.model import hf, transfer
from libra_jax.model.config import ModelConfig
from libra_jax.model.lora import LoraConfig
from libra_jax.model.safetensors_io import Writer

_FLOAT32 = np.dtype(np.float32)


def save(path: pathlib.Path, config: ModelConfig, adapters: dict[str, Any], lora: LoraConfig, *, base: str) -> None:
    """Writes both files to the folder `path`, adapter_config.json last; `base` is what it calls the model.

    In a run of several processes all must call it; the first one writes, and all return when it has.
    """
    rows = {row.path: row for row in hf.table(config)}
    tensors, modules = [], []
    for part, pairs in adapters.items():
        for name, pair in pairs.items():
            row = rows["blocks", part, name]
            module = row.name.removesuffix(".weight")
            modules.append(module.rpartition(".")[2])
            for letter, inputs in (("a", row.inputs), ("b", 1)):
                layout = transfer.Layout(shape=pair[letter].shape, stacked=True, inputs=inputs)
                tensors.append((f"base_model.model.model.{module}.lora_{letter.upper()}.weight", layout, pair[letter]))
    every = [(name.format(layer), layout, array, layer) for layer in range(config.num_layers)
             for name, layout, array in tensors]
    shapes = [(name, (math.prod(layout.shape[layout.lead:]), math.prod(layout.shape[1:layout.lead])))
              for name, layout, _, _ in every]
    lead = jax.process_index() == 0
    if lead:
        path.mkdir(parents=True, exist_ok=True)
        (path / "adapter_config.json").unlink(missing_ok=True)
    with Writer(path / "adapter_model.safetensors", shapes, _FLOAT32) if lead else contextlib.nullcontext() as out:
        for name, layout, array, layer in every:
            for unit, units in transfer.fetch(layout, array, layer, _FLOAT32):
                if out:
                    out.write(name, unit * layout.unit, units)
    if lead:
        alpha = int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha
        records.write_json(path / "adapter_config.json", {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": lora.rank,
            "lora_alpha": alpha, "lora_dropout": 0.0, "target_modules": modules, "bias": "none",
            "fan_in_fan_out": False, "use_rslora": False, "inference_mode": True})
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"saved {path}")
