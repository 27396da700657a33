"""The sides that benchmarks/train.py compares, and the model and the examples that they share.

Each function runs in a process of its own; torch and JAX never meet in one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and how; each is a flag too."""

    num_layers: int = 4
    model_size: int = 256
    num_heads: int = 4
    num_kv_heads: int = 2
    head_size: int = 32
    feedforward_size: int = 768
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "none"
    logit_chunk: int = 0
    row_length: int = 512
    bucket: int = 128
    batch_size: int = 16
    num_steps: int = 12
    warmup: int = 2
    learning_rate: float = 1e-3
    data: Literal["gsm8k", "synthetic"] = "gsm8k"
    tokenizer: str = ""
    vocab_size: int = 4096


PRESETS = {
    "small": Setting(),
    "1p7b": Setting(num_layers=28, model_size=2048, num_heads=16, num_kv_heads=8, head_size=128, feedforward_size=6144,
                    dtype="bfloat16", remat="full", logit_chunk=512, row_length=4096, bucket=512, batch_size=8,
                    learning_rate=1e-5, data="synthetic", vocab_size=151_936),
}


def prepare(how: Setting, folder: pathlib.Path) -> dict:
    """Writes the checkpoint and the examples of a run; returns counts."""
    import jax

    from libra_jax.model import flops, hf, transformer
    from libra_jax.model.config import ModelConfig

    wanted = how.batch_size * (how.warmup + how.num_steps)
    examples, vocab_size = synthetic(how, wanted) if how.data == "synthetic" else gsm8k(how, wanted, folder)
    fitting = [example for example in examples if len(example[0]) <= how.row_length][:wanted]
    if len(fitting) < wanted:
        raise ValueError(f"{len(fitting)} examples of at most row_length={how.row_length} tokens, but {wanted} are "
                         "needed; raise row_length, or lower num_steps or batch_size")
    np.savez(folder / "examples.npz", lengths=[len(tokens) for tokens, _ in fitting],
             tokens=np.concatenate([tokens for tokens, _ in fitting]),
             mask=np.concatenate([mask for _, mask in fitting]))
    model = ModelConfig(vocab_size=vocab_size, num_layers=how.num_layers, model_size=how.model_size,
                        num_heads=how.num_heads, num_kv_heads=how.num_kv_heads, head_size=how.head_size,
                        feedforward_size=how.feedforward_size, rope_theta=1e6)
    hf.save(folder / "checkpoint", model, transformer.init(model, key=jax.random.key(0)))
    last = next(place for place, example in enumerate(examples) if example is fitting[-1])
    sizes = [len(tokens) for tokens, _ in fitting]
    return {"parameters": transformer.num_parameters(model), "vocab_size": model.vocab_size, "examples": wanted,
            "too_long": last + 1 - wanted, "mean_length": float(np.mean(sizes)),
            "flops_per_token": sum(flops.train(model, size, size) for size in sizes) / sum(sizes)}


