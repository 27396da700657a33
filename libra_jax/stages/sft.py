"""Supervised fine-tuning of a judge on kept judgements: checkpoint + Judgement -> checkpoint.

    libra sft --workdir=DIR --config.checkpoint=FOLDER --config.examples=train.jsonl --config.kept=kept.jsonl

Correct solutions of ordinary problems may be trained on beside them (`solution_share`), each as the chat of
`libra rollout`: its prompt, and the response that the policy gave to it.

Writes export/ (Hugging Face format), metrics.jsonl, tensorboard/ and checkpoints/. A killed run goes on bit for bit.

On several hosts batch number n is the same rows, whatever the number of hosts. For that, each host measures its shard
of the conversations, the lengths (not the tokens) are told to all, and all make the same plan of rows; then each host
renders the rows that it feeds, and no other. Both go through SeqIO, whose shards are disjoint and together everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Annotated, Any

import jax
import numpy as np

from libra_jax import config as configs
from libra_jax import records, runs
from libra_jax.command import entry, lengths
from libra_jax.data import judgements, packing, solutions, tasks
from libra_jax.judges.model import ModelJudge, ModelJudgeConfig
from libra_jax.judging.prompt import Template, load_template
from libra_jax.learning import looks, seen
from libra_jax.model import card, hf, transformer
from libra_jax.model.config import ModelConfig
from libra_jax.objectives import sft
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.sampling import engine
from libra_jax.text import chat
from libra_jax.text import tokenizer as tokenizers
from libra_jax.train import metrics, preemption, watching
from libra_jax.train import optimizer as optimizers
from libra_jax.train import run as training
from libra_jax.train import step as steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Attributes:
    checkpoint: folder in Hugging Face format.
    examples: JSON lines of JudgingExample.
    kept: JSON lines of Judgement on these examples, as `libra reject` keeps them.
    learn: "kept" is all of `kept`, each of which must be right. To see what that is worth: "any", of each example the
      first parsed one, right or wrong (`kept` may then be the judgements.jsonl of `libra reject`), or "labels", the
      labels of all examples without a thought, for a judge that does not think (`kept` is then empty).
    policies: judgements on responses of these policies alone; empty: of all.
    problems, solutions: JSON lines of Problem, and of VerifiedRollout of these problems. Give no problem of the bench.
    solution_share: the part of the conversations trained on that are solutions, 0 for none. Every judgement that fits
      is trained on, and beside them as many correct solutions as make this share, to the nearest whole number: drawn by
      a hash of their names and `train.seed`, of as many problems as there are. It is a share of conversations; that of
      the tokens trained on, which is their part of the loss, is in the summary.
    template: a name in judging/prompt.py.
    sequence_length: tokens of a packed row; longer conversations are left out and counted.
    batch_size: rows a step.
    held_out: JSON lines of labelled JudgingExample of other problems, judged while the run goes on; "": none.
    watch: when that is (learning/looks.py).
    sampling: how the held-out judgements are drawn.
    train: how long, on which mesh, and with which optimizer (train/run.py).
    """

    checkpoint: Annotated[str, configs.Checkpoint()] = ""
    examples: Annotated[str, configs.File(JudgingExample)] = ""
    kept: Annotated[str, configs.File(Judgement)] = ""
    learn: judgements.Learn = "kept"
    policies: tuple[str, ...] = ()
    problems: Annotated[str, configs.File(Problem)] = ""
    solutions: Annotated[str, configs.File(VerifiedRollout)] = ""
    solution_share: float = 0.0
    template: str = "libra"
    sequence_length: int = 4096
    batch_size: int = 16
    held_out: Annotated[str, configs.File(JudgingExample)] = ""
    watch: looks.WatchConfig = looks.WatchConfig()
    sampling: engine.SamplingConfig = engine.SamplingConfig(max_new_tokens=4096)
    train: training.TrainConfig = training.TrainConfig(optimizer=optimizers.OptimizerConfig(learning_rate=1e-5))


