"""A criterion of one's own decides, as CONTRIBUTING.md shows it; the rest is in tests/verify/criteria_test.py."""

from libra_jax.records import Problem, Rollout
from libra_jax.verify import criteria
from libra_jax.verify.criteria import Checklist

PROBLEM = Problem(id="p", source="lab", question="How is acid handled?")
ROLLOUTS = [(PROBLEM, Rollout(problem_id="p", policy="a", sample=number, text=text, num_tokens=9, finish="stop"))
            for number, text in enumerate(("Put gloves on.", "With care."))]


def decided(**how) -> list[bool | None]:
    checklist = Checklist(required=("gloves",))
    return [checklist.decide(found)[0] for found in criteria.check(ROLLOUTS, checklist, num_workers=1, **how)]


def test_a_criterion_in_a_file(tmp_path, shown):
    (tmp_path / "gloves.py").write_text(shown("A criterion"))
    assert decided(file=str(tmp_path / "gloves.py")) == [True, False]


def test_a_criterion_of_an_installed_package(lab):
    assert decided() == [True, False]
