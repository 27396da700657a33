"""`libra bench`: judgement files in, a report and a table out; errors in one line."""

import json
import re
import typing

import pytest

from libra_jax import records
from libra_jax.bench import suites
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.stages import bench


@pytest.fixture
def files(tmp_path):
    """bench.jsonl with four examples, and two folders of judgements by judges of one name."""
    examples = [JudgingExample(id=f"{n}", problem_id=f"{n // 2}", question="q", response="r", correct=n % 2 == 0,
                               policy="p", source="s") for n in range(4)]
    records.write(tmp_path / "bench.jsonl", examples)
    for folder, verdicts in {"plain": ["correct"] * 4, "thinking": ["correct", "incorrect"] * 2}.items():
        records.write(tmp_path / folder / "judgements.jsonl", [
            Judgement(example_id=f"{n}", judge="m", sample=0, thought="", verdict=verdict, num_tokens=3)
            for n, verdict in enumerate(verdicts)])
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft/metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n{"ste')
    return tmp_path


def flags(files, *folders):
    paths = ",".join(str(files / folder / "judgements.jsonl") for folder in folders)
    return ["bench", f"--workdir={files / 'out'}", f"--config.examples={files / 'bench.jsonl'}",
            f"--config.judgements={paths}", "--config.bootstrap.num_resamples=20"]


def test_judges_of_one_name_are_told_apart_by_folder(files, capsys):
    status = bench.main([*flags(files, "plain", "thinking"), f"--config.metrics={files / 'sft/metrics.jsonl'}"])
    printed = capsys.readouterr().out
    assert status == 0 and "m (plain)" in printed and "0.500 [0.500, 0.500]" in printed and "m (thinking)" in printed
    numbers = json.loads((files / "out/report.json").read_text())
    assert [each["metrics"]["accuracy"]["value"] for each in numbers["judges"]] == [0.5, 1.0]
    assert numbers["curves"] == {"sft/loss": [[1.0, 2.5], [2.0, 1.5]]}
    assert "m (thinking)" in (files / "out/report.html").read_text()


def test_errors_name_the_remedy(files, capsys):
    assert bench.main([*flags(files, "plain", "plain")]) == 2
    assert "there twice" in capsys.readouterr().err
    (files / "plain/judgements.jsonl").write_text((files / "plain/judgements.jsonl").read_text().splitlines()[0])
    assert bench.main(flags(files, "plain")) == 2
    assert "3 of 4 examples have no judgement" in capsys.readouterr().err
    assert bench.main(["bench", f"--workdir={files / 'out'}"]) == 2
    assert "--config.examples is empty" in capsys.readouterr().err


def test_a_broken_line_is_counted_and_set_aside(files, capsys):
    with (files / "plain/judgements.jsonl").open("a") as out:
        out.write("{broken\n")
    assert bench.main(flags(files, "plain")) == 0
    assert "1 broken lines" in capsys.readouterr().out
    assert (files / "out/judgements.0.rejected.jsonl").is_file()


def test_levels_and_difficulty_come_from_files_and_families_from_a_flag(files, capsys):
    records.write(files / "problems.jsonl", [Problem(id=f"{n}", source="s", question="q", level=f"Level {n}")
                                             for n in range(2)])
    rollouts = [VerifiedRollout(problem_id=f"{n % 2}", policy="p", sample=n, text="", num_tokens=1, finish="stop",
                                correct=n % 2 == 0, decided_by="rule", why="") for n in range(4)]
    records.write(files / "verified.jsonl", rollouts)
    (files / "verified.jsonl").open("a").write("{broken\n")
    assert bench.main([*flags(files, "thinking"), f"--config.problems={files / 'problems.jsonl'}", "--config.shown=2",
                       f"--config.rollouts={files / 'verified.jsonl'}", "--config.slices.length_bands=0",
                       "--config.target.points=3", "--config.slices.trained_on=q*"]) == 0
    assert "1 broken lines" in capsys.readouterr().out and (files / "out/rollouts.rejected.jsonl").is_file()
    numbers = json.loads((files / "out/report.json").read_text())
    assert {each["kind"]: [part["name"] for part in each["slices"]] for each in numbers["judges"][0]["slices"]} == {
        "source": ["s"], "level": ["Level 0", "Level 1"],
        "difficulty": ["hard: up to 1/3 right", "easy: over 2/3 right"]}
    assert numbers["target"]["points"] == [3.0]
    assert (files / "out/report.html").read_text().count('<details class="example"') == 2


def test_libra_bench_becomes_examples_for_the_judge_stage(files, capsys):
    row = {"index": 0, "question": "q", "response": "r", "label": 0, "model": "m", "subset": "MATH-500"}
    (files / "rows.jsonl").write_text(json.dumps(row))
    assert bench.main(["bench", f"--workdir={files / 'out'}", "--config.suite=libra_bench",
                       f"--config.examples={files / 'rows.jsonl'}"]) == 0
    (example,) = records.read(files / "out/examples.jsonl", JudgingExample)
    assert example.source == "MATH-500" and example.correct is False
    printed = capsys.readouterr().out
    assert "libra judge" in printed and re.search(r"MATH-500 +1 +0 +1\n", printed)


def test_every_published_layout_is_a_suite_of_the_stage():
    assert typing.get_args(typing.get_type_hints(bench.Config)["suite"]) == suites.SUITES


def test_runs_are_named_by_what_tells_them_apart():
    assert bench.run_names(["runs/a/sft/metrics.jsonl", "runs/a/rl/metrics.jsonl"]) == ["sft", "rl"]
    assert bench.run_names(["runs/a/sft/metrics.jsonl", "runs/b/sft/metrics.jsonl"]) == ["a-sft", "b-sft"]


def test_curves_may_be_of_some_metrics_alone():
    rows = [{"step": 1, "loss": 2.0, "eval/right": 0.5}, {"step": 2, "loss": 1.0}]
    assert bench.training_curves("sft", rows) == {"sft/loss": [(1, 2.0), (2, 1.0)], "sft/eval right": [(1, 0.5)]}
    some = bench.training_curves("sft", rows, ("eval/right", "loss", "nowhere"))
    assert list(some) == ["sft/eval right", "sft/loss"]
    assert bench.training_curves("sft", rows, ("loss",)) == {"sft/loss": [(1, 2.0), (2, 1.0)]}
