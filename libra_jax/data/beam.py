"""Curation under Apache Beam, for more responses than one machine holds: the functions of judging/v2v.py in a pipeline.

    rollouts --by problem--> join --by question--> of_question --rows, no texts--> choose (one worker)
                                        |                                            |
                                        +--examples----------------------> keep <----+ --by hash range--> sorted shards

What `of_question` compares a question with (the questions of the bench) and what `choose` keeps are side inputs. Texts
of responses stay with the workers; questions and rows (half a kilobyte a response) fit one. Imports Beam when called.
"""

from __future__ import annotations

import collections
import difflib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from libra_jax import records
from libra_jax.judging import card, questions, v2v
from libra_jax.judging.balance import Row, Tally
from libra_jax.records import JudgingExample, Problem, VerifiedRollout

SIDES = ("train", "bench")


def curate(problems: Sequence[str], rollouts: Sequence[tuple[str, str]], config: v2v.V2VConfig, bench_fraction: float,
           folder: pathlib.Path, options: Sequence[str]) -> None:
    """Splits and curates files of records; shards and counts go to `folder`, which every worker sees.

    Writes train-NNNNN.jsonl and bench-NNNNN.jsonl, whose lines one after the other are those of `v2v.curate`;
    train.json and bench.json (`card.counts`); and unknown.json, the number of rollouts of unknown problems.

    Args:
      problems: files of Problem, which `v2v.split` accepts.
      rollouts: files of VerifiedRollout, each with the file to which its broken lines go. A worker reads a whole file.
      options: of the pipeline, such as "runner=DirectRunner" and "direct_num_workers=2".

    Raises:
      ValueError: Beam is not installed, or has no such option.
    """
    beam = _load()
    num_shards = max(16, len(rollouts))
    with beam.Pipeline(options=_options(options)) as pipeline:
        asked = (pipeline | "problem files" >> beam.Create(list(problems))
                 | "read problems" >> beam.FlatMap(_read, Problem))
        given = (pipeline | "rollout files" >> beam.Create(list(rollouts)) | "spread" >> beam.Reshuffle()
                 | "read rollouts" >> beam.FlatMap(_read_aside, VerifiedRollout))
        held_out = asked | "bench questions" >> beam.FlatMap(_held_out, bench_fraction, config.seed)
        index = (held_out | "list" >> beam.combiners.ToList()
                 | "index" >> beam.Map(questions.Index, ngram=config.ngram, overlap=config.overlap))
        joined = ({"problems": asked | "problem id" >> beam.Map(lambda problem: (problem.id, problem)),
                   "rollouts": given | "its problem" >> beam.Map(lambda rollout: (rollout.problem_id, rollout))}
                  | beam.CoGroupByKey() | "join" >> beam.FlatMap(_join, bench_fraction, config.seed).with_outputs(
                      "unknown", main="known"))
        _ = (joined.unknown | "count" >> beam.CombineGlobally(sum)
             | "unknown" >> beam.Map(lambda count: records.write_json(folder / "unknown.json", count)))
        parts = (joined.known | "of one question" >> beam.GroupByKey()
                 | "question rules" >> beam.Map(_of_question, config, beam.pvalue.AsSingleton(index)))
        empty = pipeline | "sides" >> beam.Create([(side, ((), (), {}, {})) for side in SIDES])
        chosen = ((parts | "rows" >> beam.Map(_brief), empty) | beam.Flatten() | "of one set" >> beam.GroupByKey()
                  | "set rules" >> beam.Map(_choose, config, folder))
        _ = (parts | "keep" >> beam.FlatMap(_keep, num_shards, beam.pvalue.AsDict(chosen))
             | "of one shard" >> beam.GroupByKey() | "write" >> beam.Map(_write, folder))


def _read(path: str, cls: type, aside: str = os.devnull) -> Iterator[Any]:
    return records.read(path, cls, rejected=[], aside=aside)


def _read_aside(file: tuple[str, str], cls: type) -> Iterator[Any]:
    return _read(file[0], cls, file[1])


def _held_out(problem: Problem, bench_fraction: float, seed: int) -> Iterator[str]:
    if v2v.in_bench(problem.question, bench_fraction, seed):
        yield problem.question


def _join(element: tuple[str, Mapping[str, Iterable]], bench_fraction: float, seed: int) -> Iterator[Any]:
    """((side, question key), (problem, its rollouts)), or the number of rollouts of an unknown problem."""
    beam = _load()
    problem, rollouts = next(iter(element[1]["problems"]), None), list(element[1]["rollouts"])
    if problem is None:
        yield beam.pvalue.TaggedOutput("unknown", len(rollouts))
    elif rollouts:
        side = SIDES[v2v.in_bench(problem.question, bench_fraction, seed)]
        yield (side, v2v.question_key(problem.question)), (problem, rollouts)


def _of_question(element: tuple[tuple[str, str], Iterable[tuple[Problem, list[VerifiedRollout]]]],
                 config: v2v.V2VConfig, bench: questions.Index) -> tuple[str, v2v.Part]:
    (side, _), group = element
    against = bench if side == "train" else questions.Index((), ngram=config.ngram, overlap=config.overlap)
    return side, v2v.of_question(group, config, against)


def _brief(element: tuple[str, v2v.Part]
           ) -> tuple[str, tuple[tuple[Row, ...], tuple[Tally, ...], dict[str, str], Mapping[str, int]]]:
    side, part = element
    texts = {row.problem_id: example.question for row, example in part.examples.items()}
    return side, (tuple(part.examples), part.tallies, texts, part.removed)


def _choose(element: tuple[str, Iterable[tuple]], config: v2v.V2VConfig, folder: pathlib.Path
            ) -> tuple[str, frozenset[Row]]:
    side, briefs = element
    rows: list[Row] = []
    tallies: list[Tally] = []
    texts: dict[str, str] = {}
    removed: collections.Counter = collections.Counter()
    for some, tallied, asked, gone in briefs:
        rows += some
        tallies += tallied
        texts |= asked
        removed.update(gone)
    kept, table = v2v.choose(rows, tallies, texts, removed, config)
    records.write_json(folder / f"{side}.json", card.counts(kept, table, tallies))
    return side, frozenset(kept)


def _keep(element: tuple[str, v2v.Part], num_shards: int, chosen: Mapping[str, frozenset[Row]]
          ) -> Iterator[tuple[tuple[str, int], tuple[Row, JudgingExample]]]:
    side, part = element
    for row, example in part.examples.items():
        if row in chosen[side]:
            yield (side, int(row.key, 16) * num_shards >> 64), (row, example)


def _write(element: tuple[tuple[str, int], Iterable[tuple[Row, JudgingExample]]], folder: pathlib.Path) -> None:
    (side, number), some = element
    ordered = sorted(some, key=lambda pair: pair[0])
    records.write(folder / f"{side}-{number:05d}.jsonl", (example for _, example in ordered))


def _load() -> Any:
    try:
        import apache_beam
    except ImportError as error:
        raise ValueError(f"--config.beam needs Apache Beam ({error}); install libra_jax[beam], or leave it empty to "
                         "curate in this process alone") from None
    return apache_beam


def _options(given: Sequence[str]) -> Any:
    """Options of a pipeline from "name=value"; ValueError for one that Beam does not know, which it would ignore."""
    _load()
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions([f"--{option}" for option in given])
    known = list(options.get_all_options())
    for name in (option.partition("=")[0] for option in given):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise ValueError(f"--config.beam: Beam has no option {name!r}; the nearest is {near[0]!r}")
    return options
