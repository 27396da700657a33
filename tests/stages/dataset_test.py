"""Records to a Hugging Face dataset and back are the same bytes; others' tables come in, their bad rows set aside."""

import json
import pathlib
import sys
import typing

import pytest

from libra_jax import records
from libra_jax.data import columns, folders
from libra_jax.records import HumanLabel, Judgement, JudgingExample, PreferencePair, Problem, RankingExample, Score
from libra_jax.stages import dataset

ROLLOUT = {"problem_id": "p", "policy": "m", "text": "\u2028 é <|im_end|>\0", "num_tokens": 7, "finish": "length"}
SAMPLES = {
    "Problem": [Problem(id=f"p{number}", source="s", question="q\n\"'", answer=None if number % 2 else "½")
                for number in range(5)],
    "Rollout": [records.Rollout(sample=number, **ROLLOUT) for number in range(3)],
    "VerifiedRollout": [records.VerifiedRollout(sample=number, correct=correct, decided_by="rule", why="", **ROLLOUT)
                        for number, correct in enumerate((True, False, None))],
    "HumanLabel": [HumanLabel(problem_id="p", policy="m", sample=2, correct=None)],
    "JudgingExample": [JudgingExample(id=f"e{number}", problem_id="p", question="q", response="r" * number,
                                      correct=number == 1, policy="m", source="s") for number in range(3)],
    "RankingExample": [RankingExample(id="r", problem_id="p", question="q", responses=("a", "b", ""), right=2,
                                      policies=("m", "n", "m"), source="s")],
    "Judgement": [Judgement(example_id="e", judge="j", sample=1, thought="t", verdict="unparsed", num_tokens=3),
                  Judgement(example_id="e", judge="j", sample=2, thought="t", verdict="correct", num_tokens=3,
                            score=0.1 + 0.2)],
    "Score": [Score(example_id="e", score=-1.5e-300)],
    "PreferencePair": [PreferencePair(problem_id="p", question="q", chosen="a", rejected="b", chosen_score=0.75,
                                      rejected_score=1 / 3)],
}


def run(workdir, **config):
    return dataset.run(dataset.Config(**config), workdir)


@pytest.mark.parametrize("record", columns.RECORDS)
def test_every_kind_of_record_makes_the_round_trip(tmp_path, record):
    pytest.importorskip("pyarrow", reason='parquet needs pip install "libra_jax[data]"')
    given = tmp_path / "given.jsonl"
    records.write(given, SAMPLES[record])
    run(tmp_path / "out", record=record, inputs=(f"{given}",), to="parquet")
    summary = run(tmp_path / "back", record=record, inputs=(f"back={tmp_path / 'out/dataset'}",))
    assert (tmp_path / "back/back.jsonl").read_bytes() == given.read_bytes()
    assert summary["back"] == len(SAMPLES[record]) and summary["set_aside"] == 0


@pytest.fixture
def sets(tmp_path):
    for name in ("train", "bench"):
        records.write(tmp_path / f"{name}.jsonl", [
            Problem(id=f"{name}{number}", source="s", question=f"{number}?") for number in range(7)])
    return f"train={tmp_path / 'train.jsonl'}", f"test={tmp_path / 'bench.jsonl'}"


def test_the_folder_has_the_layout_of_the_hub_and_the_same_bytes_again(tmp_path, sets):
    hub = pytest.importorskip("huggingface_hub", reason='the card is read with pip install "libra_jax[data]"')
    config = {"inputs": sets, "to": "parquet", "rows_per_file": 3, "title": "A: *set*\n---\n{{ 1 }}"}
    run(tmp_path, **config)
    folder = tmp_path / "dataset"
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert names == ["README.md", *(f"data/{split}-{number:05}-of-00003.parquet" for split in ("test", "train")
                                    for number in range(3))]
    card = hub.DatasetCard.load(folder / "README.md")
    assert card.data.to_dict() == {
        "pretty_name": "A: *set* --- {{ 1 }}", "tags": ["libra", "reward-model"],
        "configs": [{"config_name": "default", "data_files": [
            {"split": "train", "path": "data/train-*"}, {"split": "test", "path": "data/test-*"}]}]}
    assert card.text.lstrip().startswith("# A: \\*set\\* --- \\{\\{ 1 \\}\\}\n") and str(tmp_path) not in card.text
    assert "| train | 7 | train.jsonl \\(SHA-256 " in card.text
    before = {name: (folder / name).read_bytes() for name in names}
    run(tmp_path, **config)
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert not list(tmp_path.glob("dataset.*"))