def check(config: Config) -> None:
    """ValueError for a path that is missing, a template that is none, or settings that cannot be on these devices."""
    runs.need(config, "checkpoint", "examples", *([] if config.learn == "labels" else ["kept"]))
    if config.learn == "labels" and config.kept:
        raise ValueError(f"learn=labels with kept={config.kept}: labels alone are learned from; leave kept out")
    load_template(config.template)
    training.check(config.batch_size, config.train, "batch_size")
    _check_share(config)


def look(config: Config) -> list[str]:
    """For --dry_run: the devices, and the lengths of the first judgements. ValueError for what does not fit."""
    given = list(records.read(config.examples, JudgingExample, rejected=[], aside=os.devnull))
    kept = list(records.read(config.kept, Judgement, rejected=[], aside=os.devnull)) if config.kept else []
    pairs = {judgement: example for example, judgement in judgements.chosen(
        given, kept, config.learn, config.policies, files=(config.examples, config.kept))[:lengths.LOOKED]}
    return [lengths.devices(config.train.mesh), lengths.rendered(
        config, list(pairs), f"{config.kept}: judgements", longest=config.sequence_length, limit="sequence_length",
        ask=lambda template, each: template.judging_target(pairs[each].question, pairs[each].response, each.thought,
                                                           each.verdict))]


def run(config: Config, workdir: pathlib.Path) -> dict:
    """Trains and exports to `workdir`/export; returns counts and the last metrics. ValueError names what is missing."""
    check(config)
    words, template = tokenizers.load(config.checkpoint), load_template(config.template)
    given, broken = runs.read(config.examples, JudgingExample, workdir)
    kept, also_broken = runs.read(config.kept, Judgement, workdir) if config.kept else ([], 0)
    pairs = judgements.chosen(given, kept, config.learn, config.policies, files=(config.examples, config.kept))
    solved, left_out, broken_solutions = _solved(config, workdir)
    talks = Conversations(words, template, pairs, solved)
    counts = measure(talks, words.vocab_size)
    judged, solving = _trained_on(config, counts, len(pairs), solved)
    fitting = np.concatenate([judged, solving])
    rows = [fitting[members] for members in packing.plan(counts[fitting, 0], config.sequence_length)]
    trained = np.array([counts[members, 1].sum() for members in rows])
    feed = Feed(config, talks, rows, words.vocab_size)

    def batch_at(number: int, params: Any) -> dict:
        del params
        return feed(number) | {"denominator": np.float32(trained[feed.chosen(number)].sum())}

    about = {example.problem_id for example in given} | {problem.id for problem, _ in solved}
    watch, prepare = watched(config, about, words, template, workdir)
    with contextlib.closing(feed):
        last = training.fit(config, objective(config), batch_at, "sft", workdir,
                            inputs=("checkpoint", "examples", "kept", "problems", "solutions", "held_out"), watch=watch,
                            watch_every=config.watch.every, prepare=prepare,
                            about=card.Card(kind="judge", template=template, temperature=config.sampling.temperature,
                                            top_p=config.sampling.top_p, top_k=config.sampling.top_k,
                                            data={"judgements": len(judged), "solutions": len(solving),
                                                  "problems": len({example.problem_id for example, _ in pairs})}))
    if watch:
        looks.draw(workdir, metrics.read(workdir / "metrics.jsonl"))
    summary = {"judgements": len(judged), "too_long": len(pairs) - len(judged),
               "broken_lines": broken + also_broken + broken_solutions, "rows": len(rows)}
    if config.solution_share:
        summary |= {"solutions": len(solving), "judgement_tokens": int(counts[judged, 1].sum()),
                    "solution_tokens": int(counts[solving, 1].sum()),
                    "solutions_left_out": left_out | {"too_long_or_beyond_share": len(solved) - len(solving)}}
    summary |= last | {"path": str(workdir / "export")}
    runs.report(summary)
    return summary


