import dataclasses

import pytest

from libra_jax.records import Judgement, JudgingExample
from libra_jax.sampling.rejection import RejectionConfig, pool, select

ALL = RejectionConfig(max_per_example=9, easy_per_example=9, easy_fraction=1.0)


def example(name, correct=True):
    return JudgingExample(id=name, problem_id=name, question="q", response="r", correct=correct, policy="p", source="s")


def judgement(name, sample, verdict, thought="", num_tokens=10):
    return Judgement(example_id=name, judge="j", sample=sample, thought=thought or f"{name} {sample}", verdict=verdict,
                     num_tokens=num_tokens)


def names(kept):
    return [(judgement.example_id, judgement.sample) for judgement in kept]


def test_keeps_the_verdicts_that_equal_the_label_and_counts_every_other():
    examples = [example("a"), example("b", False), example("c"), example("d", None), example("e")]
    judgements = [
        judgement("a", 0, "correct"), judgement("a", 1, "incorrect"), judgement("a", 2, "unparsed"),
        judgement("b", 0, "correct"), judgement("b", 1, "incorrect"),
        judgement("c", 0, "incorrect"), judgement("c", 1, "unparsed"), judgement("d", 0, "correct")]
    kept, stats = select(examples, judgements, ALL)
    assert names(kept) == [("a", 0), ("b", 1)]
    assert (stats.examples, stats.unlabelled, stats.unjudged) == (5, 1, 1)
    assert (stats.judgements, stats.right, stats.wrong, stats.unparsed) == (8, 2, 3, 2)  # one has no label
    assert stats.never_right == ("c",)
    assert (stats.kept, stats.kept_correct, stats.kept_incorrect) == (2, 1, 1)


def test_identical_thoughts_count_once_and_the_shortest_stays():
    judgements = [judgement("a", 0, "correct", "same  thought", 12), judgement("a", 1, "correct", "same thought\n", 11),
                  judgement("a", 2, "incorrect", "same thought", 5)]
    kept, stats = select([example("a")], judgements, ALL)
    assert names(kept) == [("a", 1)] and stats.duplicates == 1


def test_prefers_the_short_and_then_the_different():
    one, near, far = "we add one and two", "we add one and three", "count upwards by fingers now"
    judgements = [judgement("a", 0, "correct", near, 11), judgement("a", 1, "correct", one, 10),
                  judgement("a", 2, "correct", far, 12), judgement("a", 3, "incorrect")]
    kept, _ = select([example("a")], judgements, RejectionConfig(max_per_example=2))
    assert names(kept) == [("a", 1), ("a", 2)]
    # far is new but the longest: 1 - 0 - 1 = 0; near shares 2 of 4 shingles with one: 1 - 1/2 - 11/120 = 0.41
    longer = [judgement("a", 2, "correct", far, 120) if each.sample == 2 else each for each in judgements]
    kept, _ = select([example("a")], longer, RejectionConfig(max_per_example=2, length_weight=1.0))
    assert names(kept) == [("a", 0), ("a", 1)]


def test_prefers_the_thought_that_most_share():
    judgements = [judgement("a", 0, "correct", "lucky", 2), judgement("a", 1, "correct", "twice  said", 9),
                  judgement("a", 2, "correct", "twice said", 8), judgement("a", 3, "correct", "alone", 3),
                  judgement("a", 4, "incorrect", "lucky", 2), judgement("a", 5, "incorrect", "lucky", 2)]
    config = RejectionConfig(prefer="agreed", max_per_example=1)
    assert names(select([example("a")], judgements, config)[0]) == [("a", 2)]  # votes of the wrong do not count
    assert names(select([example("a")], judgements, dataclasses.replace(config, prefer="diverse"))[0]) == [("a", 0)]
    # of equally shared thoughts the shorter
    assert names(select([example("a")], judgements, dataclasses.replace(config, max_per_example=2))[0]) == [
        ("a", 0), ("a", 2)]
    with pytest.raises(ValueError, match="prefer='agree'"):
        select([], [], dataclasses.replace(config, prefer="agree"))


def test_always_right_examples_are_thinned():
    examples = [example(f"e{number}") for number in range(200)]
    judgements = [judgement(each.id, sample, "correct") for each in examples for sample in range(3)]
    config = RejectionConfig(easy_fraction=0.25, easy_per_example=1)
    kept, stats = select(examples, judgements, config)
    assert stats.always_right == 200 and stats.kept == len(kept) == 200 - stats.always_right_left_out
    assert 30 < len(kept) < 70
    assert names(select(examples, judgements, config)[0]) == names(kept)
    assert names(select(examples[::-1], judgements, config)[0]) == names(kept)[::-1]


def test_a_single_judgement_does_not_make_an_example_easy():
    kept, stats = select([example("a")], [judgement("a", 0, "correct")], RejectionConfig(easy_fraction=0.0))
    assert len(kept) == 1 and stats.always_right == 0


def test_balance_leaves_out_the_surplus_of_one_label():
    examples = [example(f"c{number}") for number in range(10)] + [example(f"i{number}", False) for number in range(3)]
    judgements = [judgement(each.id, 0, "correct" if each.correct else "incorrect") for each in examples]
    kept, stats = select(examples, judgements, RejectionConfig(balance=True))
    assert (stats.kept_correct, stats.kept_incorrect, stats.balanced_out) == (3, 3, 7)
    assert sum(each.verdict == "correct" for each in kept) == 3


def test_errors_name_the_example_or_the_setting():
    with pytest.raises(ValueError, match="example 'b'"):
        select([example("a")], [judgement("b", 0, "correct")], ALL)
    with pytest.raises(ValueError, match="'a' occurs twice"):
        select([example("a"), example("a")], [], ALL)
    with pytest.raises(ValueError, match="easy_fraction=2"):
        select([], [], RejectionConfig(easy_fraction=2))


def test_rounds_are_pooled_as_if_one_had_drawn_them_all():
    first = [judgement("a", 0, "correct", "lucky"), judgement("a", 1, "incorrect"), judgement("b", 0, "correct")]
    second = [judgement("a", 0, "correct", "why"), judgement("a", 1, "correct", "why"), judgement("b", 0, "correct")]
    pooled = pool([first, [], second])
    assert names(pooled) == [("a", 0), ("a", 1), ("b", 0), ("a", 2), ("a", 3), ("b", 2)]
    assert [each.thought for each in pooled] == [each.thought for each in (*first, *second)]
    agreed = RejectionConfig(prefer="agreed", max_per_example=1, easy_fraction=1.0)
    assert names(select([example("a"), example("b")], pooled, agreed)[0]) == [("a", 2), ("b", 0)]
    assert names(select([example("a"), example("b")], first, agreed)[0]) == [("a", 0), ("b", 0)]