def test_datasets_itself_reads_it(tmp_path, sets):
    datasets = pytest.importorskip("datasets", reason="pip install datasets to see its own reader read the folder")
    run(tmp_path, inputs=sets, to="parquet")
    found = datasets.load_dataset(str(tmp_path / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert {split: list(rows) for split, rows in found.items()} == {
        split: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for split, name in (("train", "train"), ("test", "bench"))}


def test_a_folder_that_fails_half_way_leaves_the_one_before(tmp_path, sets):
    run(tmp_path, inputs=sets, to="parquet")
    before = (tmp_path / "dataset/README.md").read_bytes()
    (tmp_path / "bench.jsonl").write_text('{"question": 5.5e999}\n')
    with pytest.raises(ValueError, match=r"bench\.jsonl: no row is a Problem: all 1 are set aside; the first: "):
        run(tmp_path, inputs=sets, to="parquet")
    assert (tmp_path / "dataset/README.md").read_bytes() == before and not list(tmp_path.glob("dataset.*"))
    with pytest.raises(ValueError, match="no row is a Problem"):
        run(tmp_path / "lines", inputs=sets[1:])
    assert sorted(file.name for file in (tmp_path / "lines").iterdir()) == ["rejected.jsonl"]


def test_bad_rows_are_told_by_file_and_row_set_aside_and_counted(tmp_path, capsys):
    rows = [{"problem": "1+1?", "solution": "\\boxed{2}"}, {"problem": 5}, {"problem": "x", "solution": "none"}, [1]]
    (tmp_path / "given.json").write_text(json.dumps(rows))
    summary = run(tmp_path, inputs=(f"problems={tmp_path}/given.json",), final=("answer",),
                  columns=("question=problem", "answer=solution"))
    assert {name: summary[name] for name in ("problems", "set_aside", "files")} == {
        "problems": 1, "set_aside": 3, "files": 1}
    assert list(records.read(tmp_path / "problems.jsonl", Problem)) == [
        Problem(id="given/problems/1", source="given", question="1+1?", answer="2")]
    aside = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(note["file"], note["line"]) for note in aside] == [(f"{tmp_path}/given.json", row) for row in (2, 3, 4)]
    assert f"set aside: {tmp_path}/given.json:3: answer: no final answer in 'none'" in capsys.readouterr().err


def test_real_problems_come_in_as_their_sources_publish_them(shared, tmp_path):
    run(tmp_path, inputs=(f"gsm8k={shared}/problems/gsm8k_test.jsonl.gz",), final=("answer",))
    run(tmp_path, inputs=(f"math={shared}/problems/math500.jsonl",), columns=("question=problem", "id=unique_id"))
    run(tmp_path, inputs=(f"aime={shared}/problems/aime24.jsonl",), columns=("question=problem",))
    found = {name: list(records.read(tmp_path / f"{name}.jsonl", Problem)) for name in ("gsm8k", "math", "aime")}
    assert {name: len(some) for name, some in found.items()} == {"gsm8k": 1319, "math": 500, "aime": 30}
    assert found["gsm8k"][0].answer == "18" and found["math"][0].id == "test/precalculus/807.json"
    assert found["math"][0].level == "2" and found["aime"][0].answer == "204"


@pytest.mark.parametrize("config, message", [
    ({"inputs": ()}, "inputs is empty"),
    ({"inputs": ("a.jsonl", "b.jsonl")}, "two of the split 'train'; name them"),
    ({"inputs": ("x.jsonl",), "columns": ("question",)}, "--config.columns='question': expected FIELD=COLUMN"),
    ({"inputs": ("x.jsonl",), "values": ("level=1", "level=2")}, "expected FIELD=VALUE, each field once"),
    ({"inputs": ("x.jsonl",), "rows_per_file": 0}, "rows_per_file=0: expected at least 1"),
    ({"inputs": ("x.csv",)}, "x.csv: expected a name that ends in one of .parquet"),
])
def test_what_cannot_be_is_told(tmp_path, monkeypatch, config, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl", "x.jsonl", "x.csv"):
        pathlib.Path(name).write_text('{"question": "q"}\n')
    with pytest.raises(ValueError) as error:
        run(tmp_path / "out", **config)
    assert message in str(error.value)


def test_without_pyarrow_it_is_named(tmp_path, sets, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r'pyarrow is not installed; pip install "libra_jax\[data\]"'):
        run(tmp_path, inputs=sets, to="parquet")


def test_every_column_has_a_word():
    named = {name for record in columns.RECORDS.values() for name in record.__dataclass_fields__}
    assert named == set(folders.WORDS)


def test_every_kind_of_record_can_be_named():
    assert typing.get_args(typing.get_type_hints(dataset.Config)["record"]) == tuple(columns.RECORDS)
