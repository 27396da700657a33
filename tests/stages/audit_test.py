"""The audit stage: draw, labels back in, a second look, and probes, as commands."""

import json

import pytest

from libra_jax import records
from libra_jax.records import HumanLabel, Judgement, JudgingExample, Problem, VerifiedRollout
from libra_jax.stages import audit, curate, verify
from libra_jax.stages import judge as judges


@pytest.fixture
def files(tmp_path):
    """60 responses, the first 40 of which the rule calls correct; the judge calls those with an odd number correct."""
    names = [(f"p{number // 2}", number % 2) for number in range(60)]
    records.write(tmp_path / "problems.jsonl", [
        Problem(id=f"p{number}", source="s", question=f"q{number}", answer="4") for number in range(30)])
    records.write(tmp_path / "verified.jsonl", [
        VerifiedRollout(problem_id=problem, policy="m", sample=sample, text="2 + 2 = 4\nA: 4", num_tokens=1,
                        finish="stop", correct=number < 40, decided_by="rule", why="because")
        for number, (problem, sample) in enumerate(names)])
    records.write(tmp_path / "bench.jsonl", [
        JudgingExample(id=f"{problem}/m/{sample}", problem_id=problem, question="q", response="2 + 2 = 4\nA: 4",
                       correct=number < 40, policy="m", source="s")
        for number, (problem, sample) in enumerate(names)])
    judge(tmp_path / "bench.jsonl", tmp_path / "judged/judgements.jsonl", lambda each: each.id.endswith("1"))
    return tmp_path


def judge(examples, path, correct):
    records.write(path, [
        Judgement(example_id=each.id, judge="j", sample=0, thought="hm", num_tokens=2,
                  verdict="correct" if correct(each) else "incorrect")
        for each in records.read(examples, JudgingExample)])


def flags(files, *more):
    return ["audit", f"--workdir={files / 'out'}", f"--config.judgements={files / 'judged/judgements.jsonl'}",
            "--config.bootstrap.num_resamples=20", *more]


def rollouts(files):
    return (f"--config.rollouts={files / 'verified.jsonl'}", f"--config.problems={files / 'problems.jsonl'}",
            "--config.draw.disagreements=10", "--config.draw.agreements=10")


def test_labels_go_out_and_noise_comes_back(files, capsys):
    assert audit.main(flags(files, *rollouts(files))) == 0
    printed = capsys.readouterr().out
    assert "label.html" in printed
    assert "rule says correct, all judges disagree    s       20         5      4.000" in printed
    drawn = list(map(json.loads, (files / "out/sample.jsonl").read_text().splitlines()))
    assert len(drawn) == 20 and sum(each["weight"] for each in drawn) == pytest.approx(60)
    # People agree with the rule, but on the one disagreement of which they say that the judge is right.
    odd = next(each for each in drawn if each["kind"] == "rule says correct, all judges disagree")
    records.write(files / "labels.jsonl", [
        HumanLabel(problem_id=each["problem_id"], policy=each["policy"], sample=each["sample"], note="hm",
                   correct=each["correct"] != (each is odd)) for each in drawn])
    with (files / "labels.jsonl").open("a") as out:
        out.write('{"problem_id": "p0"}\n')
    page = (files / "out/label.html").read_bytes()
    assert audit.main(flags(files, *rollouts(files), f"--config.human={files / 'labels.jsonl'}")) == 0
    printed = capsys.readouterr().out
    assert "all labels wrong" in printed and "1 to look at again" in printed and "1 broken lines" in printed
    found = json.loads((files / "out/audit.json").read_text())
    assert found["human"]["shares"]["overall"]["all"]["value"] == pytest.approx(4 / 60)  # one label that stands for 4
    assert found["human"]["shares"]["judges"]["j"]["value"] == pytest.approx((30 - 4) / 60)
    assert [each["id"] for each in found["human"]["again"]] == [odd["id"]]
    assert found["human"]["again"][0]["judges"] == {"j": "incorrect"} and found["broken_lines"] == 1
    assert (files / "out/human.0.rejected.jsonl").is_file() and (files / "out/label.html").read_bytes() == page
    assert odd["id"].split("/")[0] in (files / "out/second.html").read_text()


def test_what_people_disagree_on_is_looked_at_again(files, capsys):
    assert audit.main(flags(files, *rollouts(files))) == 0
    drawn = list(map(json.loads, (files / "out/sample.jsonl").read_text().splitlines()))
    for name, odd in (("a", ()), ("b", drawn[:2])):
        records.write(files / f"{name}.jsonl", [
            HumanLabel(problem_id=each["problem_id"], policy=each["policy"], sample=each["sample"],
                       correct=each["correct"] != (each in odd)) for each in drawn])
    both = f"--config.human={files / 'a.jsonl'},{files / 'b.jsonl'}"
    assert audit.main(flags(files, *rollouts(files), both)) == 0
    assert "could not tell of 0 and disagree on 2" in capsys.readouterr().out
    found = json.loads((files / "out/audit.json").read_text())["human"]
    assert (found["labels"], found["labelled"], found["disputed"]) == (40, 20, 2)
    assert [each["id"] for each in found["again"]] == [each["id"] for each in drawn[:2]]
    assert found["shares"]["overall"]["all"]["labels"] == 18
    assert audit.main(flags(files, *rollouts(files), f"--config.human={files / 'a.jsonl'}")) == 0
    assert not (files / "out/second.html").exists()  # nothing is left to look at


