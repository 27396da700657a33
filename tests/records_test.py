"""Records as JSON lines: round trips, broken lines, whole-or-nothing files, and going on after a kill."""

import dataclasses
import json

import numpy as np
import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample, Problem, RankingExample, Rollout, VerifiedRollout

PROBLEM = Problem(id="p1", source="s", question="1+1?\n\u2028é🙂", answer="2")
EVERY = [
    PROBLEM,
    Rollout(problem_id="p1", policy="a", sample=0, text="x", num_tokens=1, finish="stop"),
    VerifiedRollout(problem_id="p1", policy="a", sample=0, text="x", num_tokens=1, finish="length", correct=None,
                    decided_by="rule", why="no answer"),
    JudgingExample(id="e", problem_id="p1", question="q", response="r", correct=True, policy="a", source="s"),
    Judgement(example_id="e", judge="j", sample=2, thought="", verdict="unparsed", num_tokens=3, score=0.25),
    RankingExample(id="r", problem_id="p", question="q", responses=("1", "2\n"), right=1, policies=("a", "b"),
                   source="s"),
]


@pytest.mark.parametrize("record", EVERY, ids=lambda record: type(record).__name__)
def test_round_trip(record):
    line = records.to_json(record)
    assert "\n" not in line
    assert records.from_json(line, type(record)) == record
    assert records.to_json(records.from_json(line, type(record))) == line


def test_defaults_may_be_left_out():
    assert records.from_json('{"id":"p","source":"s","question":"q"}', Problem).answer is None


@pytest.mark.parametrize(("line", "message"), [
    ("{", "not a JSON object"),
    ("[1]", "found list"),
    ('{"id":"p","source":"s","question":"q","anwser":"2"}', "did you mean 'answer'"),
    ('{"id":"p","source":"s"}', "needs the field 'question'"),
    ('{"id":1,"source":"s","question":"q"}', "Problem.id: expected str, found '1'"),
    ('{"id":null,"source":"s","question":"q"}', "Problem.id"),
    ('{"id":"p","source":"s","question":"\\ud800"}', "Problem.question"),
    ('{"id":"p","source":"s","question":NaN}', "NaN"),
    ('{"id":' + "9" * 5000 + "}", "not a JSON object"),
    ("[" * 100_000, "not a JSON object"),
])
def test_a_broken_line_says_what_is_wrong(line, message):
    with pytest.raises(records.RecordError, match=message.replace("(", r"\(")):
        records.from_json(line, Problem)


@pytest.mark.parametrize(("field", "value"), [
    ("verdict", '"maybe"'), ("score", "1e999"), ("score", "true"), ("sample", "1.5"), ("sample", "false"),
    ("score", "9" * 400), ("num_tokens", "9" * 400), ("sample", "-9223372036854775808"),
])
def test_wrong_values_are_refused(field, value):
    raw = {name: json.dumps(v) for name, v in dataclasses.asdict(EVERY[4]).items()} | {field: value}
    line = "{" + ",".join(f'"{name}":{v}' for name, v in raw.items()) + "}"
    with pytest.raises(records.RecordError, match=f"Judgement.{field}"):
        records.from_json(line, Judgement)


def test_what_is_read_can_be_written_and_computed_with(tmp_path):
    """A score may be a large integer; it must not break the reader, nor the writer or the arrays after it."""
    line = records.to_json(EVERY[4]).replace("0.25", str(2**63 - 1))
    record = records.from_json(line, Judgement)
    assert records.write(tmp_path / "x.jsonl", [record]) == 1
    assert np.zeros(1)[0] + record.score == 2.0**63


def test_a_field_with_an_endless_name_is_refused_in_a_moment_and_in_few_words():
    with pytest.raises(records.RecordError) as caught:
        records.from_json('{"' + "sample" * 500_000 + '": 1}', Judgement)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("aside", [None, "elsewhere.jsonl"])
