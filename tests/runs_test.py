"""A run's folder: what lies there from before, files that hold nothing, and the summary."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys

import pytest

from libra_jax import records, runs
from libra_jax.records import Judgement, Problem, Score

SUMMARY = {"problems": 2600, "loss": 0.123456789, "by_tier": {"rule": {"correct": 2}}, "names": ["a b"], "whole": True,
           "path": "runs/my run/x.jsonl"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    problems: str = ""
    steps: int = 1


def test_a_summary_in_a_pipe_is_one_line_that_a_shell_takes_apart(capsys):
    runs.report(SUMMARY)
    (line,) = capsys.readouterr().out.splitlines()
    found = dict(word.split("=", 1) for word in shlex.split(line))
    assert list(found) == list(SUMMARY) and found["path"] == SUMMARY["path"]
    assert {name: json.loads(value) for name, value in found.items() if name != "path"} == {
        name: value for name, value in SUMMARY.items() if name != "path"}


def test_a_summary_on_a_terminal_is_a_table(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    runs.report(SUMMARY)
    assert capsys.readouterr().out == """\
  problems                2,600
  loss                    0.1235
  by tier, rule, correct  2
  names                   a b
  whole                   True
  path                    runs/my run/x.jsonl
"""


def test_a_file_without_records_is_told_by_what_it_is(tmp_path):
    for name, text, told in (("empty", "", "the file is empty; expected JSON lines of Judgement"),
                             ("other", '{"example_id": "a", "score": 1.0}\n', "these are lines of Score"),
                             ("none", '{"a": 1}\n', "all lines are broken (1); line 1: Judgement has no field 'a'")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError) as refused:
            runs.read(str(tmp_path / name), Judgement, tmp_path / "w")
        assert told in str(refused.value)
    assert records.kinds(tmp_path / "other") == [Score.__name__] and records.kinds(tmp_path / "empty") == []


def test_many_broken_lines_are_told_by_the_first_few(tmp_path, capsys):
    good = records.to_json(Problem(id="1", source="s", question="q"))
    (tmp_path / "p.jsonl").write_text("\n".join([good, *["{"] * 9]))
    assert runs.read(str(tmp_path / "p.jsonl"), Problem, tmp_path / "w")[1] == 9
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and said[-1] == (f"set aside: 6 more lines; they are in {tmp_path}/w/p.rejected.jsonl")


def test_another_input_is_refused_by_name_once_something_was_made_of_the_first(tmp_path):
    note, config = tmp_path / "out.config.json", Config(problems=str(tmp_path / "a"))
    (tmp_path / "a").write_text("a")
    runs.claim(note, config, inputs=("problems",))
    (tmp_path / "a").write_text("b")
    with pytest.raises(ValueError, match=rf"made with problems=\(other contents\), now problems={tmp_path}/a; use"):
        runs.claim(note, config, inputs=("problems",))
    runs.claim(note, config, inputs=("problems",), begun=False)
    runs.claim(note, config, inputs=("problems",))


@pytest.mark.parametrize("made", [False, True])
def test_a_run_that_made_nothing_may_go_on_with_its_mistake_put_right(tmp_path, made):
    out = runs.resume(tmp_path / "out.jsonl", Score, Config(steps=1), inputs=())
    if made:
        out.append(Score(example_id="a", score=1.0))
        with pytest.raises(ValueError, match="steps=1, now steps=2"):
            runs.resume(tmp_path / "out.jsonl", Score, Config(steps=2), inputs=())
    else:
        assert not runs.resume(tmp_path / "out.jsonl", Score, Config(steps=2), inputs=()).done
