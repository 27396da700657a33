"""Ranking questions out of a curated set, worked by hand."""

import collections
import dataclasses
import random

import pytest

from libra_jax.judging import ranking
from libra_jax.records import JudgingExample


def examples(problem, right, wrong):
    return [JudgingExample(id=f"{problem}/{kind}{n}", problem_id=problem, question=f"{problem}?", source="s",
                           policy=f"by {kind}{n}", response=f"{kind}{n} of {problem}", correct=kind == "right")
            for kind, count in (("right", right), ("wrong", wrong)) for n in range(count)]


def test_one_problem_by_hand():
    """2 right and 5 wrong responses: two questions of three, disjoint, and one wrong response left over."""
    config = ranking.RankingConfig(responses=3, max_per_problem=4)
    made = ranking.rank(examples("p", 2, 5), config, 0)
    assert sorted(each.id for each in made) == ["p/ranking/0", "p/ranking/1"]
    assert [each.right for each in made] == [0, 1]
    for each in made:
        kinds = [response.startswith("right") for response in each.responses]
        assert kinds.index(True) == each.right and sum(kinds) == 1 and len(kinds) == 3
        assert each.policies == tuple("by " + response.split(" ")[0] for response in each.responses)
        assert (each.problem_id, each.question, each.source) == ("p", "p?", "s")
    assert len({response for each in made for response in each.responses}) == 6
    assert len(ranking.rank(examples("p", 2, 5), dataclasses.replace(config, max_per_problem=1), 0)) == 1
    assert len(ranking.rank(examples("p", 2, 5), dataclasses.replace(config, responses=6), 0)) == 1
    assert not ranking.rank(examples("p", 2, 5), dataclasses.replace(config, responses=7), 0)


@pytest.mark.parametrize("responses", [2, 3, 4])
def test_the_right_one_is_at_each_place_equally_often(responses):
    some = [each for n in range(50) for each in examples(f"p{n}", 2, 3)]
    made = ranking.rank(some, ranking.RankingConfig(responses=responses), 0)
    counts = collections.Counter(each.right for each in made)
    assert len(made) == 50 and max(counts.values()) - min(counts.values()) <= 1 and len(counts) == responses


def test_order_changes_nothing_and_the_seed_does():
    some = [each for n in range(20) for each in examples(f"p{n}", 3, 3)]
    config = ranking.RankingConfig(responses=2)
    made = ranking.rank(some, config, 0)
    random.Random(0).shuffle(some)
    assert ranking.rank(some, config, 0) == made != ranking.rank(some, config, 1)


@pytest.mark.parametrize("fields, message", [({"responses": 1}, "responses=1: expected 2 to 26"),
                                             ({"responses": 27}, "as there are letters"),
                                             ({"max_per_problem": 0}, "max_per_problem=0")])
def test_impossible_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        ranking.RankingConfig(**fields)