def test_broken_lines_are_set_aside_and_counted(tmp_path, aside):
    path = tmp_path / "p.jsonl"
    good = records.to_json(PROBLEM).encode()
    path.write_bytes(b"\n".join([good, b"{broken", b"", b"\xff\xfe", good, b'{"id": 3}']))  # no newline at the end
    rejected = []
    where = tmp_path / aside if aside else None
    assert list(records.read(path, Problem, rejected=rejected, aside=where)) == [PROBLEM, PROBLEM]
    assert [line.split(": ")[0] for line in rejected] == [f"{path}:{n}" for n in (2, 4, 6)]
    notes = [json.loads(line) for line in (where or tmp_path / "p.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [(note["line"], note["text"]) for note in notes] == [(2, "{broken"), (4, "��"), (6, '{"id": 3}')]
    assert all(note["file"] == str(path) and note["error"] for note in notes)


def test_without_a_list_the_first_broken_line_raises(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(records.to_json(PROBLEM) + "\n{broken\n")
    with pytest.raises(records.RecordError, match=r"p\.jsonl:2: "):
        list(records.read(path, Problem))
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]


def test_reading_streams(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(records.to_json(PROBLEM) + "\n{broken\n")
    assert next(iter(records.read(path, Problem))) == PROBLEM  # the second line has not been looked at


def test_write_is_all_or_nothing(tmp_path):
    path = tmp_path / "deep" / "p.jsonl"
    assert records.write(path, [PROBLEM, PROBLEM]) == 2
    before = path.read_bytes()

    def failing():
        yield PROBLEM
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        records.write(path, failing())
    assert path.read_bytes() == before
    assert list(records.read(path, Problem)) == [PROBLEM, PROBLEM]


@pytest.mark.parametrize("cut", [0, 1, 10, 40])
def test_an_appender_goes_on_where_it_was_killed(tmp_path, cut):
    """`cut` bytes of the last line are lost; the whole lines before it are `done`."""
    path = tmp_path / "r.jsonl"
    rows = [dataclasses.replace(EVERY[1], sample=sample, text="é" * sample) for sample in range(6)]
    first = records.Appender(path, Rollout)
    for row in rows[:4]:
        first.append(row)
    data = first.partial.read_bytes()
    first.partial.write_bytes(data[: len(data) - cut])
    second = records.Appender(path, Rollout)
    assert second.done == rows[: 4 if cut == 0 else 3] and not second.finished
    for row in rows[len(second.done):]:
        second.append(row)
    second.finish()
    assert path.read_text(encoding="utf-8") == "".join(records.to_json(row) + "\n" for row in rows)
    third = records.Appender(path, Rollout)
    assert third.finished and third.done == rows
    with pytest.raises(ValueError, match="finished"):
        third.append(rows[0])


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBLEM.answer = "3"


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x.json"
    records.write_json(path, {"é": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        records.write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None]}
    records.write_text(path, "lone \ud800 surrogate")
    assert path.read_text(encoding="utf-8") == "lone ? surrogate"
    assert [each.name for each in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize(("change", "message"), [
    ({"right": 2}, "right=2 is not the place of one of its 2"), ({"right": -1}, "right=-1"),
    ({"responses": ["1"]}, "1 responses and 2 policies"), ({"policies": ["a"]}, "2 responses and 1 policies"),
    ({"responses": "12"}, "RankingExample.responses: expected tuple"),
    ({"responses": ["1", 2]}, "RankingExample.responses"), ({"responses": ["1", "\ud800"]}, "RankingExample.responses"),
])
def test_a_ranking_example_that_cannot_be_is_set_aside(tmp_path, change, message):
    line = json.dumps(dataclasses.asdict(EVERY[-1]) | change)
    (tmp_path / "some.jsonl").write_text(records.to_json(EVERY[-1]) + "\n" + line + "\n")
    rejected = []
    assert list(records.read(tmp_path / "some.jsonl", RankingExample, rejected=rejected)) == [EVERY[-1]]
    assert len(rejected) == 1 and ":2: " in rejected[0] and message in rejected[0]


@pytest.mark.parametrize("name, kind", [
    ("hf://datasets/o/n", "on the Hub"), ("t.parquet", "parquet"), ("t.jsonl.gz", "compressed"),
    ("t.json", "a JSON array")])
def test_tables_of_another_kind_are_told_what_makes_lines_of_them(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.json").write_text(' [{"id": "1"}]')
    with pytest.raises(ValueError) as error:
        list(records.read(name, records.Problem))
    assert f"{name} is {kind}; expected JSON lines of Problem, which `libra dataset" in str(error.value)