def watched(config: Config, trained: Set[str], words: tokenizers.Tokenizer, template: Template,
            workdir: pathlib.Path) -> tuple[watching.Watch | None, Callable[..., None]]:
    """The watch that `config` asks for, and what binds the model to it before the run. ValueError as looks.slice_of.

    `trained` are the ids of the problems that are trained on.
    """
    if config.watch.thoughts:
        raise ValueError(f"watch.thoughts={config.watch.thoughts}: SFT draws no thoughts to train on; set it to 0")
    judge = ModelJudge(config=ModelJudgeConfig(), model_config=hf.read_config(config.checkpoint), params=None,
                       tokenizer=words, template=template)
    chosen = looks.slice_of(config.held_out, config.watch, trained, judge, workdir, longest=config.sequence_length)
    look = looks.watch(config.watch, config.sampling, chosen, judge, workdir)
    bound: list[tuple[ModelConfig, jax.sharding.Mesh]] = []

    def prepare(model: ModelConfig, params: Any, mesh: jax.sharding.Mesh) -> None:
        del params
        bound[:] = [(model, mesh)]

    if look is None:
        return None, prepare

    def watch(step: int, params: Any, rows: watching.Rows) -> Mapping[str, float]:
        return look(seen.seen(step, params, rows, *bound[0], words.stop_ids, longest=0,
                                 progress=lambda _: preemption.look()))

    return watch, prepare


def objective(config: Config) -> Callable[[ModelConfig], steps.LossFn]:
    """The loss of a step for a model, of batches as packing.pack gives them and a `denominator`."""
    def for_model(model: ModelConfig) -> steps.LossFn:
        def loss(params, batch):
            logprobs = transformer.token_logprobs(model, params, batch["tokens"], positions=batch["positions"],
                                                  segment_ids=batch["segment_ids"], chunk=config.train.logit_chunk,
                                                  wanted=batch["loss_mask"])
            return sft.loss(logprobs, batch["loss_mask"], batch["denominator"])
        return loss

    return for_model


def _check_share(config: Config) -> None:
    solutions.number_beside(1, config.solution_share)
    if config.solution_share:
        runs.need(config, "problems", "solutions")
    elif config.problems or config.solutions:
        raise ValueError("solution_share=0.0: nothing of --config.problems and --config.solutions would be trained on; "
                         "raise it, or leave them out")


def _solved(config: Config, workdir: pathlib.Path
            ) -> tuple[list[tuple[Problem, VerifiedRollout]], dict[str, int], int]:
    """The correct solutions with their problems, counts of the others, and of broken lines.

    ValueError where `solution_share` and the files do not go together.
    """
    _check_share(config)
    if not config.solution_share:
        return [], {}, 0
    listed, broken = runs.read(config.problems, Problem, workdir)
    rollouts, also_broken = runs.read(config.solutions, VerifiedRollout, workdir)
    problems = {problem.id: problem for problem in listed}
    found, stats = solutions.usable(problems, rollouts)
    left_out = {name: count for name, count in dataclasses.asdict(stats).items() if name != "usable"}
    return [(problems[rollout.problem_id], rollout) for rollout in found], left_out, broken + also_broken


