"""Criteria: those that ship, checklists, the user's own from a file and from entry points, and their bounds."""

import dataclasses
import textwrap
import time

import pytest

from libra_jax.records import Problem, Rollout
from libra_jax.verify import criteria
from libra_jax.verify.criteria import Checklist, Finding

PROBLEM = Problem(id="p", source="s", question="How far?", answer="7 km")


def rollout(text, finish="stop", problem="p"):
    return Rollout(problem_id=problem, policy="q", sample=0, text=text, num_tokens=9, finish=finish)


def check(text, names, **kwargs):
    (findings,) = criteria.check([(PROBLEM, rollout(text))], Checklist(required=names), num_workers=1, **kwargs)
    return [findings[name] for name in names]


@pytest.mark.parametrize("name, text, passed, evidence", [
    ("final_answer", "A: 7", True, "'7' equals the reference '7 km'"),
    ("final_answer", "A: 8", False, "'8' differs from"),
    ("final_answer", "hm", False, "no final answer found"),
    ("step_arithmetic", "3 + 4 = 7, 2 * 2 = 4", True, "2 equations hold"),
    ("step_arithmetic", "so 3 + 4 = 7 and 12 - 5 = 8", False,
     "at character 17: '12 - 5 = 8', where one side is 7 and the other 8"),
    ("step_arithmetic", "as one sees", None, "no equation"),
    ("step_arithmetic", "*".join(["(9^60)"] * 30) + " = 1", False, "a number of more than 30 digits"),
    ("units", "A: 7 kilometres", True, "the answer is in km, the reference in km"),
    ("units", "A: 7 miles", False, "the answer is in mile"),
    ("units", "A: 7", False, "no unit"),
    ("units", "96 feet + 4 hours is\nA: 7 km", False, "at character 0: '96 feet + 4 hours' adds length and time"),
    ("units", "2 feet + 6 inches, 3 cats + 2 dogs\nA: 7 km", True, "in km"),
    ("format", "A: 7", True, "'7' is marked"), ("format", "seven", False, "no final answer is marked"),
])
def test_shipped(name, text, passed, evidence):
    (found,) = check(text, (name,))
    assert found.passed is passed and evidence in found.evidence


def test_without_a_reference_the_answer_is_undecided_and_units_are_those_of_sums():
    problem = dataclasses.replace(PROBLEM, answer=None)
    assert criteria.final_answer(problem, rollout("A: 7")) == Finding(passed=None, evidence="the problem has no answer")
    assert criteria.units(problem, rollout("A: 7 km")).passed is None
    assert criteria.units(problem, rollout("2 feet + 6 inches")).passed is True


def test_a_response_cut_off_fails_the_format():
    assert criteria.answer_format(PROBLEM, rollout("A: 7", "length")).evidence == "cut off after 9 tokens"


@pytest.mark.parametrize("required, advisory, correct", [
    ((True, True), False, True), ((True, False), True, False), ((None, False), True, False),
    ((True, None), True, None), ((None, None), None, None), ((True, True), None, True),
])
def test_a_checklist_decides(required, advisory, correct):
    checklist = Checklist(required=("a", "b"), advisory=("c",))
    findings = {name: Finding(passed=passed, evidence=f"of {name}")
                for name, passed in zip("abc", (*required, advisory), strict=True)}
    decided, why = checklist.decide(findings)
    assert decided is correct
    assert why.endswith(f"c (advisory) {criteria.outcome(advisory)}: of c") and why.startswith("a ")


@pytest.mark.parametrize("required, advisory, match", [
    ((), (), "required is empty"), (("a",), ("a",), "'a' is in the checklist twice"),
])
def test_impossible_checklists(required, advisory, match):
    with pytest.raises(ValueError, match=match):
        Checklist(required=required, advisory=advisory)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(textwrap.dedent('''
        import os, time
        from libra_jax.verify.criteria import Finding

        def polite(problem, rollout):
            return Finding(passed="please" in rollout.text, evidence=f"{problem.id}: " + "x" * 1000)

        def fragile(problem, rollout):
            if "hang" in rollout.text:
                while True:
                    try:
                        time.sleep(100)
                    except Exception:
                        pass
            if "die" in rollout.text:
                os._exit(3)
            if "fill" in rollout.text:
                bytearray(8 << 30)
            if "raise" in rollout.text:
                raise KeyError("nothing")
            if "odd" in rollout.text:
                return "yes"
            return Finding(passed=True, evidence="\\ud800")

        CRITERIA = {"polite": polite, "fragile": fragile, "number": 3}
        NOTHING = {}
    '''))
    return str(path)


