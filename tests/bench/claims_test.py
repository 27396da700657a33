"""Claims over seeds: the rule by hand, pooled differences, transfer, policies and the correlation."""

import dataclasses

import pytest

from libra_jax.bench import claims
from libra_jax.bench.claims import Claim, Seed
from libra_jax.bench.significance import Estimate
from libra_jax.records import Judgement, JudgingExample, Problem, VerifiedRollout

POLICIES = ("careful", "hasty")


def seed_of(number, right_by_judge, num_problems=40):
    """Two examples a problem, one of each policy; a judge is right on the problems below its share."""
    examples = [JudgingExample(id=f"{n}/{policy}", problem_id=f"p{n}", question="?", response="!", correct=True,
                               policy=policy, source="s") for n in range(num_problems) for policy in POLICIES]
    judgements = {}
    for judge, shares in right_by_judge.items():
        judgements[judge] = [
            Judgement(example_id=each.id, judge=judge, sample=0, thought="", num_tokens=10 * (1 + len(judge)),
                      verdict="correct" if int(each.problem_id[1:]) < shares[POLICIES.index(each.policy)] * num_problems
                      else "incorrect") for each in examples]
    return Seed(number=number, examples=examples, judgements=judgements)


def answered(num_problems, right):
    problems = [Problem(id=f"q{n}", source="s", question="?", answer="1") for n in range(num_problems)]
    return problems, [VerifiedRollout(problem_id=each.id, policy="p", sample=0, text="1", num_tokens=1, finish="stop",
                                      correct=n < right * num_problems, decided_by="rule", why="")
                      for n, each in enumerate(problems)]


@pytest.mark.parametrize(("low", "high", "by_seed", "sign", "verdict"), [
    (0.01, 0.05, (0.02, 0.04), 1, "held"),
    (0.01, 0.05, (0.06, -0.01), 1, "could not be told"),  # one seed says otherwise
    (-0.01, 0.05, (0.02, 0.04), 1, "could not be told"),
    (-0.05, -0.01, (-0.02, -0.04), 1, "failed"),
    (-0.05, -0.01, (-0.02, -0.04), -1, "held"),
    (None, None, (0.1,), 1, "could not be told"),
])
def test_the_rule(low, high, by_seed, sign, verdict):
    assert claims.decide(Estimate(value=0.0, low=low, high=high), by_seed, sign) == verdict


def test_judges_side_by_side():
    seeds = [seed_of(0, {"a": (0.5, 0.5), "bb": (0.8, 0.8)}), seed_of(1, {"a": (0.6, 0.6), "bb": (0.7, 0.7)})]
    said = [Claim(text="bb beats a", source="me", first="a", second="bb"),
            Claim(text="bb is shorter", source="me", first="a", second="bb", metric="tokens", sign=-1)]
    part = claims.side_by_side("T", seeds, said)
    assert part.tables[0].rows[0][1].startswith("0.550 [") and part.tables[0].rows[0][2] == "0.500 to 0.600"
    better, shorter = part.decided
    assert better.difference.value == pytest.approx(0.2) and better.by_seed == pytest.approx((0.3, 0.1))
    assert better.verdict == "held"
    assert shorter.difference.value == pytest.approx(10) and shorter.verdict == "failed"
    assert "bb beats a" in claims.text([part]) and part.numbers()["decided"][0]["verdict"] == "held"


def test_what_judges_solve_themselves_stands_beside_their_accuracy():
    seeds = []
    for number, (first, second) in enumerate([(0.4, 0.8), (0.5, 0.7)]):
        problems, answers = answered(50, first)
        seeds.append(dataclasses.replace(seed_of(number, {"a": (0.5, 0.5), "bb": (0.5, 0.5)}), asked=problems,
                                         answers={"a": answers, "bb": answered(50, second)[1]}))
    said = [Claim(text="bb solves more", source="me", first="a", second="bb", metric="solving"),
            Claim(text="bb judges better", source="me", first="a", second="bb")]
    part = claims.side_by_side("T", seeds, said)
    assert part.tables[0].header[-1] == "solves"
    assert [row[-1][:5] for row in part.tables[0].rows] == ["0.450", "0.750"]
    more, better = part.decided
    assert more.difference.value == pytest.approx(0.3) and more.by_seed == pytest.approx((0.4, 0.2))
    assert (more.verdict, more.unit, better.verdict) == ("held", "solving", "could not be told")


def test_transfer_weighs_no_policy_for_being_hard():
    seeds = [seed_of(number, {"on careful": (0.9, 0.5), "on hasty": (0.7, 0.6)}) for number in range(2)]
    part = claims.transfer("T", {"careful": "on careful", "hasty": "on hasty"}, seeds)
    assert [row[0] for row in part.tables[0].rows] == ["careful", "hasty"]
    assert part.tables[0].rows[0][1].startswith("0.900") and part.tables[0].rows[0][2].startswith("0.500")
    assert part.decided[0].difference.value == pytest.approx(((0.9 - 0.7) + (0.6 - 0.5)) / 2)
    assert part.decided[0].verdict == "held"


def test_more_problems_without_answers():
    asked, before = answered(50, 0.4)
    after = {10: answered(50, 0.5)[1], 40: answered(50, 0.8)[1]}
    part = claims.unlabelled("T", [asked, asked], [before, before], [after, after])
    assert [row[0] for row in part.tables[0].rows] == ["none", "10", "40"]
    assert part.tables[0].rows[2][2].startswith("0.400 [")
    assert part.decided[0].difference.value == pytest.approx(0.3) and part.decided[0].verdict == "held"


def test_the_correlation_is_over_judges():
    shares = {"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.9}
    asked, before = answered(50, 0.4)
    after = {name: answered(50, 0.4 + share / 2)[1] for name, share in shares.items()}
    seeds = [seed_of(number, {name: (share, share) for name, share in shares.items()}) for number in range(2)]
    part = claims.correlated("T", seeds, [asked] * 2, [before] * 2, [after] * 2)
    assert part.decided[0].difference.value == pytest.approx(1, abs=0.01) and part.decided[0].verdict == "held"
    assert part.points["a"] == (pytest.approx(0.5), pytest.approx(0.26))  # of 50, 33 right and not 20


def test_seeds_stay_apart_in_the_pool():
    seeds = [seed_of(number, {"a": (0.5, 0.5)}) for number in range(2)]
    pool = claims.pooled(seeds)
    assert len({each.id for each in pool.examples}) == len(pool.examples) == 160
    assert len({each.problem_id for each in pool.examples}) == 80
    assert {each.source for each in pool.examples} == {"0/s", "1/s"}
    assert dataclasses.replace(pool.examples[0], id="0/careful", problem_id="p0", source="s") == seeds[0].examples[0]
