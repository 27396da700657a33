"""How far the engine's log-probabilities are from the trainer's for the same tokens, by dtype and cache.

    python benchmarks/mismatch.py                        # the miniature on generated sums, a minute on 2 cores
    python benchmarks/mismatch.py --checkpoint=FOLDER    # any checkpoint in Hugging Face format

The engine draws solutions at temperature 1; then the trainer's forward pass (transformer.token_logprobs) scores the
same tokens. "of its dtype" is the trainer's pass in the engine's dtype, "of float32" the same in float32.
"""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import numpy as np
from absl import app, flags

from libra_jax.judging.prompt import load_template
from libra_jax.miniature import arithmetic
from libra_jax.model import hf, transformer
from libra_jax.sampling import engine
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers

FLAGS = flags.FLAGS
flags.DEFINE_string("checkpoint", str(pathlib.Path(arithmetic.__file__).parent / "checkpoint"),
                    "A folder in Hugging Face format; default: the miniature.")
flags.DEFINE_string("template", "miniature", "How problems are asked (judging/prompt.py).")
flags.DEFINE_integer("num_prompts", 256, "Problems, one sample each.", lower_bound=1)
flags.DEFINE_integer("max_new_tokens", 64, "Most tokens of a sample.", lower_bound=1)

score = jax.jit(transformer.token_logprobs, static_argnums=0)


def main(_) -> None:
    """Prints a table of mean, 99th percentile and largest difference."""
    words, template = tokenizers.load(FLAGS.checkpoint), load_template(FLAGS.template)
    prompts = [chat.render(words, template.solving(problem.question), open_last=True).tokens
               for problem in arithmetic.problems(0, FLAGS.num_prompts)]
    print(f"{FLAGS.num_prompts} samples of {pathlib.Path(FLAGS.checkpoint).name}; jax {jax.__version__}, "
          f"{jax.devices()[0].device_kind}")
    print(f"{'engine':9} {'cache':9} {'trainer':12} {'mean':>9} {'p99':>9} {'largest':>9}")
    for dtype, cache in (("float32", ""), ("float32", "int8"), ("bfloat16", ""), ("bfloat16", "int8")):
        config, params = hf.load(FLAGS.checkpoint, compute_dtype=dtype)
        how = engine.SamplingConfig(max_new_tokens=FLAGS.max_new_tokens, cache_dtype=cache)
        samples = list(engine.generate(config, transformer.cast(config, params), prompts, how,
                                       stop_ids=words.stop_ids))
        for trainer in dict.fromkeys((dtype, "float32")):
            found = differences(dataclasses.replace(config, dtype=trainer), params, prompts, samples)
            label = "of float32" if trainer != dtype else "of its dtype"
            print(f"{dtype:9} {cache or dtype:9} {label:12} {found.mean():9.1e} {np.quantile(found, 0.99):9.1e} "
                  f"{found.max():9.1e}")


def differences(config, params, prompts, samples) -> np.ndarray:
    """|sampler - trainer| of every sampled token [n]."""
    length = -(-max(len(prompts[sample.prompt]) + len(sample.tokens) for sample in samples) // 64) * 64
    rows, starts = np.zeros((len(samples), length), np.int32), [len(prompts[sample.prompt]) for sample in samples]
    for row, sample, start in zip(rows, samples, starts, strict=True):
        row[: start + len(sample.tokens)] = [*prompts[sample.prompt], *sample.tokens]
    positions = np.broadcast_to(np.arange(length), rows.shape)
    scored = np.asarray(score(config, params, rows, positions=positions))
    return np.concatenate([np.abs(mine[start : start + len(sample.tokens)] - sample.logprobs)
                           for mine, sample, start in zip(scored, samples, starts, strict=True)])


if __name__ == "__main__":
    app.run(main)
