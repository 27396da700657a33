"""A judge of one's own, in a file and as an entry point, as CONTRIBUTING.md shows it."""

import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample
from libra_jax.stages import cli, judge

ENDS = ("The sum is 7.", "seven", "It is 8", "I do not know")


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.jsonl"
    records.write(path, [JudgingExample(id=f"e{number}", problem_id="p", question="3+4?", response=text, correct=None,
                                        policy="p", source="s") for number, text in enumerate(ENDS)])
    return str(path)


@pytest.fixture
def ends(tmp_path, shown):
    path = tmp_path / "ends.py"
    path.write_text(shown("A judge"))
    return path


def run(examples, file, workdir) -> int:
    return cli.main(["libra", "judge", f"--workdir={workdir}", f"--config.examples={examples}",
                     f"--config.judge={file}"])


def test_a_judge_in_a_file_judges_from_the_command_line_and_is_measured(examples, ends, tmp_path):
    assert run(examples, ends, tmp_path / "out") == 0
    rows = list(records.read(tmp_path / "out" / "judgements.jsonl", Judgement))
    assert [row.example_id for row in rows] == ["e0", "e1", "e2", "e3"]
    assert [row.verdict for row in rows] == ["correct", "incorrect", "correct", "incorrect"]
    assert {row.judge for row in rows} == {"ends_in_a_number"} and rows[0].score == 1.0


def test_a_killed_run_goes_on_to_the_same_bytes_and_another_judge_is_refused(examples, ends, tmp_path, capsys):
    assert run(examples, ends, tmp_path / "whole") == run(examples, ends, tmp_path / "killed") == 0
    file = tmp_path / "killed" / "judgements.jsonl"
    whole = file.read_bytes()
    file.unlink()
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]) + b'{"exam')
    assert run(examples, ends, tmp_path / "killed") == 0 and file.read_bytes() == whole
    ends.write_text(ends.read_text().replace("isdigit", "isalpha"))
    assert run(examples, ends, tmp_path / "killed") == 2
    assert "judgements.jsonl was made with judge=" in capsys.readouterr().err


def test_a_judge_of_an_installed_package_is_known_by_name(examples, lab, tmp_path):
    assert run(examples, "ends_in_a_number", tmp_path / "out") == 0
    assert sum(1 for _ in records.read(tmp_path / "out" / "judgements.jsonl", Judgement)) == 4


@pytest.mark.parametrize("code, said", [
    ("", r"JUDGE is None; expected an object with a name and a method judge\(examples"),
    ("class J:\n    judge = print\nJUDGE = J()", "JUDGE is <.*J object.*; expected an object with a name"),
    ("import nothing_of_this_name", "ModuleNotFoundError"),
])
def test_what_is_no_judge_is_told(examples, tmp_path, code, said):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(ValueError, match=said):
        judge.run(judge.Config(examples=examples, judge=str(tmp_path / "mine.py")), tmp_path / "out")


@pytest.mark.parametrize("change", [("verdict=\"correct\" if right else \"incorrect\"", "verdict=\"yes\""),
                                    ("example_id=example.id", "example_id=example.question"),
                                    ("yield Judgement(", "yield dict(")])
def test_what_is_no_judgement_is_not_written(examples, ends, tmp_path, change):
    ends.write_text(ends.read_text().replace(*change))
    with pytest.raises(ValueError, match=r"'ends_in_a_number' gave .*expected a Judgement whose example_id is an exam"):
        judge.run(judge.Config(examples=examples, judge=str(ends)), tmp_path / "out")
    assert not (tmp_path / "out" / "judgements.jsonl").exists()


def test_a_name_of_nobodys_and_a_name_for_ones_own_are_told(examples, ends, tmp_path):
    with pytest.raises(ValueError, match=r"'majority'.*nearest is 'majority_answer' of model, endpoint, scores, maj"):
        judge.Config(judge="majority")
    with pytest.raises(ValueError, match="a judge of your own names itself"):
        judge.run(judge.Config(examples=examples, judge=str(ends), name="x"), tmp_path / "out")
