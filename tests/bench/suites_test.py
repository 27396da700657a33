"""Suites read real formats, and say what does not fit."""

import json

import pytest

from libra_jax import records
from libra_jax.bench import published, suites
from libra_jax.records import JudgingExample

ROW = {"index": 7, "question": "1+1?", "response": "\\boxed{2}", "label": 1, "model": "QwQ-32B", "reference": "2",
       "subset": "AIME 2024", "response_with_cot": "<think>2</think>\\boxed{2}"}


def test_a_row_of_libra_bench_hides_its_reference(tmp_path):
    path = tmp_path / "bench.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [ROW, ROW | {"index": 8, "label": 0}]))
    first, second = suites.load("libra_bench", path)
    assert (first.id, first.correct, first.policy, first.source) == ("libra_bench/7", True, "QwQ-32B", "AIME 2024")
    assert first.problem_id == second.problem_id and not second.correct
    assert "reference" not in records.to_json(first) and first.response == "\\boxed{2}"


def test_broken_rows_are_set_aside_with_their_line(tmp_path):
    path, rejected = tmp_path / "bench.jsonl", []
    path.write_text("\n".join(["not json", json.dumps(ROW), json.dumps(ROW | {"label": 2}), "[]"]))
    assert len(suites.load("libra_bench", path, rejected=rejected, aside=tmp_path / "aside.jsonl")) == 1
    assert [note.partition(":")[2].split(":")[0] for note in rejected] == ["1", "3", "4"]
    assert len((tmp_path / "aside.jsonl").read_text().splitlines()) == 3
    with pytest.raises(records.RecordError, match=r"bench.jsonl:1: "):
        suites.load("libra_bench", path)


def test_examples_without_label_or_none_at_all_are_refused(tmp_path):
    example = JudgingExample(id="1", problem_id="p", question="q", response="r", correct=None, policy="p", source="s")
    records.write(tmp_path / "e.jsonl", [example])
    with pytest.raises(ValueError, match="1 of 1 examples have no label"):
        suites.load("records", tmp_path / "e.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="no examples"):
        suites.load("records", tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="expected one of records, libra_bench"):
        suites.load("libra", tmp_path / "e.jsonl")


@pytest.mark.parametrize("name", ["t.json", "t.jsonl.gz", "t.parquet"])
def test_an_unknown_layout_fails_with_the_columns_found(tmp_path, write_rows, name):
    path = write_rows(tmp_path / name, [{"id": 1, "prompt": "q"}] * 3)
    lacks = r"it lacks index, question, response, label, model, subset; it has id, prompt"
    for rejected in (None, []):
        with pytest.raises(published.LayoutError, match=rf"t\..*{lacks}"):
            suites.load("libra_bench", path, rejected=rejected)


def test_a_row_without_a_column_among_others_is_set_aside(tmp_path, write_rows):
    bare = {name: value for name, value in ROW.items() if name != "label"}
    rejected = []
    assert len(suites.load("libra_bench", write_rows(tmp_path / "t.jsonl", [bare, ROW]), rejected=rejected)) == 1
    assert "t.jsonl:1: it lacks label; it has index" in rejected[0]


def test_a_folder_holds_a_file_a_subset_which_may_name_it(tmp_path, write_rows):
    bare = {name: value for name, value in ROW.items() if name != "subset"}
    write_rows(tmp_path / "AIME 2025.parquet", [bare])
    write_rows(tmp_path / "MATH-500.jsonl", [bare | {"index": 8}, ROW | {"index": 9}])
    assert [(each.id, each.source) for each in suites.load("libra_bench", tmp_path)] == [
        ("libra_bench/7", "AIME 2025"), ("libra_bench/8", "MATH-500"), ("libra_bench/9", "AIME 2024")]
    with pytest.raises(published.LayoutError, match="lacks subset; it has index, question, response, label, model"):
        suites.load("libra_bench", tmp_path / "AIME 2025.parquet")


def test_two_copies_of_the_data_are_refused(tmp_path, write_rows):
    for name in ("t.jsonl", "t.parquet"):
        write_rows(tmp_path / name, [ROW])
    with pytest.raises(ValueError, match="1 ids are there more than once, such as 'libra_bench/7'"):
        suites.load("libra_bench", tmp_path)


def test_when_all_lines_are_broken_the_first_is_shown(tmp_path, write_rows):
    write_rows(tmp_path / "t.jsonl", [ROW | {"label": 3}])
    with pytest.raises(ValueError, match=r"no examples; .*t\.jsonl:1: label=3: expected 0"):
        suites.load("libra_bench", tmp_path / "t.jsonl", rejected=[])
