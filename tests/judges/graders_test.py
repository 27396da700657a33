"""Each grader's rewards, by hand; a judge is asked once for equal solutions, whatever stands beside them."""

import pytest

from libra_jax.judges import graders
from libra_jax.judges.graders import Solution
from libra_jax.records import Judgement, Problem
from libra_jax.verify import batch

TWO = Problem(id="two", source="s", question="1+1?", answer="2")
SIX = Problem(id="six", source="s", question="5+1?", answer="6")


@pytest.fixture(scope="module")
def pool():
    with batch.Pool(num_workers=1) as pool:
        yield pool


def solved(problem, *texts, group=0):
    return [Solution(problem=problem, group=group, text=text) for text in texts]


def test_the_verifier_rewards_right_answers(pool):
    some = [*solved(TWO, "A: 2", "A: 3", None, "hm", "A: 2 hours"), *solved(SIX, "A: 6.0", "A: 2")]
    earned, measured = graders.by_verifier(pool)(some)
    assert earned == [1, 0, 0, 0, 1, 1, 0] and measured == {"accuracy": pytest.approx(3 / 7), "undecided": 0}
    hours = Problem(id="h", source="s", question="q", answer="1 hour")
    assert graders.by_verifier(pool)(solved(hours, "A: 60 minutes", "A: 1 hour")) == (
        [0, 1], {"accuracy": 0.5, "undecided": 0.5})


def test_the_majority_is_of_the_group_and_needs_no_answer(pool):
    some = [*solved(TWO, "A: 3", "A: 2", "A: 3.0", None, "hm"), *solved(TWO, "A: 2", "A: 4", group=1)]
    earned, measured = graders.by_majority(pool)(some)
    assert earned == [1, 0, 1, 0, 0, 1, 1]  # of the torn second group all earn alike
    assert measured == {"agreement": pytest.approx(4 / 7), "answerless": pytest.approx(2 / 7)}
    assert graders.by_majority(pool)(solved(TWO, None, "hm"))[0] == [0, 0]


class Counting:
    """Votes by what the response says; remembers what it was asked."""

    name = "counting"

    def __init__(self):
        self.asked = []

    def judge(self, examples, *, skip=0):
        self.asked.append([example.id for example in examples])
        for example in examples:
            assert example.correct is None and example.question in ("1+1?", "5+1?")
            for sample, verdict in enumerate(example.response.split()):
                yield Judgement(example_id=example.id, judge=self.name, sample=sample, thought="", verdict=verdict,
                                num_tokens=1)


def test_a_judge_gives_the_share_of_its_votes_and_sees_equal_solutions_once():
    judge = Counting()
    grade = graders.by_judge(judge)
    some = [*solved(TWO, "correct incorrect", "unparsed unparsed", None, "correct incorrect"),
            *solved(SIX, "correct incorrect", "correct unparsed")]
    earned, measured = grade(some)
    assert earned == [0.5, 0, 0, 0.5, 0.5, 1]
    assert measured == {"judge_score": pytest.approx(2.5 / 6), "unparsed": pytest.approx(3 / 8)}
    assert len(judge.asked[0]) == 4 and len(set(judge.asked[0])) == 4
    grade(some[:1])
    assert judge.asked[1] == judge.asked[0][:1]  # the same id, hence the same draws, in another company
    assert grade(solved(TWO, None, None)) == ([0, 0], {"judge_score": 0, "unparsed": 0})
