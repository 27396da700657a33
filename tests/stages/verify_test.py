"""`libra verify`: published files against their labels, kills, broken lines, rollouts that cannot be verified."""

import dataclasses
import json

import pytest

from libra_jax import records
from libra_jax.records import HumanLabel, Judgement, JudgingExample, Problem, Rollout, Score, VerifiedRollout
from libra_jax.stages import bench, curate, judge, verify
from libra_jax.verify.criteria import Checklist


def rollout(number, text, problem="p"):
    return Rollout(problem_id=problem, policy="q", sample=number, text=text, num_tokens=1, finish="stop")


@pytest.fixture
def config(tmp_path):
    records.write(tmp_path / "problems.jsonl", [Problem(id="p", source="s", question="1+1?", answer="2"),
                                                Problem(id="open", source="s", question="?")])
    texts = ["A: 2", "A: 3", "hm", r"\boxed{x+1-(x-1)}", "A: 9^{9^{9^{9}}}", "A: 2.0"]
    given = [rollout(number, text) for number, text in enumerate(texts)]
    records.write(tmp_path / "rollouts.jsonl", [*given, rollout(6, "A: 2", "open"), rollout(7, "A: 2", "unknown")])
    return verify.Config(problems=str(tmp_path / "problems.jsonl"), rollouts=str(tmp_path / "rollouts.jsonl"),
                         timeout=2.0)


def test_decisions_counts_and_reasons(config, tmp_path):
    with open(config.rollouts, "a") as out:
        out.write('{"problem_id": 3}\n')
    summary = verify.run(config, tmp_path / "out")
    verified = list(records.read(tmp_path / "out/verified.jsonl", VerifiedRollout))
    assert [each.correct for each in verified] == [True, False, False, True, None, True, None, None]
    assert verified[2].why == "no final answer found"
    assert "has no answer" in verified[6].why and "is not among" in verified[7].why
    kinds = {"correct": 3, "incorrect": 2, "undecided": 3}
    assert summary == {"rollouts": 8, "broken_lines": 1, **kinds, "by_tier": {"rule": kinds}, "to_judge": 2}
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary
    assert (tmp_path / "out/rollouts.rejected.jsonl").read_text().count("\n") == 1


