"""A pair as an example: named by its texts, without a label."""

from libra_jax.judges.local import pair_example


def test_pairs_are_told_apart_by_both_texts():
    pairs = [("a", "b"), ("a", "c"), ("ab", ""), ("", "ab")]
    assert len({pair_example(*pair).id for pair in pairs}) == 4
    example = pair_example("a", "b")
    assert (example.question, example.response, example.correct) == ("a", "b", None)
    assert example == pair_example("a", "b")