def _trained_on(config: Config, counts: np.ndarray, num_pairs: int, solved: Sequence[tuple[Problem, VerifiedRollout]]
                ) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the judgements that fit a row, and of the solutions trained on beside them; `counts` as `measure`.

    ValueError when no judgement fits, or too few solutions do.
    """
    fits = counts[:, 0] <= config.sequence_length
    judged, solving = np.flatnonzero(fits[:num_pairs]), np.flatnonzero(fits[num_pairs:])
    if not len(judged):
        raise ValueError(f"{config.kept}: each of the {num_pairs} conversations is longer than sequence_length="
                         f"{config.sequence_length} tokens; raise it")
    number = solutions.number_beside(len(judged), config.solution_share)
    if number > len(solving):
        most = math.floor(1000 * len(solving) / (len(judged) + len(solving))) / 1000
        raise ValueError(f"solution_share={config.solution_share}: {number} solutions would be needed beside the "
                         f"{len(judged)} judgements, and {config.solutions} has {len(solving)} that are correct, "
                         f"whole, different and of at most sequence_length={config.sequence_length} tokens; give more, "
                         f"or a share of at most {most}")
    chosen = solutions.choose([solved[int(index)][1] for index in solving], number, config.train.seed)
    return judged, num_pairs + solving[chosen]


class Conversations:
    """Kept judgements, then solutions, as int32 tokens [n] and loss_mask [n], each rendered when it is asked for."""

    def __init__(self, words: tokenizers.Tokenizer, template: Template,
                 pairs: Sequence[tuple[JudgingExample, Judgement]],
                 solved: Sequence[tuple[Problem, VerifiedRollout]] = ()):
        self.words, self.template, self.pairs, self.solved = words, template, pairs, solved

    def __len__(self) -> int:
        return len(self.pairs) + len(self.solved)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index < len(self.pairs):
            example, kept = self.pairs[index]
            said = self.template.judging_target(example.question, example.response, kept.thought, kept.verdict)
        else:
            problem, rollout = self.solved[index - len(self.pairs)]
            said = self.template.solving_target(problem.question, rollout.text)
        talk = chat.render(self.words, said)
        return {"tokens": np.array(talk.tokens, np.int32), "loss_mask": np.array(talk.loss_mask, np.int32)}


def measure(talks: tasks.Examples, vocab_size: int) -> np.ndarray:
    """[conversations, 2] int32: tokens of each, and tokens trained on. Each host renders its shard of them."""
    host, hosts = jax.process_index(), jax.process_count()
    counts = np.zeros((len(talks), 2), np.int32)
    mine = tasks.read("judging_sft_lengths", talks, vocab_size, shard=host, num_shards=hosts,
                      features=("tokens", "loss_mask"))
    for place, talk in zip(range(host, len(talks), hosts), mine, strict=True):
        counts[place] = len(talk["tokens"]), talk["loss_mask"].sum()
    return training.over_hosts(counts)


class Feed:
    """This host's rows of each batch, rendered and packed by a SeqIO task that reads ahead.

    Batches are asked for in order; a first one, or one out of order, opens the task anew. `rows` holds the
    conversations of each row.
    """

    def __init__(self, config: Config, talks: tasks.Examples, rows: Sequence[np.ndarray],
                 vocab_size: int):
        self.config, self.talks, self.rows, self.vocab_size = config, talks, rows, vocab_size
        self.shares, self.own = meshes.shares(config.batch_size, meshes.make(config.train.mesh))
        self._stream: Iterator[dict[str, np.ndarray]] = iter(())
        self._next = -1
        # [batch_size] the rows of batch `number`, of all hosts; each row of a batch asks for it.
        self.chosen = functools.lru_cache(maxsize=8)(lambda number: tasks.batch_indices(
            config.train.seed, number, config.batch_size, len(rows)))

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """As packing.pack, [this host's share of the batch, sequence_length]."""
        if number != self._next:
            self._stream = tasks.read("judging_sft", _Turns(self, number), self.vocab_size, shard=self.own,
                                      num_shards=len(self.shares), batch_size=len(self.shares[0]),
                                      features=list(packing.empty(0, 0)))
        self._next = number + 1
        batch = next(self._stream)
        if self._next == self.config.train.num_steps:
            self.close()
        return batch | {"loss_mask": batch["loss_mask"].astype(bool)}

    def close(self) -> None:
        """Closes the task, whose threads must not outlive the run."""
        self._stream = iter(())


class _Turns:
    """The rows of all batches from `first` on, each packed when it is asked for; the hosts' shares take turns."""

    def __init__(self, feed: Feed, first: int):
        self.feed, self.first = feed, first

    def __len__(self) -> int:
        return max(0, self.feed.config.train.num_steps - self.first) * self.feed.config.batch_size

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        feed = self.feed
        batch, place = divmod(place, feed.config.batch_size)
        turn, share = divmod(place, len(feed.shares))
        members = feed.rows[feed.chosen(self.first + batch)[feed.shares[share][turn]]]
        talks = [feed.talks[index] for index in members]
        row = packing.pack([(talk["tokens"], talk["loss_mask"]) for talk in talks], feed.config.sequence_length)
        return {name: value[0].astype(np.int32) for name, value in row.items()}  # what was planned as a row is one


def main(argv=None) -> int:
    """`libra sft`; see the module's docstring."""
    return entry.main(run, Config(), argv, check=check, writes=training.WRITES, look=look)


if __name__ == "__main__":
    raise SystemExit(main())