def gsm8k(how: Setting, wanted: int, folder: pathlib.Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """(tokens, loss mask) of questions and answers in the order of the file, and the tokenizer's size."""
    from libra_jax.records import Message
    from libra_jax.text import chat
    from libra_jax.text import tokenizer as tokenizers

    file = pathlib.Path(os.environ.get("LIBRA_SHARED", "shared")) / "data" / "problems" / "gsm8k_train.jsonl.gz"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; set LIBRA_SHARED, or give --data=synthetic")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    if not how.tokenizer:
        train_tokenizer([row["question"] + "\n" + row["answer"] for row in rows], how.vocab_size,
                        folder / "tokenizer.json")
    words = tokenizers.load(how.tokenizer or folder / "tokenizer.json")
    examples = []
    for row in rows[:wanted + wanted // 2]:  # some are too long
        talk = chat.render(words, [Message(role="user", content=(row["question"],)),
                                   Message(role="assistant", content=(row["answer"],))])
        examples.append((np.array(talk.tokens, np.int32), np.array(talk.loss_mask, bool)))
    return examples, words.vocab_size


def train_tokenizer(texts: list[str], vocab_size: int, file: pathlib.Path) -> None:
    """Writes a byte-level BPE of `texts`, with Qwen's control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    words.save(str(file))


def synthetic(how: Setting, wanted: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Random tokens; lengths are log-normal around 0.3 of a row, a quarter of each is the question."""
    rng, size = np.random.default_rng(0), how.vocab_size
    lengths = np.clip(how.row_length * 0.3 * rng.lognormal(sigma=0.6, size=wanted), 16, how.row_length).astype(int)
    return [(rng.integers(0, size, n, np.int32), np.arange(n) >= n // 4) for n in lengths], size


def examples_of(folder: pathlib.Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `prepare` wrote: (tokens, loss mask) of each example, in order."""
    held = np.load(folder / "examples.npz")
    ends = np.cumsum(held["lengths"])[:-1]
    return list(zip(np.split(held["tokens"], ends), np.split(held["mask"], ends), strict=True))


def timed(how: Setting, one_step: Callable[[int], tuple[float, int, int]], device: str) -> dict:
    """Runs all steps. `one_step(number)` gives (loss, useful tokens, places that were computed)."""
    done = [one_step(number) for number in range(how.warmup)]
    start, cpu = time.perf_counter(), time.process_time()
    done += [one_step(number) for number in range(how.warmup, how.warmup + how.num_steps)]
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    losses, useful, places = zip(*done, strict=True)
    return {"seconds": seconds, "useful": sum(useful[how.warmup:]), "places": sum(places[how.warmup:]),
            "losses": losses, "device": device, "cpu_seconds": cpu}


def libra(how: Setting, folder: pathlib.Path, packed: bool) -> dict:
    """The step of `libra sft` (its loss, its optimizer, its feed) on packed rows or on padded batches."""
    import jax

    from libra_jax.data import packing
    from libra_jax.model import hf
    from libra_jax.parallel import mesh as meshes
    from libra_jax.stages import sft
    from libra_jax.train import optimizer as optimizers
    from libra_jax.train import run as training
    from libra_jax.train import state as states
    from libra_jax.train import step as steps

    total, examples = how.warmup + how.num_steps, examples_of(folder)
    sizes = np.array([len(tokens) for tokens, _ in examples])
    plan = [np.array(members) for members in packing.plan(sizes, how.row_length)]
    train = training.TrainConfig(num_steps=total, compute_dtype=how.dtype, remat=how.remat, logit_chunk=how.logit_chunk,
                                 optimizer=optimizers.OptimizerConfig(learning_rate=how.learning_rate))
    config = sft.Config(sequence_length=how.row_length, train=train,
                        batch_size=max(1, round(how.batch_size * len(plan) / len(examples))))
    mesh = meshes.make(train.mesh)
    model, params = hf.load(folder / "checkpoint", mesh=mesh)
    model = training.as_trained(model, train, mesh)
    loss = sft.objective(config)(model)
    optimizer = optimizers.make(train.optimizer, total)
    step = steps.make(loss, optimizer)

    def counted(batch: dict) -> dict:
        return batch | {"denominator": np.float32(batch["loss_mask"].sum())}

    def padded(number: int) -> dict:
        chosen = examples[number * how.batch_size:(number + 1) * how.batch_size]
        length = -(-max(len(tokens) for tokens, _ in chosen) // how.bucket) * how.bucket
        batch = packing.empty(len(chosen), length)
        for row, (tokens, mask) in enumerate(chosen):
            packing.put(batch, row, 0, 1, tokens, mask)
        return counted(batch)

    talks = [{"tokens": tokens, "loss_mask": mask.astype(np.int32)} for tokens, mask in examples]
    feed = sft.Feed(config, talks, plan, model.vocab_size)
    batch_at = (lambda number: counted(feed(number))) if packed else padded
    with jax.set_mesh(mesh), contextlib.closing(feed):
        whole = counted(packing.pack(examples[:how.batch_size], how.row_length)) if packed else padded(0)
        whole = steps.put(whole, mesh)
        loss_of = jax.jit(lambda params: loss(params, whole)[0])
        before = float(loss_of(params))
        start = time.perf_counter()
        one_of_each = [batch_at(0)] if packed else {b["tokens"].shape: b for b in map(padded, range(total))}.values()
        for batch in one_of_each:
            jax.block_until_ready(step(states.create(model, params, optimizer, mesh), steps.put(batch, mesh)))
        compiling = time.perf_counter() - start
        state = states.create(model, params, optimizer, mesh)
        del params

        def one_step(number: int) -> tuple[float, int, int]:
            nonlocal state
            batch = batch_at(number)
            state, metrics = step(state, steps.put(batch, mesh))
            values = jax.device_get(metrics)
            return float(values["loss"]), int((batch["segment_ids"] > 0).sum()), batch["tokens"].size

        found = timed(how, one_step, jax.devices()[0].device_kind)
        return found | {"before": before, "after": float(loss_of(state.params)), "compiling": compiling,
                        "programs": len(one_of_each), "rows": config.batch_size if packed else how.batch_size}


def transformers(how: Setting, folder: pathlib.Path, compiled: bool) -> dict:
    """A plain loop of torch: pad to the longest of the batch, forward with labels, backward, clip, AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint", dtype=torch.float32, attn_implementation="sdpa")
    model.to(device).train()
    model.config.use_cache = False
    if how.remat != "none":
        model.gradient_checkpointing_enable()
    run = torch.compile(model, dynamic=True) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=how.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0,
                                  fused=True)
    examples = examples_of(folder)

    def batch_at(number: int) -> dict:
        chosen = examples[number * how.batch_size:(number + 1) * how.batch_size]
        shape = (len(chosen), max(len(tokens) for tokens, _ in chosen))
        ids, labels, seen = np.zeros(shape, np.int64), np.full(shape, -100, np.int64), np.zeros(shape, np.int64)
        for row, (tokens, mask) in enumerate(chosen):
            ids[row, :len(tokens)], seen[row, :len(tokens)] = tokens, 1
            labels[row, :len(tokens)] = np.where(mask, tokens, -100)
        arrays = {"input_ids": ids, "labels": labels, "attention_mask": seen}
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}

    def loss_of(batch: dict) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=how.dtype == "bfloat16"):
            return run(**batch).loss

    def one_step(number: int) -> tuple[float, int, int]:
        batch = batch_at(number)
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item(), int(batch["attention_mask"].sum()), batch["attention_mask"].numel()

    with torch.no_grad():
        before = loss_of(batch_at(0)).item()
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    found = timed(how, one_step, name)
    with torch.no_grad():
        after = loss_of(batch_at(0)).item()
    return found | {"before": before, "after": after, "compiling": 0.0, "programs": 0, "rows": how.batch_size}