def test_a_killed_run_ends_with_the_same_bytes(config, tmp_path):
    whole = verify.run(config, tmp_path / "out")
    lines = (tmp_path / "out/verified.jsonl").read_bytes()
    for cut in (len(lines) // 3, len(lines) - 5):  # in the middle of a line
        (tmp_path / "out/verified.jsonl").unlink()
        (tmp_path / "out/verified.jsonl.partial").write_bytes(lines[:cut])
        assert verify.run(config, tmp_path / "out") == whole
        assert (tmp_path / "out/verified.jsonl").read_bytes() == lines
    records.write(config.rollouts, [rollout(0, "A: 5")])
    with pytest.raises(ValueError, match="made with rollouts"):
        verify.run(config, tmp_path / "out")


def test_a_checklist_decides_and_every_finding_is_kept(config, tmp_path):
    config = dataclasses.replace(config, checklist=Checklist(required=("final_answer", "format"), advisory=("units",)))
    whole = verify.run(config, tmp_path / "out")
    verified = list(records.read(tmp_path / "out/verified.jsonl", VerifiedRollout))
    assert [each.correct for each in verified] == [True, False, False, True, None, True, None, None]
    assert verified[0].why == (
        "final_answer pass: '2' equals the reference '2'; format pass: the final answer '2' is marked; units "
        "(advisory) undecided: no sum of measures, and the reference names no unit")
    assert whole["criteria"] == {"final_answer": {"pass": 3, "fail": 2, "undecided": 3},
                                 "format": {"pass": 7, "fail": 1, "undecided": 0},
                                 "units": {"pass": 0, "fail": 0, "undecided": 8}}
    lines = {name: (tmp_path / "out" / name).read_bytes() for name in ("verified.jsonl", "findings.jsonl")}
    for cuts in ((500, 900), (900, 300)):  # killed with the one file, or the other, ahead
        for (name, content), cut in zip(lines.items(), cuts, strict=True):
            (tmp_path / "out" / name).unlink()
            (tmp_path / "out" / f"{name}.partial").write_bytes(content[:cut])
        assert verify.run(config, tmp_path / "out") == whole
        assert lines == {name: (tmp_path / "out" / name).read_bytes() for name in lines}
    with pytest.raises(ValueError, match=r"made with checklist\.advisory"):
        verify.run(dataclasses.replace(config, checklist=Checklist(required=("final_answer", "format"))),
                   tmp_path / "out")


def test_ones_own_file_decides_and_counts_by_its_content(config, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("from libra_jax.verify.criteria import Finding\n"
                    "def short(problem, rollout):\n"
                    "    return Finding(passed=len(rollout.text) < 5, evidence='LENGTH')\n"
                    "CRITERIA = {'short': short}\n")
    config = dataclasses.replace(config, criteria=str(file), checklist=Checklist(required=("short",)))
    summary = verify.run(config, tmp_path / "out")
    # Without an answer to compare with, too; the last rollout is of no known problem.
    assert (summary["correct"], summary["incorrect"], summary["undecided"]) == (4, 3, 1)
    file.write_text(file.read_text().replace("LENGTH", "length"))
    with pytest.raises(ValueError, match=r"was made with criteria="):
        verify.run(config, tmp_path / "out")


def test_a_mistyped_criterion_is_told_before_anything_is_written(config, tmp_path):
    with pytest.raises(ValueError, match="no criterion 'formt'; the nearest is 'format'"):
        verify.run(dataclasses.replace(config, checklist=Checklist(required=("formt",))), tmp_path / "out")
    assert not (tmp_path / "out/verified.jsonl.partial").exists()


def test_missing_paths_and_wrong_formats_are_named(config, tmp_path):
    with pytest.raises(ValueError, match=r"--config\.problems is empty"):
        verify.run(verify.Config(rollouts=config.rollouts), tmp_path / "out")
    (tmp_path / "text").write_text("no json\n")
    with pytest.raises(ValueError, match=r"text:1: not JSON.*format"):
        verify.run(verify.Config(rollouts=str(tmp_path / "text"), format="math_qwen"), tmp_path / "out")


def test_gsm8k_agrees_with_every_published_label(shared, tmp_path):
    summary = verify.run(verify.Config(rollouts=str(shared / "rollouts/gsm8k_gpt3_solutions.jsonl.gz"),
                                       format="gsm8k_gpt3"), tmp_path)
    assert summary["rollouts"] == 2640 and summary["undecided"] == 0
    assert summary["agreement"] >= 0.995
    assert (tmp_path / "disagreements.jsonl").read_text().count("\n") == summary["disagreements"]
    problems = list(records.read(tmp_path / "problems.jsonl", Problem))
    assert len(problems) == 660 and all(problem.answer for problem in problems)


def test_math_agrees_wherever_the_published_reference_is_whole(shared, tmp_path):
    summary = verify.run(verify.Config(rollouts=str(shared / "rollouts/math_qwen2.5_math.jsonl.gz"),
                                       format="math_qwen"), tmp_path)
    assert summary["rollouts"] == 400 and summary["undecided"] == 0
    # "4:30 p.m." was published as "4:30p..", by which all eight right responses count as wrong.
    assert summary["damaged_references"] == ["math-0003"]
    assert summary["agreement_on_intact_references"] >= 0.99
    against = [json.loads(line) for line in (tmp_path / "disagreements.jsonl").read_text().splitlines()]
    assert [each["correct"] for each in against if each["problem_id"] == "math-0003"] == [True] * 8


def test_published_scores_of_a_reward_model_become_a_judge(shared, tmp_path):
    """The documented chain: verify, curate, judge, bench; AUROC is that of the published numbers."""
    verify.run(verify.Config(rollouts=str(shared / "rollouts/math_qwen2.5_math.jsonl.gz"), format="math_qwen"),
               tmp_path)
    given = {each.example_id: each.score for each in records.read(tmp_path / "scores.jsonl", Score)}
    assert len(given) == 400 and given["math-0000/qwen2.5-math/1"] == 3.515625
    curate.run(curate.Config(problems=(str(tmp_path / "problems.jsonl"),), rollouts=(str(tmp_path / "verified.jsonl"),),
                             bench_fraction=1.0, v2v=curate.V2VConfig(balance=False, both_kinds=False)), tmp_path)
    counts = judge.run(judge.Config(examples=str(tmp_path / "bench.jsonl"), judge="scores",
                                    scores=str(tmp_path / "scores.jsonl")), tmp_path)
    assert counts["judgements"] == 360 and counts["unparsed"] == 0
    numbers = bench.run(bench.Config(examples=str(tmp_path / "bench.jsonl"),
                                     judgements=(str(tmp_path / "judgements.jsonl"),)), tmp_path)
    examples = list(records.read(tmp_path / "bench.jsonl", JudgingExample))
    right = [given[each.id] for each in examples if each.correct]
    wrong = [given[each.id] for each in examples if not each.correct]
    above = sum((a > b) + (a == b) / 2 for a in right for b in wrong) / len(right) / len(wrong)
    metrics = numbers["judges"][0]["metrics"]
    assert metrics["auroc"]["value"] == pytest.approx(above) == pytest.approx(0.984, abs=5e-4)
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(0.947, abs=5e-4)


def above(config, folder, tmp_path):
    """The config with a model's judgements of `folder`/undecided.jsonl, and with two files of people's labels."""
    verdicts = {"p/q/4": ["correct", "correct", "unparsed", "correct"], "open/q/6": ["incorrect"], "gone": ["correct"]}
    records.write(tmp_path / "judgements.jsonl", [
        Judgement(example_id=name, judge="j", sample=number, thought="", verdict=verdict, num_tokens=1)
        for name, some in verdicts.items() for number, verdict in enumerate(some)])

    def label(sample, correct, policy="q", problem="p"):
        return HumanLabel(problem_id=problem, policy=policy, sample=sample, correct=correct)

    records.write(tmp_path / "one.jsonl", [label(0, False), label(1, None), label(2, True)])
    records.write(tmp_path / "two.jsonl", [label(0, False), label(2, False), label(0, True, "nobody"),
                                           label(6, True, problem="open")])
    with open(tmp_path / "two.jsonl", "a") as out:
        out.write('{"problem_id": "p", "correct": true}\n')
    return dataclasses.replace(config, model=(str(tmp_path / "judgements.jsonl"),),
                               human=(str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")))


def test_three_tiers(config, tmp_path, capsys):
    verify.run(config, tmp_path / "rules")
    asked = list(records.read(tmp_path / "rules/undecided.jsonl", JudgingExample))
    assert [each.id for each in asked] == ["p/q/4", "open/q/6"]  # of the unknown problem nobody knows the question
    full = above(config, tmp_path / "rules", tmp_path)
    summary = verify.run(full, tmp_path / "out")
    decided = {each.sample: (each.correct, each.decided_by)
               for each in records.read(tmp_path / "out/verified.jsonl", VerifiedRollout)}
    assert decided == {0: (False, "human"), 1: (False, "rule"), 2: (None, "human"), 3: (True, "rule"),
                       4: (True, "model"), 5: (True, "rule"), 6: (True, "human"), 7: (None, "rule")}
    assert summary["by_tier"] == {"rule": {"correct": 2, "incorrect": 1, "undecided": 1},
                                  "model": {"correct": 1, "incorrect": 0, "undecided": 0},
                                  "human": {"correct": 1, "incorrect": 1, "undecided": 1}}
    assert (summary["correct"], summary["incorrect"], summary["undecided"]) == (4, 2, 2)
    assert summary["model"] == {"responses": 3, "of_no_such_rollout": 1}
    assert summary["human"] == {"responses": 5, "disputed": 1, "could_not_tell": 1, "of_no_such_rollout": 1}
    assert summary["broken_lines"] == 1 and (tmp_path / "out/human.1.rejected.jsonl").exists()
    (unknown,) = records.read(tmp_path / "out/human.unknown.jsonl", HumanLabel)
    assert (unknown.problem_id, unknown.policy) == ("p", "nobody")
    said = capsys.readouterr().err
    assert "no such rollout: p/nobody/0" in said and "no such rollout: gone" in said
    assert (tmp_path / "out/undecided.jsonl").read_text() == ""  # what people dispute no model settles


def test_a_killed_run_of_three_tiers_ends_with_the_same_bytes(config, tmp_path):
    full = above(config, tmp_path, tmp_path)
    whole = verify.run(full, tmp_path / "out")
    names = ("verified.jsonl", "undecided.jsonl", "human.unknown.jsonl", "summary.json")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    for name in names:
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out/verified.jsonl.partial").write_bytes(before["verified.jsonl"][:len(before["verified.jsonl"]) // 2])
    assert verify.run(full, tmp_path / "out") == whole == verify.run(full, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == before
    records.write(full.human[0], [])
    with pytest.raises(ValueError, match="made with human"):
        verify.run(full, tmp_path / "out")


@pytest.mark.parametrize("share", [0.5, 1.1, 0.0])
def test_an_agreement_that_both_verdicts_could_reach_is_refused(share):
    with pytest.raises(ValueError, match="model_agreement"):
        verify.Config(model_agreement=share)
