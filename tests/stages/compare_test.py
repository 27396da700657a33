"""`libra bench compare A B`: the paired tests of files or folders, with or without naming the examples."""

import json
import typing

import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample
from libra_jax.stages import bench, cli, compare, judge


@pytest.fixture
def files(tmp_path):
    """bench.jsonl of eight examples, and two judges, each in a folder."""
    records.write(tmp_path / "bench.jsonl", [
        JudgingExample(id=f"{n}", problem_id=f"{n // 2}", question="q", response="r" * n, correct=n % 2 == 0,
                       policy="p", source="s") for n in range(8)])
    for folder, verdicts in {"plain": ["correct"] * 8, "thinking": ["correct", "incorrect"] * 4}.items():
        records.write(tmp_path / folder / "judgements.jsonl", [
            Judgement(example_id=f"{n}", judge="m", sample=0, thought="", verdict=verdict, num_tokens=3)
            for n, verdict in enumerate(verdicts)])
    return tmp_path


def test_the_paired_test_is_printed_and_written(files, capsys):
    plain, thinking = (str(files / folder / "judgements.jsonl") for folder in ("plain", "thinking"))
    assert cli.main(["libra", "bench", "compare", plain, thinking, f"--config.examples={files / 'bench.jsonl'}",
                     "--config.target.points=5"]) == 0
    printed = capsys.readouterr().out
    assert "m (thinking)  m (plain)  0.500 [0.500, 0.500]" in printed and "McNemar" in printed
    assert "Problems that a difference needs" in printed and "5 points" in printed and "1 point" not in printed
    assert "Few problems: s has 4." in printed
    (row,) = json.loads((files / "thinking/compare/compare.json").read_text())
    assert (row["first"], row["second"], row["value"], row["only_second"], row["p_mcnemar"]) == (
        "m (plain)", "m (thinking)", 0.5, 4, 0.125)


def test_folders_of_the_judge_stage_know_what_they_judged(files, capsys):
    for name in ("response_length", "always_correct"):
        assert judge.main(["judge", f"--workdir={files / name}", f"--config.examples={files / 'bench.jsonl'}",
                           f"--config.judge={name}"]) == 0
    words = ["libra bench compare", str(files / "always_correct"), str(files / "response_length"),
             "--config.metric=f1_incorrect", f"--workdir={files / 'out'}"]
    assert compare.main(words) == 0
    assert "f1 incorrect" in capsys.readouterr().out and (files / "out/compare.json").is_file()
    assert not (files / "response_length/compare").exists()
    assert compare.main([*words[:3], str(files / "plain")]) == 2
    assert "--config.examples is empty" in capsys.readouterr().err


def test_errors_name_the_remedy(files, capsys):
    given = f"--config.examples={files / 'bench.jsonl'}"
    assert compare.main(["compare", str(files / "plain"), given]) == 2
    assert "1 judge, m: expected two or more" in capsys.readouterr().err
    assert compare.main(["compare", str(files / "plain"), str(files / "thinking"), given, "--config.metric=f1"]) == 2
    assert "metric='f1': expected one of mean_of_sources" in capsys.readouterr().err
    assert compare.main(["compare", given]) == 2
    assert "--workdir is needed" in capsys.readouterr().err
    assert compare.main(["compare", given, f"--workdir={files / 'out'}"]) == 2
    assert "--config.judgements is empty" in capsys.readouterr().err
    assert compare.main(["compare", str(files / "plain"), str(files / "nowhere"), given]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_broken_line_is_counted_and_set_aside(files, capsys):
    with (files / "plain/judgements.jsonl").open("a") as out:
        out.write("{broken\n")
    assert compare.main(["compare", str(files / "plain"), str(files / "thinking"),
                         f"--config.examples={files / 'bench.jsonl'}"]) == 0
    assert "1 broken lines" in capsys.readouterr().out
    assert (files / "thinking/compare/judgements.0.rejected.jsonl").is_file()


def test_it_reads_the_suites_that_the_bench_stage_reads():
    suite = [typing.get_type_hints(stage.Config)["suite"] for stage in (bench, compare)]
    assert suite[0] == suite[1]


def test_words_before_the_flags_are_judgements():
    assert compare.flags(["a.jsonl", "runs/b/j.jsonl", "--config.examples=e"]) == [
        "--config.judgements=a.jsonl,runs/b/j.jsonl", "--workdir=runs/b/compare", "--config.examples=e"]
    assert compare.flags(["a", "b", "--workdir", "w"])[0] == "--config.judgements=a,b"
    assert compare.flags(["--help"]) == ["--help"]
