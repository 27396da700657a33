"""Makes the miniature: a tiny Qwen3-like checkpoint, trained from nothing on arithmetic with errors.

    libra miniature --workdir=DIR

The checkpoint that lies in libra_jax/miniature/checkpoint was made so, with the defaults (see its config.json for the
architecture).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import random
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
import optax

from libra_jax.command import entry
from libra_jax.judging import prompt
from libra_jax.miniature import arithmetic
from libra_jax.model import hf, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import sft
from libra_jax.records import Message
from libra_jax.text import chat, tokenizer

CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
# A response token may be a digit, a word or a bit of punctuation; digits stand alone, as in Qwen's own pattern.
PATTERN = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What the miniature is and how it learns.

    Attributes:
      habits: the failings in the texts that it learns from.
      judging_slip: share of wrong steps in the solutions that it judges.
      unthinking: share of judgements with an empty thought.
      prompt_weight: of the loss on the tokens that it is asked with, from which it learns to copy.
      vocab_size: largest number of tokens.
      num_layers, model_size, num_heads, num_kv_heads, head_size, feedforward_size: the architecture's sizes.
      batch_size: conversations a step.
      num_steps: steps of training.
      learning_rate: the peak.
      seed: of the texts, their order and the first parameters.
    """

    habits: arithmetic.Habits = arithmetic.Habits()
    judging_slip: float = 0.22
    unthinking: float = 0.06
    prompt_weight: float = 0.1
    vocab_size: int = 320
    num_layers: int = 4
    model_size: int = 96
    num_heads: int = 4
    num_kv_heads: int = 2
    head_size: int = 32
    feedforward_size: int = 288
    batch_size: int = 48
    num_steps: int = 3000
    learning_rate: float = 3e-3
    seed: int = 20250721


def make_tokenizer(folder: pathlib.Path, texts: Iterator[str], vocab_size: int) -> None:
    """Trains a byte-level BPE on `texts` and writes tokenizer.json and tokenizer_config.json to `folder`."""
    import tokenizers as hf
    from tokenizers import decoders, models, pre_tokenizers, trainers

    bpe = hf.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(hf.Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(CONTROLS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    folder.mkdir(parents=True, exist_ok=True)
    bpe.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def conversations(seed: int, count: int, habits: arithmetic.Habits, judging_slip: float,
                  unthinking: float) -> Iterator[tuple[Message, ...]]:
    """Alternates solving and judging conversations about problems of the stream `seed`, each with its failings."""
    template = prompt.load_template("miniature")
    for number, problem in enumerate(arithmetic.problems(seed, count)):
        rng = random.Random(f"conversation {seed} {number}")
        if rng.random() < 0.4:
            text, _ = arithmetic.solution(problem.question, rng, slip=habits.slip)
            yield template.solving_target(problem.question, text)
            continue
        text, right = arithmetic.solution(problem.question, rng, slip=judging_slip)
        if rng.random() < unthinking:
            thought, verdict = "", "correct" if right != (rng.random() < habits.guess) else "incorrect"
        else:
            thought, verdict = arithmetic.thought(text, rng, habits)
        yield template.judging_target(problem.question, text, thought, verdict)


def batches(config: Config, words: tokenizer.Tokenizer) -> Iterator[dict[str, np.ndarray]]:
    """Rows of one conversation each, right-padded: tokens, positions, segment_ids int32 and loss_mask bool, [B, T].

    Conversations of similar length share a batch, and T is a multiple of 16, so little of it is padding.
    """
    talks = conversations(config.seed, config.batch_size * config.num_steps, config.habits, config.judging_slip,
                          config.unthinking)
    rng = random.Random(config.seed)
    while pool := [chat.render(words, talk) for talk in itertools.islice(talks, 16 * config.batch_size)]:
        pool.sort(key=lambda talk: len(talk.tokens))
        starts = list(range(0, len(pool), config.batch_size))
        rng.shuffle(starts)
        for start in starts:
            yield _padded(pool[start : start + config.batch_size])


def _padded(talks: list[chat.Rendered]) -> dict[str, np.ndarray]:
    shape = (len(talks), -(-max(len(talk.tokens) for talk in talks) // 16) * 16)
    tokens, segments, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    for row, talk in enumerate(talks):
        size = len(talk.tokens)
        tokens[row, :size], mask[row, :size], segments[row, :size] = talk.tokens, talk.loss_mask, 1
    positions = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
    return {"tokens": tokens, "positions": positions, "segment_ids": segments, "loss_mask": mask}


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Writes the checkpoint, tokenizer included, to `workdir`/checkpoint; returns the last loss and the size."""
    folder = workdir / "checkpoint"
    texts = ["".join(part for message in talk for part in message.content if isinstance(part, str))
             for talk in conversations(config.seed + 1, 2000, config.habits, config.judging_slip, config.unthinking)]
    make_tokenizer(folder, iter(["user\nassistant\n", *texts]), config.vocab_size)
    words = tokenizer.load(folder)
    model = ModelConfig(
        family="qwen3", vocab_size=config.vocab_size, num_layers=config.num_layers, model_size=config.model_size,
        num_heads=config.num_heads, num_kv_heads=config.num_kv_heads, head_size=config.head_size,
        feedforward_size=config.feedforward_size, max_length=512,
        eos_token_ids=(words.eos_id,), pad_token_id=words.pad_id)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, 100, config.num_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=0.01))
    params = transformer.init(model, key=jax.random.key(config.seed))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, batch):
        def loss(params):
            logprobs = transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                                  segment_ids=batch["segment_ids"])
            answered, asked = batch["loss_mask"], (batch["segment_ids"] > 0) & ~batch["loss_mask"]
            return (sft.loss(logprobs, answered, answered.sum())[0]
                    + config.prompt_weight * sft.loss(logprobs, asked, asked.sum())[0])

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    start, value = time.monotonic(), float("nan")
    for number, batch in enumerate(batches(config, words), 1):
        params, state, value = step(params, state, batch)
        if number % 100 == 0:
            left = (time.monotonic() - start) / number * (config.num_steps - number)
            print(f"miniature: step {number}/{config.num_steps}, loss {float(value):.4f}, {left:.0f} s left",
                  file=sys.stderr, flush=True)
    prompt.save_template(folder, prompt.load_template("miniature"))
    hf.save(folder, model, params)
    return {"loss": float(value), "parameters": transformer.num_parameters(model)}


def main(argv=None) -> int:
    """`libra miniature`; see the module's docstring."""
    return entry.main(run, Config(), argv, writes=("checkpoint/",))


if __name__ == "__main__":
    raise SystemExit(main())