def test_ones_own_criteria_from_a_file(own):
    polite, answer = check("please\nA: 7", ("polite", "final_answer"), file=own)
    assert polite.passed is True and polite.evidence.startswith("p: xxx") and len(polite.evidence) == criteria.KEPT
    assert answer.passed is True


def test_what_hangs_dies_fills_memory_or_raises_costs_its_own_finding_alone(own):
    texts = ["die", "fine", "hang", "fill", "raise", "odd", "fine please"]
    start = time.monotonic()
    found = list(criteria.check([(PROBLEM, rollout(text)) for text in texts],
                                Checklist(required=("fragile",), advisory=("polite",)), file=own, num_workers=1,
                                timeout=1.0))
    assert time.monotonic() - start < 30
    assert [each["fragile"].passed for each in found] == [None, True, None, None, None, None, True]
    assert [each["polite"].passed for each in found] == [False] * 6 + [True]
    evidence = [each["fragile"].evidence for each in found]
    assert evidence == ["ran out of memory or crashed", "?", "no decision within 1 s", "ran out of memory or crashed",
                        "raised KeyError: 'nothing'",
                        "returned 'yes'; expected a Finding that passed True, False or None", "?"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with entry points, on the path of this process and of its workers."""
    (tmp_path / "lab.py").write_text("from libra_jax.verify.criteria import Finding\n"
                                     "def gloves(problem, rollout):\n"
                                     "    return Finding(passed='gloves' in rollout.text, evidence='looked')\n")
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[libra_jax.criteria]\ngloves = lab:gloves\nbroken = lab:nothing\n"
                                           "format = lab:gloves\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_ones_own_criteria_from_entry_points(installed):
    assert check("with gloves", ("gloves",)) == [Finding(passed=True, evidence="looked")]
    with pytest.raises(ValueError, match="'broken' is lab:nothing of an installed package, which does not load"):
        criteria.load(["broken"])
    with pytest.raises(ValueError, match="'format' comes from the package and from entry points; give yours another"):
        criteria.load(["format"])


@pytest.mark.parametrize("names, match", [
    (("final_anser", "polite"), "no criterion 'final_anser'; the nearest is 'final_answer' of final_answer, format, "),
    (("polit",), "the nearest is 'polite'"), (("number",), "'number' is int; expected a function"),
    (("final_answer",), "brings polite, fragile, number, and the checklist names none of them"),
])
def test_wrong_names_are_told(own, names, match):
    with pytest.raises(ValueError, match=match):
        criteria.load(names, own)


@pytest.mark.parametrize("content, match", [
    ("CRITERIA = {}", r"CRITERIA is \{\}; expected a dictionary"), ("x = 1", "CRITERIA is None"),
    ("1 / 0", "ZeroDivisionError"),
])
def test_wrong_files_are_told(tmp_path, content, match):
    (tmp_path / "c.py").write_text(content)
    with pytest.raises(ValueError, match=match):
        criteria.load(["format"], str(tmp_path / "c.py"))
    with pytest.raises(ValueError, match=r"--config\.criteria=.*no such file"):
        criteria.load(["format"], str(tmp_path / "none.py"))


def test_decide_without_a_checklist_is_the_final_answer_and_unknown_problems_are_undecided():
    rollouts = [rollout("A: 7"), rollout("A: 7", problem="other")]
    for checklist in (Checklist(), Checklist(required=("final_answer", "format"))):
        decided = list(criteria.decide(rollouts, {"p": PROBLEM}, checklist, num_workers=1))
        assert [correct for _, correct, _, _ in decided] == [True, None]
        assert decided[1][2] == "undecided: problem 'other' is not among the problems"
        assert bool(decided[0][3]) is not checklist.plain
