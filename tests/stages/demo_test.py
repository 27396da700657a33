"""The demo with small numbers: every stage runs, the report says what was measured, and a second run adds nothing."""

import importlib.util
import json
import pathlib

import pytest

from libra_jax.records import Judgement, read
from libra_jax.stages import chain, demo

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
SMALL = chain.Sizes(problems=60, judgements=2, votes=1, unanswered=8, held_out=6, sft_steps=2, rl_steps=1, dpo_steps=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return demo.run(SMALL, folder), folder


def test_the_chain_ends_in_a_measured_judge_and_policy(finished, capsys):
    result, folder = finished
    assert json.loads((folder / "demo.json").read_text()) == result
    names = ["base, no thought", "base", "SFT", "SFT + RL"]
    assert [row["judge"] for row in result["judges"]] == names
    judged = list(read(folder / "bench/rl/judgements.jsonl", Judgement))
    assert len(judged) == result["counts"]["judging examples of the bench"]
    assert {one.judge for one in judged} == {"SFT + RL"}
    for row, above in zip(result["judges"][1:], result["judges"], strict=False):
        assert row["gain"]["value"] == pytest.approx(row["accuracy"]["value"] - above["accuracy"]["value"])
    assert result["policy"]["gain"]["value"] == pytest.approx(
        result["policy"]["after"]["value"] - result["policy"]["before"]["value"])
    page = (folder / "report.html").read_text()
    for text in (*names, "The policy, downstream", "What the chain made", "Training: sft", "Training: rl",
                 "Training: dpo"):
        assert text in page, text
    assert "://" not in page  # it opens offline
    assert (folder / "judges.svg").read_bytes().startswith(b"<?xml")
    table = demo._show(result).splitlines()
    assert len(table) == 9 and table[3].startswith("base") and "(" in table[3]


def test_a_second_run_makes_nothing_anew(finished):
    result, folder = finished
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*")
            if path.name in ("rollouts.jsonl", "judgements.jsonl", "model.safetensors")}
    assert len(made) == 6 + 6 + 3
    again = demo.run(SMALL, folder)
    assert all(path.stat().st_mtime_ns == before for path, before in made.items())
    assert again | {"seconds": 0} == result | {"seconds": 0}


def test_another_seed_in_the_same_folder_is_refused(finished):
    with pytest.raises(ValueError, match="use another --workdir"):
        demo.run(chain.Sizes(**{**vars(SMALL), "seed": 1}), finished[1])


@pytest.mark.parametrize("name, made", [
    ("sft", chain.sft_config(chain.Sizes(), chain.CHECKPOINT, "", "")),
    ("rl", chain.rl_config(chain.Sizes(), "", "")),
])
def test_the_config_files_of_the_miniature_are_the_demos(name, made):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"miniature_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.get_config() == made
