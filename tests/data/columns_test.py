"""Rows of other people's tables: what becomes which field, what is made where nothing is, and what is refused."""

import datetime

import pytest

from libra_jax import records
from libra_jax.data.columns import RECORDS, Columns, Maker
from libra_jax.records import JudgingExample, PreferencePair, Problem, RecordError, Rollout


def maker(record, **how):
    return Maker(Columns(record=record, **how), source="set", split="test")


def test_every_record_that_flows_can_be_made():
    every = {name for name, value in vars(records).items()
             if isinstance(value, type) and hasattr(value, "__dataclass_fields__")}
    assert set(RECORDS) == every - {"Control", "Message"}


def test_columns_values_and_what_is_nested():
    row = {"prompt": [{"content": "1+1?"}], "reward_model": {"ground_truth": 2}, "difficulty": 3.5, "a.b": "math"}
    made = maker(Problem, columns={"question": "prompt.0.content", "answer": "reward_model.ground_truth",
                                   "level": "difficulty", "subject": "a.b"}, values={"source": "mine"}).make(row, 7)
    assert made == Problem(id="mine/test/7", source="mine", question="1+1?", answer="2", level="3.5", subject="math")


def test_a_row_without_names_gets_them_and_equal_questions_are_one_problem():
    make = maker(JudgingExample, columns={"correct": "label"}).make
    one, two, other = (make({"question": question, "response": "x", "label": label}, number)
                       for number, (question, label) in enumerate([("a", 1), ("a", 0), ("b", True)], 1))
    assert (one.id, two.id) == ("set/test/1", "set/test/2") and one.problem_id == two.problem_id != other.problem_id
    assert (one.correct, two.correct, other.correct) == (True, False, True)
    assert (one.source, one.policy) == ("set", "unknown")
    row = {"question": "a", "chosen": "x", "rejected": "y"}
    pair = maker(PreferencePair, values={"chosen_score": "1", "rejected_score": "0"}).make(row, 1)
    assert pair.problem_id == one.problem_id and (pair.chosen_score, pair.rejected_score) == (1, 0)


def test_samples_of_one_policy_on_one_problem_are_counted():
    make = maker(Rollout, values={"num_tokens": "0", "finish": "stop"}).make
    rows = [("p", "m"), ("p", "m"), ("p", "n"), ("q", "m")]
    made = [make({"problem_id": problem, "policy": policy, "text": "x"}, 1) for problem, policy in rows]
    assert [rollout.sample for rollout in made] == [0, 1, 0, 0]


def test_the_final_answer_alone():
    make = maker(Problem, final=("answer",)).make
    assert make({"question": "q", "answer": "2 + 3 = 5\n#### 5"}, 1).answer == "5"
    assert make({"question": "q", "answer": r"so \boxed{\frac12}"}, 2).answer == r"\frac12"
    with pytest.raises(RecordError, match=r"answer: no final answer in 'it is five'; expected \\boxed"):
        make({"question": "q", "answer": "it is five"}, 3)


@pytest.mark.parametrize("row, message", [
    ({"problem": "x"}, r"Problem needs question; the row has problem; name the column, such as --config\.columns="),
    ({"question": None}, "question: expected str, found 'None'"),
    ({"question": True}, "question: expected str, found 'True'"),
    ({"question": ["x"]}, "question: expected str"),
    ({"question": "\ud800"}, "question: expected str"),
    ({"question": datetime.date(2026, 1, 2)}, "a value of type date has no place in a record: '2026-01-02'"),
    ({"question": b"x"}, "a value of type bytes has no place"),
    ({"question": "x", "level": float("inf")}, "level: infinity is no number"),
])
def test_what_does_not_fit_is_refused_by_name(row, message):
    with pytest.raises(RecordError, match=message):
        maker(Problem).make(row, 1)


def test_nulls_of_tables_and_whole_numbers():
    make = maker(JudgingExample).make
    row = {"question": "q", "response": "r", "correct": float("nan")}
    assert make(row, 1).correct is None
    with pytest.raises(RecordError, match="correct: expected bool"):
        make(row | {"correct": 2}, 2)
    assert maker(records.Score).make({"example_id": 5.0, "score": 3}, 1) == records.Score(example_id="5.0", score=3)
    with pytest.raises(RecordError, match="infinity"):
        maker(records.Score).make({"example_id": "e", "score": float("inf")}, 1)
    ranked = {"id": "r", "problem_id": "p", "question": "q", "responses": ["a", "b"], "policies": ["m", "m"]}
    assert maker(records.RankingExample).make(ranked | {"right": 1.0}, 1).right == 1
    with pytest.raises(RecordError, match="right=2 is not the place"):
        maker(records.RankingExample).make(ranked | {"right": 2}, 1)


def test_an_id_is_there_once_and_a_missing_column_is_told_with_those_that_are():
    make = maker(Problem, columns={"id": "key"}).make
    make({"key": 1, "question": "q"}, 1)
    with pytest.raises(RecordError, match="id='1' is there twice"):
        make({"key": 1, "question": "q"}, 2)
    for row in ({"question": "q"}, {"question": "q", "key ": 1}):
        with pytest.raises(RecordError, match="no column 'key'; the row has question"):
            make(row, 3)
    for column in ("prompt.1.content", "prompt.x", "prompt.0.role", "prompt.99999999999999999999"):
        with pytest.raises(RecordError, match="no column"):
            maker(Problem, columns={"question": column}).make({"prompt": [{"content": "q"}]}, 1)


def test_a_mapping_of_no_field_or_of_two_minds_is_refused():
    with pytest.raises(ValueError, match="Problem has no field 'questoin'; the nearest is 'question' of id, source"):
        Columns(record=Problem, columns={"questoin": "q"})
    with pytest.raises(ValueError, match="'answer' is given a column and a value"):
        Columns(record=Problem, columns={"answer": "a"}, values={"answer": "b"})
    with pytest.raises(RecordError, match="num_tokens='many': expected"):
        maker(Rollout, values={"num_tokens": "many"}).make({"text": "x"}, 1)
    assert maker(Problem, values={"answer": ""}).make({"question": "q", "answer": "5"}, 1).answer is None
