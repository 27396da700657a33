"""The domain example: its rules find the slips that are put in, and its reports go from rules to judgements."""

import dataclasses
import json
import pathlib

import pytest

from libra_jax import config as configs
from libra_jax import records
from libra_jax.judging import prompt
from libra_jax.records import JudgingExample, VerifiedRollout
from libra_jax.stages import curate, judge, verify

FILE = str(pathlib.Path(__file__).parents[2] / "configs/incident_reports.py")


@pytest.fixture(scope="module")
def domain():
    return configs.execute(FILE, "--config")


@pytest.fixture
def faultless(domain):
    """A problem of 75 minutes and 1,240 users, and a report without a slip."""
    problem = domain.incident(0)
    lines = {"Users": "1,240", "Detected": "14:05", "Mitigated": "14:47", "Resolved": "15:20"}
    question = "\n".join(f"{line.partition(':')[0]}: {lines[line.partition(':')[0]]}"
                         if line.partition(":")[0] in lines else line for line in problem.question.split("\n"))
    problem = dataclasses.replace(problem, question=question)
    return problem, domain.report(problem, "careful", 0, 0.0)


@pytest.mark.parametrize("old, new, failed", [
    ("", "", []), ("Severity: 1", "Severity: 2", ["severity"]), ("Mitigated: 14:47", "Mitigated: 15:47", ["timeline"]),
    ("Duration: 75 minutes", "Duration: 42 minutes", ["duration"]), ("owner: ", "for: ", ["owned"]),
    ("Severity: 1\nDetected: 14:05", "Detected: 14:05\nSeverity: 1", ["complete"]),
    ("Lead: ", "Led by: ", ["complete"]), ("Summary: ", "Summary: careless; ", ["blameless"]),
    ("Severity: 1\n", "", ["complete", "severity"]),
])
def test_each_rule_finds_its_slip(domain, faultless, old, new, failed):
    problem, report = faultless
    assert old in report.text
    report = dataclasses.replace(report, text=report.text.replace(old, new))
    found = {name: rule(problem, report) for name, rule in domain.CRITERIA.items()}
    assert [name for name, finding in found.items() if finding.passed is False] == failed
    assert all(finding.evidence for finding in found.values())


def test_a_duration_in_other_words_is_undecided(domain, faultless):
    problem, report = faultless
    report = dataclasses.replace(report, text=report.text.replace("75 minutes", "an hour and a quarter"))
    assert domain.duration(problem, report).passed is None


def test_from_reports_to_judgements(domain, tmp_path):
    domain.write(tmp_path, num_incidents=20)
    config = configs.load(FILE, verify.Config)
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("problems", "rollouts")}
    summary = verify.run(dataclasses.replace(config, num_workers=2, **paths), tmp_path / "verify")
    assert summary["rollouts"] == 160 and min(summary[name] for name in ("correct", "incorrect", "undecided")) > 5
    verified = list(records.read(tmp_path / "verify/verified.jsonl", VerifiedRollout))
    assert any("duration fail: " in each.why and each.correct is False for each in verified)
    # Blame is advice: a report that blames is right all the same, and its evidence is there.
    assert any("blameless (advisory) fail: 'fault' is said" in each.why and each.correct for each in verified)
    unsaid = [each for each in verified if "duration undecided" in each.why and " fail:" not in each.why]
    assert unsaid and all(each.correct is None for each in unsaid)
    sets = curate.Config(problems=(paths["problems"],), rollouts=(str(tmp_path / "verify/verified.jsonl"),))
    curate.run(dataclasses.replace(sets, v2v=dataclasses.replace(sets.v2v, overlap=1.0)), tmp_path / "sets")
    bench = list(records.read(tmp_path / "sets/bench.jsonl", JudgingExample))
    assert len(bench) >= 4 and sum(example.correct for example in bench) * 2 == len(bench)
    judged = judge.run(judge.Config(examples=str(tmp_path / "sets/bench.jsonl"), judge="response_length"),
                       tmp_path / "judge")
    assert judged["judgements"] == len(bench)


def test_its_template_asks_for_the_handbook(domain):
    template = prompt.load_template(FILE)
    problem = domain.incident(3)
    asked = template.judging(problem.question, "Service: maps")[0].content[0]
    assert domain.HANDBOOK in asked and "Service: maps" in asked and "# End of report" in asked


def test_its_problems_are_the_same_every_time(domain, tmp_path):
    for name in ("a", "b"):
        domain.write(tmp_path / name, num_incidents=2)
    assert (tmp_path / "a/rollouts.jsonl").read_bytes() == (tmp_path / "b/rollouts.jsonl").read_bytes()
    assert len({json.loads(line)["text"] for line in (tmp_path / "a/rollouts.jsonl").open()}) > 8
