"""The paper's tables with small numbers: judges are made as their rows say, shared between tables, and measured."""

import dataclasses
import importlib.util
import json
import pathlib

import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.stages import chain, paper, rows

CONFIGS = pathlib.Path(__file__).parents[2] / "configs/paper"
SIZES = chain.Sizes(problems=60, judgements=2, votes=1, unanswered=8, held_out=6, sft_steps=1, rl_steps=1, dpo_steps=1)
SMALL = paper.Config(tables=("thinking", "rejection"), seeds=(3,), sizes=SIZES, shares=(0.5, 1.0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    return paper.run(SMALL, folder), folder


def test_tables_share_what_they_make_and_say_what_held(finished, capsys):
    result, folder = finished
    assert json.loads((folder / "paper.json").read_text()) == result
    assert list(result["tables"]) == ["thinking", "rejection"]
    assert {path.name for path in (folder / "seed_3/judges").iterdir()} == {
        "sft", "sft_no_thought", "sft_on_any_judgement"}
    assert {path.name for path in (folder / "seed_3/bench").iterdir()} == {
        "base", "base_no_thought", "sft", "sft_no_thought", "sft_on_any_judgement"}
    claim = result["tables"]["thinking"]["decided"][0]
    assert claim["verdict"] in ("held", "failed", "could not be told") and len(claim["by_seed"]) == 1
    assert claim["by_seed"][0] == pytest.approx(claim["difference"]["value"])
    page = (folder / "paper.html").read_text()
    assert "Rejection sampling" in page and "a judge that thinks is more accurate" in page and "://" not in page


def test_rows_learn_what_they_say(finished, monkeypatch):
    given = {}
    monkeypatch.setattr(rows.sft, "run", lambda config, folder: given.setdefault(folder.name, config))
    made = rows.Made(dataclasses.replace(SIZES, seed=3), finished[1] / "seed_3")
    for name in ("SFT", "SFT on any judgement", "SFT, no thought", "SFT on hasty"):
        made.checkpoint(name)
    assert {name: (each.learn, pathlib.Path(each.kept).name, each.policies) for name, each in given.items()} == {
        "sft": ("kept", "kept.jsonl", ()), "sft_on_any_judgement": ("any", "judgements.jsonl", ()),
        "sft_no_thought": ("labels", "", ()), "sft_on_hasty": ("kept", "kept.jsonl", ("hasty",))}
    votes = list(records.read(finished[1] / "seed_3/bench/sft_no_thought/judgements.jsonl", Judgement))
    assert votes and not any(each.thought for each in votes)


def test_other_data_is_of_the_problems_trained_on_and_has_its_share(finished, monkeypatch):
    given = []
    monkeypatch.setattr(rows.sft, "run", lambda config, folder: given.append(config))
    monkeypatch.setattr(rows.rl, "run", lambda config, folder: given.append(config))
    made = rows.Made(dataclasses.replace(SIZES, seed=3), finished[1] / "seed_3")
    made.checkpoint("SFT + RL, other data too")
    first, second = given
    assert (first.solution_share, second.weights) == (0.2, (0.8, 0.0, 0.2))
    assert second.checkpoint.endswith("judges/sft_other_data_too/export")
    about = {each.problem_id for each in made.examples}, {
        each.problem_id for each in records.read(made.sets / "train.jsonl", JudgingExample)}
    assert first.problems == second.problems and not about[0] & about[1]
    assert {each.id for each in records.read(first.problems, Problem)} == about[1]
    assert {each.problem_id for each in records.read(first.solutions, VerifiedRollout)} == about[1]
    given.clear()
    made.checkpoint("SFT + RL")
    assert [(each.problems, getattr(each, "solution_share", 0.0)) for each in given] == [("", 0.0)] * 2


def test_a_second_run_makes_nothing_anew(finished):
    result, folder = finished
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*")
            if path.name in ("rollouts.jsonl", "judgements.jsonl", "model.safetensors")}
    assert paper.run(dataclasses.replace(SMALL, tables=("thinking",)), folder)["tables"] == {
        "thinking": result["tables"]["thinking"]}
    assert (folder / "thinking.html").is_file()
    assert all(path.stat().st_mtime_ns == before for path, before in made.items())


@pytest.mark.slow
def test_every_table(tmp_path):
    found = paper.run(dataclasses.replace(SMALL, tables=(), seeds=(0, 1)), tmp_path)["tables"]
    assert list(found) == list(paper.TABLES)
    assert len(found["correlation"]["points"]) == len(rows.ROWS) >= 8
    assert (tmp_path / "correlation.svg").read_text().startswith("<?xml")
    assert [row[0] for row in found["unlabelled"]["tables"][0]["rows"]] == ["none", "4", "8"]
    assert found["non_judging"]["tables"][0]["header"][-1] == "solves"


@pytest.mark.parametrize(("change", "message"), [
    ({"tables": ("thinkin",)}, "tables='thinkin': expected some of thinking, stages"),
    ({"seeds": ()}, r"seeds=\(\): expected"),
    ({"seeds": (1, 1)}, "different whole numbers"),
    ({"sizes": chain.Sizes(seed=2)}, "give --config.seeds=2"),
    ({"shares": (0.0, 1.0)}, "above 0, up to 1"),
])
def test_settings_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        paper.check(dataclasses.replace(SMALL, **change))


def test_rows_start_from_rows_and_every_table_is_a_config():
    for name, row in rows.ROWS.items():
        assert not row.start or rows.ROWS[row.start].step, name
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(paper.TABLES)
    for path in CONFIGS.glob("*.py"):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.get_config() == paper.Config(tables=(path.stem,))
        assert f"--config=configs/paper/{path.name}" in module.__doc__
