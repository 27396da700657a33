"""Which tier decides: rules first, votes on what they leave, and people's words over both."""

import collections
import itertools

import pytest

from libra_jax.records import HumanLabel, Judgement, Problem, VerifiedRollout
from libra_jax.verify import tiers


def rule(correct):
    return VerifiedRollout(problem_id="p", policy="a/b", sample=3, text="so 2 cm", num_tokens=3, finish="stop",
                           correct=correct, decided_by="rule", why="as the rule says")


def judgement(verdict, *, judge="j", sample=0, example="p/a/b/3"):
    return Judgement(example_id=example, judge=judge, sample=sample, thought="", verdict=verdict, num_tokens=1)


def label(correct, note=""):
    return HumanLabel(problem_id="p", policy="a/b", sample=3, correct=correct, note=note)


def decide(correct, verdicts=(), *said, agreement=0.75):
    votes = tiers.votes(judgement(verdict, sample=number) for number, verdict in enumerate(verdicts))
    return tiers.decide(rule(correct), votes.get("p/a/b/3"), tiers.words(said).get(("p", "a/b", 3)), agreement)


C, W, U = "correct", "incorrect", "unparsed"


@pytest.mark.parametrize(("verdicts", "agreement", "decided"), [
    ([C], 0.75, True), ([W], 0.75, False), ([U], 0.75, None),
    ([C, C, C, W], 0.75, True), ([C, C, C, U], 0.76, None), ([W, W, U, U], 0.75, None), ([C, W], 0.6, None),
    ([W, W, W, C], 0.75, False), ([C, C, C], 1.0, True),
])
def test_votes_decide_when_enough_agree(verdicts, agreement, decided):
    result = decide(None, verdicts, agreement=agreement)
    assert (result.correct, result.decided_by) == (decided, "model")
    assert "as the rule says" in result.why and f"{verdicts.count(C)} correct" in result.why


def test_votes_change_nothing_that_a_rule_decided():
    assert decide(True, [W, W]) == rule(True) and decide(None) == rule(None)


@pytest.mark.parametrize("before", [True, False, None])
def test_a_person_wins_over_both(before):
    result = decide(before, [C, C], label(False, "units"))
    assert (result.correct, result.decided_by) == (False, "human")
    assert result.why.startswith("a person: units; ") and "as the rule says" in result.why


def test_who_could_not_tell_leaves_the_decision():
    assert decide(True, [], label(None, "hm")) == rule(True)
    assert decide(None, [C], label(None)).decided_by == "model"
    assert decide(None, [], label(None), label(True)).correct is True


def test_people_who_disagree_leave_it_undecided():
    for order in itertools.permutations([label(True, "fine"), label(False), label(None), label(True, "ok")]):
        result = decide(True, [], *order)
        assert (result.correct, result.decided_by) == (None, "human")
        assert result.why == "people disagree: fine; ok; rule, correct: as the rule says"


def test_a_judges_sample_counts_once_and_has_one_verdict():
    assert tiers.votes([judgement(C), judgement(C), judgement(C, judge="k")]) == {
        "p/a/b/3": collections.Counter(correct=2)}
    with pytest.raises(ValueError, match="two verdicts"):
        tiers.votes([judgement(C), judgement(W)])


def test_a_long_note_is_cut():
    assert len(decide(True, [], label(False, "x" * 10**6)).why) < 2_000


def test_the_question_has_the_reference_where_there_is_one():
    asked = tiers.question(rule(None), Problem(id="p", source="s", question="How long?", answer="2 cm"))
    assert asked.question.startswith("How long?\n") and "2 cm" in asked.question and asked.correct is None
    assert (asked.id, asked.response) == ("p/a/b/3", "so 2 cm")
    assert tiers.question(rule(None), Problem(id="p", source="s", question="How long?")).question == "How long?"
