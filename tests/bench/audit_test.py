"""The draw of an audit: who disagrees, strata and weights, and how examples, rollouts and labels find each other."""

import collections
import random

import pytest

from libra_jax.bench import audit
from libra_jax.bench.audit import Draw
from libra_jax.records import HumanLabel, Judgement, JudgingExample, Problem, VerifiedRollout


def rollout(number, correct=True, decided_by="rule", text="r"):
    return VerifiedRollout(problem_id=f"p{number // 2}", policy="m", sample=number % 2, text=text, num_tokens=1,
                           finish="stop", correct=correct, decided_by=decided_by, why="because")


def example(number, correct=True, **kwargs):
    fields = {"id": f"p{number // 2}/m/{number % 2}", "problem_id": f"p{number // 2}", "question": "q",
              "response": "r", "correct": correct, "policy": "m", "source": "s"}
    return JudgingExample(**fields | kwargs)


def judgement(number, verdict, sample=0, thought="t", judge="j"):
    return Judgement(example_id=f"p{number // 2}/m/{number % 2}", judge=judge, sample=sample, thought=thought,
                     verdict=verdict, num_tokens=1)


PROBLEMS = {f"p{number}": Problem(id=f"p{number}", source="s", question=f"q{number}", answer="7")
            for number in range(200)}


def test_kinds_say_who_disagrees_with_whom():
    verdicts = {"a": ["correct", "correct", "incorrect", "unparsed", "correct"],
                "b": ["correct", "incorrect", "incorrect", "unparsed", "correct"]}
    judgements = {judge: [judgement(number, verdict) for number, verdict in enumerate(some)]
                  for judge, some in verdicts.items()}
    rollouts = [rollout(0), rollout(1), rollout(2), rollout(3), rollout(4, None), rollout(5, False, "human")]
    items = audit.gather([], rollouts, PROBLEMS, judgements)
    assert [item.kind for item in items] == [
        "rule says correct, judges agree", "rule says correct, some judges disagree",
        "rule says correct, all judges disagree", "rule says correct, no judge", "undecided",
        "human says incorrect, no judge"]
    assert [audit.is_disagreement(item) for item in items] == [False, True, True, False, True, False]
    assert items[0].question == "q0" and items[0].reference == "7" and items[0].why == "because"


def test_an_opinion_is_the_majority_of_parsed_votes():
    votes = [judgement(0, "unparsed", 0, "hm"), judgement(0, "incorrect", 1, "no"), judgement(0, "correct", 2, "yes"),
             judgement(0, "correct", 3, "sure"), judgement(1, "correct"), judgement(1, "incorrect", 1)]
    first, second = audit.gather([example(0), example(1)], [], {}, {"j": votes})
    assert first.opinions == (audit.Opinion(judge="j", verdict="correct", votes=(2, 1, 1), thought="yes"),)
    assert second.opinions[0].verdict == "none" and second.kind == "label says correct, no judge"


def test_labels_of_rollouts_count_and_must_fit_the_examples():
    (item,) = audit.gather([example(0)], [rollout(0, False, "model")], {}, {})
    assert item.correct is False and item.decided_by == "model" and item.reference is None
    with pytest.raises(ValueError, match="'p0/m/1': its rollout is not there"):
        audit.gather([example(1)], [rollout(0)], {}, {})
    with pytest.raises(ValueError, match="has another text"):
        audit.gather([example(0)], [rollout(0, text="other")], {}, {})
    with pytest.raises(ValueError, match="question of rollout 'p0/m/0' is not known"):
        audit.gather([], [rollout(0)], {}, {})
    with pytest.raises(ValueError, match="judged 'p0/m/1', which is not audited"):
        audit.gather([example(0)], [], {}, {"j": [judgement(1, "correct")]})
    with pytest.raises(ValueError, match="2 examples with 1 different ids"):
        audit.gather([example(0), example(0)], [], {}, {})


def test_a_sample_is_in_the_id_or_counted():
    def samples(*ids):
        return [item.sample for item in audit.gather([example(0, id=name) for name in ids], [], {}, {})]

    assert samples("p0/m/3", "p0/m/12") == [12, 3]  # in the order of the ids
    assert samples("p0/m/03", "p0/m/12") == [0, 1] and samples("suite/9", "suite/8") == [0, 1]


def many():
    """120 responses: the label of 0 to 99 says correct and the judge agrees; of 100 to 119 the judge disagrees."""
    examples = [example(number, source="a" if number % 4 else "b") for number in range(120)]
    return examples, {"j": [judgement(number, "correct" if number < 100 else "incorrect") for number in range(120)]}


def test_the_draw_is_stratified_weighted_and_blind_to_order():
    examples, judgements = many()
    items = audit.gather(examples, [], {}, judgements)
    drawn = audit.draw(items, Draw(disagreements=8, agreements=20))
    counts = collections.Counter((item.kind, item.source) for item in drawn)
    agree, against = "label says correct, judges agree", "label says correct, all judges disagree"
    # 15 and 5 disagreements share evenly, 75 and 25 agreements by their numbers.
    assert counts == {(against, "a"): 4, (against, "b"): 4, (agree, "a"): 15, (agree, "b"): 5}
    assert {(item.kind, item.source): item.weight for item in drawn} == {
        (against, "a"): 15 / 4, (against, "b"): 5 / 4, (agree, "a"): 5, (agree, "b"): 5}
    assert sum(item.weight for item in drawn) == 120
    random.Random(0).shuffle(examples)
    random.Random(1).shuffle(judgements["j"])
    assert audit.draw(audit.gather(examples, [], {}, judgements), Draw(disagreements=8, agreements=20)) == drawn
    assert drawn != audit.draw(items, Draw(disagreements=8, agreements=20, seed=1))
    kinds = [item.kind for item in drawn]
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)


def test_a_draw_takes_all_where_there_are_few_and_leaves_no_stratum_out():
    items = audit.gather(*many()[:1], [], {}, many()[1])
    drawn = audit.draw(items, Draw(disagreements=1000, agreements=1000))
    assert len(drawn) == 120 and {item.weight for item in drawn} == {1}
    assert len(audit.draw(items, Draw(disagreements=18, agreements=2))) == 20
    with pytest.raises(ValueError, match=r"agreements=1: they are of 2 kinds and sources.*draw.agreements=2 or more"):
        audit.draw(items, Draw(agreements=1))
    with pytest.raises(ValueError, match="expected 0 or more"):
        Draw(disagreements=-1)


def test_labels_find_their_items_and_disputed_ones_say_nothing():
    items = audit.gather([example(number) for number in range(4)], [], {}, {})

    def label(number, correct, note="", policy="m"):
        return HumanLabel(problem_id=f"p{number // 2}", policy=policy, sample=number % 2, correct=correct, note=note)

    labels = [label(0, True, "a"), label(0, None), label(0, True, "b"), label(1, True), label(1, False, "no"),
              label(2, None), label(3, True, policy="x")]
    for order in (labels, labels[::-1]):
        people = audit.matched(items, order)
        assert people.labels == {"p0/m/0": label(0, True, "a; b"), "p0/m/1": label(1, None, "no"),
                                 "p1/m/0": label(2, None)}
        assert people.disputed == {"p0/m/1"} and people.strangers == 1
