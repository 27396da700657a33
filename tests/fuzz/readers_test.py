"""Readers of files: whatever lines hold, every one is read or set aside, and what is read can be written again."""

import dataclasses
import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from libra_jax import records
from libra_jax.bench import suites
from libra_jax.records import Judgement, JudgingExample

EXAMPLE = JudgingExample(id="e", problem_id="p", question="q", response="r", correct=True, policy="a", source="s")
JUDGEMENT = Judgement(example_id="e", judge="j", sample=0, thought="t", verdict="correct", num_tokens=1, score=0.5)
ROW = {"index": 0, "question": "q", "response": "r", "label": 1, "model": "m", "subset": "s"}
TEXT = st.text(st.characters(), max_size=30)  # lone surrogates too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-10**600, 10**600) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12)


def mutated(lines):
    """Whole lines, and bytes of lines changed, cut out, doubled or put in."""
    def change(data, edits):
        for place, size, new in edits:
            at = place % (len(data) + 1)
            data = data[:at] + new + data[at + size:]
        return data.replace(b"\n", b" ")

    edits = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 5), st.binary(max_size=5)), max_size=3)
    return st.builds(change, lines, edits)


def rows_of(plain):
    """JSON objects with some of a record's fields, whatever values, and sometimes a stranger."""
    fields = st.dictionaries(st.sampled_from([*plain]), VALUES, max_size=len(plain))
    return st.builds(lambda some, more: json.dumps(plain | some | more).encode(), fields,
                     st.just({}) | st.dictionaries(TEXT, VALUES, max_size=1))


def read_all(read, data):
    """(what was read, how many were set aside); every line that is not blank is one or the other, and noted."""
    with tempfile.TemporaryDirectory() as folder:
        path, aside, rejected = Path(folder) / "in.jsonl", Path(folder) / "aside.jsonl", []
        path.write_bytes(data)
        found = read(path, rejected, aside)
        notes = [json.loads(line) for line in aside.read_text().split("\n")[:-1]] if aside.exists() else []
        assert len(notes) == len(rejected)
        assert len(found) + len(rejected) == sum(bool(line.strip()) for line in data.split(b"\n"))
        lines = data.split(b"\n")
        for note in notes:
            assert note["text"] == lines[note["line"] - 1].decode("utf-8", "replace")[:10_000] and note["error"]
        records.write(Path(folder) / "out.jsonl", found)
        assert found == ([] if not found else list(records.read(Path(folder) / "out.jsonl", type(found[0]))))
    return found, len(rejected)


def reader(cls):
    return lambda path, rejected, aside: list(records.read(path, cls, rejected=rejected, aside=aside))


def suite(path, rejected, aside):
    try:
        return list(suites.load("libra_bench", path, rejected=rejected, aside=aside))
    except ValueError as error:
        assert "no examples" in str(error) or "columns" in str(error), error
        return []


for_judgements = rows_of(dataclasses.asdict(JUDGEMENT))


@given(st.lists(mutated(for_judgements) | st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")),
                max_size=8))
def test_judgements_are_read_or_set_aside(lines):
    read_all(reader(Judgement), b"\n".join(lines))


@given(st.lists(mutated(rows_of(dataclasses.asdict(EXAMPLE))), max_size=8))
def test_examples_are_read_or_set_aside(lines):
    read_all(reader(JudgingExample), b"\n".join(lines))


@given(st.lists(rows_of({name: value for name, value in ROW.items() if name != "index"}), max_size=8))
def test_rows_of_libra_bench_are_read_or_set_aside(lines):
    """Whole rows, each with a number of its own: equal numbers are an error of the file."""
    numbered = [json.dumps(json.loads(line) | {"index": number}).encode() for number, line in enumerate(lines)]
    read_all(suite, b"\n".join([json.dumps(ROW | {"index": "first"}).encode(), *numbered]))


def test_hostile_texts_come_back_as_they_are_or_are_set_aside(corpus):
    lines = [json.dumps(dataclasses.asdict(dataclasses.replace(EXAMPLE, response=text))) for text in corpus.values()]
    found, aside = read_all(reader(JudgingExample), "\n".join(lines).encode())
    whole = [text for text in corpus.values() if text == text.encode("utf-8", "replace").decode()]
    assert [each.response for each in found] == whole
    assert aside == len(corpus) - len(whole) == 4  # those with lone surrogates, which no file of UTF-8 holds
    rows = [json.dumps(ROW | {"index": number, "response": text}) for number, text in enumerate(corpus.values())]
    found, aside = read_all(suite, "\n".join(rows).encode())
    assert [each.response for each in found] == whole and aside == 4


def test_hostile_texts_as_lines_are_set_aside(corpus):
    data = b"\n".join(text[:5_000].encode("utf-8", "surrogatepass") for text in corpus.values())
    assert read_all(reader(JudgingExample), data)[0] == []
    assert read_all(suite, json.dumps(ROW).encode() + b"\n" + data)[0][0].response == "r"


@given(st.lists(st.builds(lambda text, tokens: dataclasses.replace(JUDGEMENT, thought=text, num_tokens=tokens),
                          st.text(max_size=20), st.integers(0, 2**62)), max_size=5), st.integers(0, 1_000))
def test_a_file_cut_anywhere_goes_on_to_the_same_bytes(judgements, cut):
    with tempfile.TemporaryDirectory() as folder:
        whole, again = Path(folder) / "whole.jsonl", Path(folder) / "again.jsonl"
        records.write(whole, judgements)
        data = whole.read_bytes()
        again.with_name("again.jsonl.partial").write_bytes(data[:cut % (len(data) + 1)])
        out = records.Appender(again, Judgement)
        for judgement in judgements[len(out.done):]:
            out.append(judgement)
        out.finish()
        assert again.read_bytes() == data
