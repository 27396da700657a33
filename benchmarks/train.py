"""Useful tokens a second of supervised fine-tuning: libra_jax against a loop of transformers and torch.

    LIBRA_SHARED=/path/to/shared python benchmarks/train.py             # a small Qwen3 on two CPU cores, 10 minutes
    LIBRA_SHARED=/path/to/shared python benchmarks/train.py --preset=1p7b  # a GPU of 80 GB; needs no data

Useful tokens are those of the examples, without padding. Three sides train the same model from the same weights on the
same examples, with the same AdamW, clipping, and loss on the answers' tokens alone:

    transformers   what people write: batches padded to their longest example, attention mask, sdpa, fused AdamW
    unpacked       libra_jax on the same batches, an example a row, padded to a few lengths so that few programs compile
    packed         libra_jax as `libra sft` runs it: rows planned by data/packing.py, fed by the stage's own Feed

`packed` steps hold as many rows as carry `batch_size` examples on average. The ratio packed / transformers is the
result; unpacked / transformers is what does not come from packing, packed / unpacked is what does. Every run is a
process of its own that compiles and warms up before the clock starts, and the sides take turns, so that a machine that
slows down slows all. That all train the same is checked: the loss of the first batch before the first step is equal
within a tolerance, and `unpacked` has the losses of `transformers` in every step; if not, the benchmark exits with 1.

Needs torch and transformers beside libra_jax (the tests' environment has them) and, for its data, LIBRA_SHARED with
data/problems/gsm8k_train.jsonl.gz; --data=synthetic needs none. The tokenizer is a byte-level BPE of 4,096 pieces that
is trained on these problems first (seconds): with one of 32,000 a model this small would spend most of its time in the
softmax, and with the miniature's, of little more than characters, most of it in attention over rows that are long for
their width.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing

import train_report
import train_sides as sides
from absl import app, flags
from train_sides import PRESETS, Setting

SIDES = ("transformers", "unpacked", "packed")
HELP = {
    "num_layers": "Layers of the Qwen3.", "model_size": "Width of its residual stream.", "num_heads": "Query heads.",
    "num_kv_heads": "Key-value heads.", "head_size": "Size of a head.", "feedforward_size": "Width inside a layer.",
    "dtype": "Of the computation; weights and AdamW are float32 on all sides (torch: autocast).",
    "remat": "What gradients compute again (libra_jax.model.config.Remat); torch checkpoints layers unless it is none.",
    "logit_chunk": "Logits that libra_jax holds at a time, as positions of each row; 0: those of an eighth of all.",
    "row_length": "Tokens of a packed row; longer examples are left out on all sides, and counted.",
    "bucket": "Rows of `unpacked` are padded to a multiple of this many tokens.",
    "batch_size": "Examples a step; for `packed` on average.",
    "num_steps": "Steps on the clock of a run.", "warmup": "Steps before the clock starts, after compilation.",
    "learning_rate": "Of AdamW; b1 0.9, b2 0.95, no decay, gradients clipped at norm 1.",
    "data": "gsm8k: questions and answers of GSM8K; synthetic: random tokens, of lengths spread like thoughts are.",
    "tokenizer": "File or folder of another tokenizer for gsm8k, whose size is then the model's; empty: trained on it.",
    "vocab_size": "Pieces of the tokenizer that is trained on gsm8k, or of synthetic tokens.",
}
FLAGS = flags.FLAGS
flags.DEFINE_enum("preset", "small", list(PRESETS), "Where settings without a flag come from: small, for a CPU; 1p7b, "
                  "the shape of Qwen3-1.7B in bfloat16 with rows of 4,096 synthetic tokens, for a GPU.")
for _field in dataclasses.fields(Setting):
    _define = {"int": flags.DEFINE_integer, "float": flags.DEFINE_float}.get(_field.type, flags.DEFINE_string)
    if _field.type.startswith("typing.Literal"):
        flags.DEFINE_enum(_field.name, None, typing.get_args(typing.get_type_hints(Setting)[_field.name]),
                          f"{HELP[_field.name]} Default: the preset's.")
    else:
        _define(_field.name, None, f"{HELP[_field.name]} Default: the preset's.")
flags.DEFINE_integer("repeats", 3, "Runs of each side; they take turns.", lower_bound=1)
flags.DEFINE_integer("cores", 0, "Cores that every side is held to; 0: all. With 1, CPU seconds are work alone: "
                     "threads of torch that wait for each other count as busy.", lower_bound=0)
flags.DEFINE_multi_enum("side", list(SIDES), SIDES, "Which sides run; give it several times.")
flags.DEFINE_bool("compile", False, "Whether the torch side's model goes through torch.compile.")
flags.DEFINE_string("json", "", "A file for all that was measured.")
flags.DEFINE_string("job", "", "For the benchmark itself: the one job that this process does.")
flags.DEFINE_string("folder", "", "For the benchmark itself: where the checkpoint and the examples lie.")


def setting() -> Setting:
    """The preset with the flags that were given."""
    given = {field.name: FLAGS[field.name].value for field in dataclasses.fields(Setting)}
    return dataclasses.replace(PRESETS[FLAGS.preset], **{k: v for k, v in given.items() if v is not None})


def main(argv: list[str]) -> None:
    """Prints the tables; exits with 1 when the sides do not train the same."""
    how = setting()
    if FLAGS.job:
        if FLAGS.cores:  # before torch and XLA count them
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:FLAGS.cores])
        folder = pathlib.Path(FLAGS.folder)
        jobs = {"prepare": lambda: sides.prepare(how, folder),
                "transformers": lambda: sides.transformers(how, folder, FLAGS.compile),
                "unpacked": lambda: sides.libra(how, folder, packed=False),
                "packed": lambda: sides.libra(how, folder, packed=True)}
        print(json.dumps(jobs[FLAGS.job]()))
        return
    with tempfile.TemporaryDirectory(prefix="libra_train_") as folder:
        model = _run("prepare", folder)
        print(f"Qwen3 of {model['parameters']:,} parameters, vocabulary {model['vocab_size']:,}, {how.dtype}; "
              f"{model['examples']} examples of {model['mean_length']:.0f} tokens on average ({model['too_long']} "
              f"longer than {how.row_length} left out); {how.batch_size} a step, {how.num_steps} steps on the clock, "
              f"{FLAGS.repeats} repeats", flush=True)
        runs = {side: [] for side in SIDES if side in FLAGS.side}
        for repeat in range(FLAGS.repeats):
            for side in runs:
                runs[side].append(_run(side, folder))
                print(f"repeat {repeat + 1}: {side:13} {runs[side][-1]['useful'] / runs[side][-1]['seconds']:10,.0f} "
                      "useful tokens/s", flush=True)
    found = {"setting": dataclasses.asdict(how), "model": model, "compile": FLAGS.compile,
             **train_report.summary(runs, model, how), "cores": FLAGS.cores, "runs": runs}
    train_report.show(found)
    if FLAGS.json:
        pathlib.Path(FLAGS.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(int(bool(found["wrong"])))


def _run(job: str, folder: str) -> dict:
    """Does a job in a process of its own, with large memory pages (launch/local.sh) for all sides alike."""
    environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **os.environ}
    root = str(pathlib.Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, *sys.argv, f"--job={job}", f"--folder={folder}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{job} failed with exit status {done.returncode}; what it said is above")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    app.run(main)
