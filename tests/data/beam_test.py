"""Curation under Apache Beam: the bytes of the plain path, for any files, runners and numbers of workers."""

import dataclasses
import pathlib
import random
import sys

import pytest

from libra_jax import records
from libra_jax.data import beam
from libra_jax.judging.v2v import V2VConfig
from libra_jax.records import Problem, VerifiedRollout
from libra_jax.stages import curate

OUTPUTS = ("train.jsonl", "bench.jsonl", "problems.rejected.jsonl", "rollouts.rejected.jsonl", "card.json", "card.md")
TWO_PROCESSES = ("runner=DirectRunner", "direct_num_workers=2", "direct_running_mode=multi_processing")


@pytest.fixture
def workers(monkeypatch):
    """Workers in other processes that find the package; the test is skipped without Beam."""
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (pip install libra_jax[beam])")
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))


def make_inputs(folder, num_files, *, num_problems=150, order=0):
    """The same records in `num_files` files of each kind: equal and near questions, repetitions, broken lines."""
    rng = random.Random(1)
    ending = " and then how many of all these are there together in the end, if none was lost on the way?"
    asked = [f"Take {n // 2 * 2 if n % 10 < 4 else n} " + " " * (n % 2) + f"apples{ending if n % 20 > 17 else '?'}"
             for n in range(num_problems)]
    problems = [records.to_json(Problem(id=f"p/{n}", source="st"[n % 2], question=question))
                for n, question in enumerate(asked)]
    rollouts = [records.to_json(VerifiedRollout(
        problem_id=f"p/{n}", policy=policy, sample=sample, text=f"{rng.randrange(99)}", num_tokens=1,
        finish=rng.choice(["stop"] * 9 + ["length"]), correct=rng.choice([True] * (n % 5) + [False, None]),
        decided_by="rule", why="")) for n in range(num_problems + 2) for policy in "ab" for sample in range(5)]
    rollouts += [*rng.sample(rollouts, 20), "{broken", '{"problem_id": 3}']
    shuffled = random.Random(order)
    files = {}
    for name, lines in (("problems", [*problems, "broken"]), ("rollouts", rollouts)):
        shuffled.shuffle(lines)
        files[name] = tuple(str(folder / f"{name}-{number}.jsonl") for number in range(num_files))
        for number, path in enumerate(files[name]):
            pathlib.Path(path).write_text("".join(line + "\n" for line in lines[number::num_files]))
    return curate.Config(problems=files["problems"], rollouts=files["rollouts"], bench_fraction=0.4,
                         v2v=V2VConfig(bands=(0.2, 0.5, 0.7), max_per_band=18, max_per_problem=6))


def outputs(folder):
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


@pytest.mark.parametrize("options", [("runner=DirectRunner",), TWO_PROCESSES], ids=["one process", "two processes"])
def test_the_bytes_of_the_plain_path(options, workers, tmp_path):
    config = make_inputs(tmp_path, 3)
    plain = curate.run(config, tmp_path / "plain")
    assert plain["train"]["examples"] > 50 and plain["bench"]["examples"] > 50
    assert plain["broken_lines"] == {"problems": 1, "rollouts": 2} and plain["rollouts_of_unknown_problems"] >= 20
    idle = {line["rule"] for line in plain["train"]["rules"] if not line["removed"]}
    assert idle <= {"problem unknown", "id of another problem's", "one kind after balancing"}
    assert curate.run(dataclasses.replace(config, beam=options), tmp_path / "beam") == plain
    assert outputs(tmp_path / "beam") == outputs(tmp_path / "plain")
    assert not (tmp_path / "beam/curate.partial").exists()


def test_any_sharding_gives_the_same_sets(workers, tmp_path):
    made = set()
    for num_files, order in ((1, 0), (2, 1), (7, 2)):
        folder = tmp_path / str(num_files)
        folder.mkdir()
        config = dataclasses.replace(make_inputs(folder, num_files, order=order), beam=("runner=DirectRunner",))
        curate.run(config, folder / "out")
        made.add(((folder / "out/train.jsonl").read_bytes(), (folder / "out/bench.jsonl").read_bytes()))
    plain = make_inputs(tmp_path, 1, order=3)
    curate.run(plain, tmp_path / "out")
    assert made == {((tmp_path / "out/train.jsonl").read_bytes(), (tmp_path / "out/bench.jsonl").read_bytes())}


def test_an_empty_side_is_an_empty_file(workers, tmp_path):
    config = dataclasses.replace(make_inputs(tmp_path, 1), bench_fraction=0.0)
    plain = curate.run(config, tmp_path / "plain")
    assert curate.run(dataclasses.replace(config, beam=("runner=DirectRunner",)), tmp_path / "beam") == plain
    assert outputs(tmp_path / "beam") == outputs(tmp_path / "plain") and plain["bench"]["examples"] == 0


def test_an_option_that_beam_does_not_know(workers, tmp_path):
    config = dataclasses.replace(make_inputs(tmp_path, 1), beam=("runer=DirectRunner",))
    with pytest.raises(ValueError, match="no option 'runer'; the nearest is 'runner'"):
        curate.run(config, tmp_path / "out")


def test_without_beam_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ValueError, match=r"libra_jax\[beam\]"):
        beam.curate([], [], V2VConfig(), 0.5, tmp_path, ["runner=DirectRunner"])
