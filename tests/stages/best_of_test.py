import json

import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.stages import best_of, judge, verify

PROBLEMS = [Problem(id=f"p{number}", source="s", question="q", answer="1") for number in range(3)]


def rollout(problem, sample, correct, text="A: 1", finish="stop"):
    return VerifiedRollout(problem_id=problem, policy="x", sample=sample, text=text, num_tokens=1, finish=finish,
                           correct=correct, decided_by="rule", why="")


def judgement(name, verdict, sample=0, score=None):
    return Judgement(example_id=name, judge="j", sample=sample, thought="", verdict=verdict, num_tokens=1, score=score)


@pytest.fixture
def config(tmp_path):
    rollouts = [rollout("p0", 0, False, "A: 2"), rollout("p0", 1, True), rollout("p0", 2, True, "A: 1.0"),
                rollout("p1", 0, None), rollout("p1", 1, True, finish="length"), rollout("p1", 2, False, "A: 3")]
    records.write(tmp_path / "problems.jsonl", PROBLEMS)
    records.write(tmp_path / "verified.jsonl", rollouts)
    return best_of.Config(problems=str(tmp_path / "problems.jsonl"), rollouts=str(tmp_path / "verified.jsonl"))


def change(config, tmp_path, *judgements):
    records.write(tmp_path / "judgements.jsonl", judgements)
    return best_of.Config(**{**vars(config), "judgements": (str(tmp_path / "judgements.jsonl"),)})


def test_without_judgements_it_writes_what_judges_take(config, tmp_path, capsys):
    result = best_of.run(config, tmp_path / "out")
    examples = list(records.read(tmp_path / "out/examples.jsonl", JudgingExample))
    assert [each.id for each in examples] == ["p0/x/0", "p0/x/1", "p0/x/2", "p1/x/0", "p1/x/2"]  # none cut off
    assert [line["picker"] for line in result["pickers"]] == ["random", "majority answer", "verifier"]
    assert result["sizes"] == [1, 2]
    assert json.loads((tmp_path / "out/best_of.json").read_text()) == json.loads(json.dumps(result))
    counts = result["counts"]
    assert (counts["undecided"], counts["cut_off"], counts["problems_without_responses"]) == (1, 1, 1)
    assert (tmp_path / "out/best_of.svg").read_bytes().startswith(b"<?xml")
    assert "few problems" in capsys.readouterr().out


def test_equal_answers_vote_together_and_a_judge_picks_by_its_votes(config, tmp_path):
    votes = [judgement("p0/x/0", "correct"), judgement("p0/x/1", "correct"), judgement("p0/x/1", "incorrect", 1),
             judgement("p0/x/2", "incorrect"), judgement("p1/x/0", "unparsed"), judgement("p1/x/2", "incorrect")]
    given = change(best_of.Config(**{**vars(config), "sizes": (3,)}), tmp_path, *votes)
    result = best_of.run(given, tmp_path / "out")
    at_three = {line["picker"]: line["accuracy"][0]["value"] for line in result["pickers"]}
    # p0: "1" and "1.0" outvote "2"; the judge takes the wrong one. p1: its undecided and its wrong answer are tied, the
    # cut-off one has no vote; the judge scores the wrong one alone, whatever it says of it.
    assert at_three == pytest.approx({"random": 0.5, "majority answer": 0.5, "j": 0.0, "verifier": 1.0})
    assert result["counts"]["unscored"] == {"j": 2}
    scores = [judgement("p0/x/0", "correct", score=0.1), judgement("p0/x/1", "incorrect", score=0.9)]
    again = best_of.run(change(given, tmp_path, *scores), tmp_path / "scores")
    assert again["pickers"][2]["accuracy"][0]["value"] == pytest.approx((1 + 1 / 3) / 2)  # all of p1 are picked last


def test_a_reward_model_on_real_responses(shared, tmp_path):
    verify.run(verify.Config(format="math_qwen", num_workers=1,
                             rollouts=str(shared / "rollouts/math_qwen2.5_math.jsonl.gz")), tmp_path)
    config = best_of.Config(problems=str(tmp_path / "problems.jsonl"), rollouts=str(tmp_path / "verified.jsonl"))
    best_of.run(config, tmp_path / "best")
    judge.run(judge.Config(examples=str(tmp_path / "best/examples.jsonl"), judge="scores", name="reward model",
                           scores=str(tmp_path / "scores.jsonl")), tmp_path / "judge")
    config = best_of.Config(**{**vars(config), "judgements": (str(tmp_path / "judge/judgements.jsonl"),)})
    result = best_of.run(config, tmp_path / "best")
    at_eight = {line["picker"]: line["accuracy"][-1]["value"] for line in result["pickers"]}
    assert result["sizes"] == [1, 2, 4, 8]
    assert at_eight == pytest.approx({"random": 383 / 400, "majority answer": 0.98, "reward model": 0.98,
                                      "verifier": 1.0})


def test_what_does_not_belong_together_is_named(config, tmp_path):
    with pytest.raises(ValueError, match="'j' is of 'zz', which is not among the 6 responses"):
        best_of.run(change(config, tmp_path, judgement("zz", "correct")), tmp_path / "out")
    records.write(tmp_path / "verified.jsonl", [rollout("p0", 0, True)] * 2)
    with pytest.raises(ValueError, match="rollout 'p0/x/0' is there twice"):
        best_of.run(config, tmp_path / "out")
    records.write(tmp_path / "verified.jsonl", [rollout("p9", 0, True)])
    with pytest.raises(ValueError, match="problem 'p9', which is not among the 3"):
        best_of.run(config, tmp_path / "out")
    with pytest.raises(ValueError, match=r"--config\.problems is empty"):
        best_of.run(best_of.Config(), tmp_path / "out")
