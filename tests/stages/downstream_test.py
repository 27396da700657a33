import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample, Problem, Rollout
from libra_jax.stages import downstream

PROBLEMS = {"p": Problem(id="p", source="s", question="q")}


def rollout(sample, *, problem="p", finish="stop"):
    return Rollout(problem_id=problem, policy="x", sample=sample, text=f"r{sample}", num_tokens=1, finish=finish)


def judgements(*votes):
    return [Judgement(example_id=f"p/x/{sample}", judge="j", sample=n, thought="", verdict=vote, num_tokens=1)
            for sample, some in enumerate(votes) for n, vote in enumerate(some)]


def test_the_best_and_the_worst_make_a_pair():
    examples = downstream.unlabelled(PROBLEMS, [rollout(0), rollout(1), rollout(2), rollout(3, finish="length")])
    assert [each.id for each in examples] == ["p/x/0", "p/x/1", "p/x/2"] and examples[0].correct is None
    yes, no, what = "correct", "incorrect", "unparsed"
    (pair,) = downstream.pairs(examples, judgements((yes, no), (no, no), (yes, yes)))
    assert (pair.chosen, pair.rejected, pair.chosen_score, pair.rejected_score) == ("r2", "r1", 1.0, 0.0)
    assert downstream.pairs(examples, judgements((yes, yes), (yes, yes), (what, what))) == []


def test_a_rollout_of_an_unknown_problem_and_empty_paths_are_named(tmp_path):
    with pytest.raises(ValueError, match="problem 'zz', which is not among the 1 problems"):
        downstream.unlabelled(PROBLEMS, [rollout(0, problem="zz")])
    with pytest.raises(ValueError, match=r"--config\.problems is empty"):
        downstream.run(downstream.Config(), tmp_path)


def test_the_stage_writes_examples_that_hide_answers(tmp_path):
    records.write(tmp_path / "p.jsonl", [Problem(id="p", source="s", question="q", answer="secret")])
    records.write(tmp_path / "r.jsonl", [rollout(0), rollout(1)])
    judge = downstream.judge.Config(judge="always_correct")
    config = downstream.Config(problems=str(tmp_path / "p.jsonl"), rollouts=str(tmp_path / "r.jsonl"), judge=judge)
    assert downstream.run(config, tmp_path / "out")["problems_without_pair"] == 1
    assert "secret" not in (tmp_path / "out/examples.jsonl").read_text()
    assert len(list(records.read(tmp_path / "out/examples.jsonl", JudgingExample))) == 2
