import dataclasses

import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample, PreferencePair, Problem, Rollout
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


def ordered(folder, by, texts, answer="4"):
    """The pairs of responses with these texts to one problem, and what lies in the folder."""
    records.write(folder / "p.jsonl", [Problem(id="p", source="s", question="q", answer=answer)])
    records.write(folder / "r.jsonl", [dataclasses.replace(rollout(n), text=text) for n, text in enumerate(texts)])
    config = downstream.Config(problems=str(folder / "p.jsonl"), rollouts=str(folder / "r.jsonl"), by=by,
                               judge=downstream.judge.Config(judge="response_length"))
    downstream.run(config, folder / by)
    return [(pair.chosen, pair.rejected) for pair in records.read(folder / by / "pairs.jsonl", PreferencePair)]


def test_each_orders_by_its_own_measure(tmp_path):
    texts = ("A: 5", "A: 5.0", "A:    4.0", "nothing")
    assert ordered(tmp_path, "judge", texts) == [("A: 5", "A:    4.0")]  # the shortest
    assert ordered(tmp_path, "majority", texts) == [("A: 5", "A:    4.0")]
    assert ordered(tmp_path, "verifier", texts) == [("A:    4.0", "A: 5")]
    decided = list(records.read(tmp_path / "verifier/judgements.jsonl", Judgement))
    assert [each.verdict for each in decided] == ["incorrect", "incorrect", "correct", "incorrect"]
    assert decided[2].judge == "verifier" and "equals the reference '4'" in decided[2].thought


def test_what_the_verifier_leaves_undecided_is_in_no_pair(tmp_path):
    assert ordered(tmp_path, "verifier", ("A: 60 minutes", "A: 1 hour"), answer="1 hour") == []
    verdicts = [each.verdict for each in records.read(tmp_path / "verifier/judgements.jsonl", Judgement)]
    assert verdicts == ["unparsed", "correct"]


def test_a_verifier_that_was_killed_goes_on(tmp_path):
    texts = ("A: 5", "A: 4", "A: 3")
    ordered(tmp_path, "verifier", texts)
    whole = (tmp_path / "verifier/judgements.jsonl").read_bytes()
    (tmp_path / "verifier/judgements.jsonl").unlink()
    (tmp_path / "verifier/judgements.jsonl.partial").write_bytes(whole[:whole.index(b"\n") + 20])
    assert ordered(tmp_path, "verifier", texts) == [("A: 4", "A: 5")]
    assert (tmp_path / "verifier/judgements.jsonl").read_bytes() == whole
    with pytest.raises(ValueError, match="use another --workdir"):
        ordered(tmp_path, "verifier", ("A: 7", "A: 4", "A: 3"))


def test_the_verifier_needs_answers(tmp_path):
    with pytest.raises(ValueError, match="by=verifier: problem 'p' has no answer"):
        ordered(tmp_path, "verifier", ("A: 5",), answer=None)
    assert ordered(tmp_path, "majority", ("A: 5", "A: 5", "A: 6"), answer=None) == [("A: 5", "A: 6")]
