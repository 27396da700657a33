import pytest

from libra_jax.judges.baselines import AlwaysCorrect, MajorityAnswer, ResponseLength, number_answers
from libra_jax.records import JudgingExample
from libra_jax.verify.batch import Decision


def example(number, problem, response, correct=True):
    return JudgingExample(id=f"e{number}", problem_id=problem, question="q", response=response, correct=correct,
                          policy="p", source="s")


EXAMPLES = [
    example(0, "one", r"So \boxed{1/2}"), example(1, "two", r"\boxed{7}"), example(2, "one", r"\boxed{0.5}"),
    example(3, "one", r"\boxed{9^{9^{9^{9}}}}"), example(4, "two", r"\boxed{8}"), example(5, "one", "I do not know.")]


def test_majority_answer_counts_equal_answers_of_a_problem_together():
    judged = list(MajorityAnswer().judge(EXAMPLES))
    assert [each.example_id for each in judged] == [each.id for each in EXAMPLES]
    # problem one: 1/2 and 0.5 are one answer; problem two: a tie, which the answer given first wins
    assert [each.verdict for each in judged] == ["correct", "correct", "correct", "incorrect", "incorrect", "incorrect"]
    assert [each.score for each in judged] == [0.5, 0.5, 0.5, 0.25, 0.5, 0.0]


def test_no_answers_at_all_is_nobody_right():
    judged = list(MajorityAnswer().judge([example(0, "one", "hm"), example(1, "one", "well")]))
    assert [(each.verdict, each.score) for each in judged] == [("incorrect", 0.0)] * 2


def test_response_length_prefers_one_side_of_the_median():
    examples = [example(number, "p", "x" * length) for number, length in enumerate((30, 10, 20, 20))]
    short = list(ResponseLength().judge(examples))
    assert [each.verdict for each in short] == ["incorrect", "correct", "correct", "correct"]
    assert [each.score for each in short] == [0.125, 0.875, 0.5, 0.5]
    long = list(ResponseLength(prefer="long").judge(examples))
    assert [each.score for each in long] == [0.875, 0.125, 0.5, 0.5]
    assert [each.verdict for each in long] == ["correct", "incorrect", "incorrect", "incorrect"]


def test_always_correct():
    assert [(each.verdict, each.score) for each in AlwaysCorrect().judge(EXAMPLES)] == [("correct", 1.0)] * 6


@pytest.mark.parametrize("judge", [MajorityAnswer(), ResponseLength(), AlwaysCorrect()])
def test_skip_leaves_out_the_first_and_labels_are_not_looked_at(judge):
    whole = list(judge.judge(EXAMPLES))
    assert list(judge.judge(EXAMPLES, skip=2)) == whole[2:]
    other = [example(number, each.problem_id, each.response, not each.correct) for number, each in enumerate(EXAMPLES)]
    assert list(judge.judge(other)) == whole
    assert {each.judge for each in whole} == {judge.name}
    assert list(judge.judge([])) == []


def test_equal_answers_share_a_number_and_only_what_the_exact_path_leaves_is_compared():
    asked = []

    def compare(pairs):
        asked.extend(pairs)
        return iter([Decision(correct=None, extracted=None, why="")] * len(asked))

    assert number_answers({"a": ["7", None, "7.0", "8"]}, compare) == {"a": [0, None, 0, 2]} and asked == []
    assert number_answers({"a": ["x+1", "1+x"]}, compare) == {"a": [0, 1]} and asked == [("1+x", "x+1")]
    assert number_answers({"a": ["x+1", "1+x"]}) == {"a": [0, 0]}