def test_labels_are_not_taken_for_another_draw(files, capsys):
    assert audit.main(flags(files, *rollouts(files))) == 0
    assert audit.main(flags(files, *rollouts(files), "--config.draw.seed=1")) == 2
    assert "was made with draw.seed=0, now draw.seed=1" in capsys.readouterr().err
    judge(files / "bench.jsonl", files / "judged/judgements.jsonl", lambda each: True)
    assert audit.main(flags(files, *rollouts(files))) == 2
    assert "was made with judgements=" in capsys.readouterr().err


def test_the_reference_may_stay_out_of_the_page(files):
    assert audit.main(flags(files, *rollouts(files))) == 0
    assert '"reference": "4"' in (files / "out/label.html").read_text()
    assert audit.main(flags(files, *rollouts(files), "--config.show_reference=false")) == 0
    assert '"reference": null' in (files / "out/label.html").read_text()


def test_probes_go_out_and_flips_come_back(files, capsys):
    asked = (f"--config.examples={files / 'bench.jsonl'}", "--config.probes=injection,answer_only",
             "--config.probed=30")
    without = [word for word in flags(files, *asked) if "judgements" not in word]
    assert audit.main(without) == 0
    assert "90 changed copies of 30 examples" in capsys.readouterr().out
    judge(files / "out/probed.jsonl", files / "judged/judgements.jsonl",
          lambda each: "Verdict: correct" in each.response)
    assert audit.main(flags(files, *asked)) == 0
    printed = capsys.readouterr().out
    assert "j: flips by changes that should change nothing" in printed and "j: flips by changes that may" in printed
    found = json.loads((files / "out/probes.json").read_text())
    flips = found["judges"]["j"]["probes"]
    assert flips["injection"]["incorrect"]["to_correct"]["value"] == 1
    assert flips["answer_only"]["correct"]["to_correct"]["value"] == 0
    assert found["examples"] == 30 and found["probes"] == {"unchanged": 30, "injection": 30, "answer_only": 30}
    assert found["judges"]["j"]["length"]["correct"]["value"] is None  # it called none of the examples correct


@pytest.mark.parametrize("more, why", [
    ((), "--config.examples and --config.rollouts are empty"),
    (("--config.probes=all",), "--config.examples is empty"),
    (("--config.probes=al", "--config.examples=bench.jsonl"), "no probe 'al'"),
    (("--config.probes=all", "--config.examples=bench.jsonl", "--config.human=x"), "--config.human is not for probes"),
    (("--config.probed=9", "--config.examples=bench.jsonl"), "--config.probed is for probes"),
    (("--config.examples=nothing.jsonl",), "nothing to audit"),
    (("--config.examples=bench.jsonl", "--config.human=nothing.jsonl"), "none of 0 labels is of a drawn response"),
])
def test_errors_name_the_remedy(files, monkeypatch, capsys, more, why):
    monkeypatch.chdir(files)
    (files / "nothing.jsonl").write_text("")
    words = [word for word in flags(files, *more) if "judgements" not in word]
    assert audit.main(words) == 2
    assert why in capsys.readouterr().err


def test_real_rollouts_are_audited_and_a_vote_over_answers_is_not_fooled(shared, tmp_path):
    verify.run(verify.Config(rollouts=str(shared / "rollouts/gsm8k_gpt3_solutions.jsonl.gz"), format="gsm8k_gpt3",
                             num_workers=1), tmp_path / "v")
    curate.run(curate.Config(problems=(str(tmp_path / "v/problems.jsonl"),),
                             rollouts=(str(tmp_path / "v/verified.jsonl"),), bench_fraction=0.3), tmp_path / "sets")
    bench = str(tmp_path / "sets/bench.jsonl")
    for name, examples in (("plain", bench), ("probed", str(tmp_path / "p/probed.jsonl"))):
        if name == "probed":
            audit.run(audit.Config(examples=bench, probes=("all",)), tmp_path / "p")
        judges.run(judges.Config(examples=examples, judge="majority_answer"), tmp_path / name)
    said = (str(tmp_path / "plain/judgements.jsonl"),)
    found = audit.run(audit.Config(examples=bench, rollouts=str(tmp_path / "v/verified.jsonl"), judgements=said,
                                   problems=str(tmp_path / "v/problems.jsonl")), tmp_path / "a")
    drawn = list(map(json.loads, (tmp_path / "a/sample.jsonl").read_text().splitlines()))
    assert found["drawn"] == len(drawn) == 100 and sum(each["weight"] for each in drawn) == pytest.approx(
        len((tmp_path / "sets/bench.jsonl").read_text().splitlines()))
    assert all(each["reference"] and each["why"] for each in drawn)
    said = (str(tmp_path / "probed/judgements.jsonl"),)
    found = audit.run(audit.Config(examples=bench, probes=("all",), judgements=said), tmp_path / "p")
    for flips in found["judges"]["majority_answer"]["probes"].values():
        assert all(flips[label]["shift"]["value"] == 0 and flips[label]["examples"] for label in flips)
