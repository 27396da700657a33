"""The curate stage: its files and card, broken lines, mistakes, and SIGKILL at random moments."""

import dataclasses
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from libra_jax import config as configs
from libra_jax import records
from libra_jax.judging.ranking import RankingConfig
from libra_jax.judging.v2v import V2VConfig
from libra_jax.records import JudgingExample, Problem, RankingExample, VerifiedRollout
from libra_jax.stages import curate

OUTPUTS = ("train.jsonl", "bench.jsonl", "card.json", "card.md", "rollouts.rejected.jsonl")


def make_inputs(folder, *, num_problems=300, seed=0):
    """problems.jsonl and verified.jsonl, with two broken lines and one rollout of an unknown problem."""
    rng = random.Random(seed)
    problems = [Problem(id=f"p{n}", source="st"[n % 2], question=f"What is {n}+{n}?", answer=str(2 * n))
                for n in range(num_problems)]
    lines = []
    for problem in problems:
        for policy, strength in (("weak", 0.3), ("strong", 0.7)):
            for sample in range(4):
                correct = rng.random() < strength if rng.random() > 0.05 else None
                lines.append(records.to_json(VerifiedRollout(
                    problem_id=problem.id, policy=policy, sample=sample, text=f"so {rng.random()}", num_tokens=2,
                    finish="stop", correct=correct, decided_by="rule", why="")))
    lines.insert(3, "{broken")
    lines.insert(9, '{"problem_id": 3}')
    lines.append(lines[0].replace('"p0"', '"nowhere"'))
    records.write(folder / "problems.jsonl", problems)
    (folder / "verified.jsonl").write_text("\n".join(lines) + "\n")
    return curate.Config(problems=(str(folder / "problems.jsonl"),), rollouts=(str(folder / "verified.jsonl"),),
                         bench_fraction=0.3)


def outputs(folder):
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def test_files_and_card(tmp_path, capsys):
    config = make_inputs(tmp_path)
    card = curate.run(config, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "card.json").read_text()) == card
    files = (tmp_path / "out" / "train.jsonl", tmp_path / "out" / "bench.jsonl")
    train, bench = (list(records.read(file, JudgingExample)) for file in files)
    assert {e.problem_id for e in train}.isdisjoint(e.problem_id for e in bench)
    for name, examples in (("train", train), ("bench", bench)):
        assert card[name]["examples"] == len(examples) > 100
        assert card[name]["correct"] * 2 == len(examples)
        assert sum(sum(kinds.values()) for kinds in card[name]["by_policy"].values()) == len(examples)
        assert card[name]["rules"][-1]["left"] == len(examples)
    assert len({e.problem_id for e in bench}) < len({e.problem_id for e in train})
    assert card["broken_lines"] == {"problems": 0, "rollouts": 2} and card["rollouts_of_unknown_problems"] == 1
    notes = [json.loads(line) for line in (tmp_path / "out" / "rollouts.rejected.jsonl").read_text().splitlines()]
    assert [note["line"] for note in notes] == [4, 10]
    assert str(tmp_path) not in json.dumps(card)
    printed = capsys.readouterr().out
    assert "undecided" in printed and "balance of source and policy" in printed and "verified.jsonl:4" in printed


def test_ranking_questions_are_beside_the_sets_and_change_nothing_else(tmp_path, capsys):
    config = make_inputs(tmp_path)
    plain = curate.run(config, tmp_path / "out")
    before = outputs(tmp_path / "out")
    asked = dataclasses.replace(config, ranking=RankingConfig(responses=3))
    card = curate.run(asked, tmp_path / "ranked")
    printed = capsys.readouterr().out
    for name in ("train", "bench"):
        assert (tmp_path / "ranked" / f"{name}.jsonl").read_bytes() == before[f"{name}.jsonl"]
        path = tmp_path / "ranked" / f"ranking_{name}.jsonl"
        made, said = list(records.read(path, RankingExample)), card["ranking"][name]
        labels = {each.response: each.correct
                  for each in records.read(tmp_path / "ranked" / f"{name}.jsonl", JudgingExample)}
        assert len(made) == said["questions"] > 10
        assert said["questions"] + said["problems_without"] == card[name]["problems"]
        assert said["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        for each in made:
            assert [labels[response] for response in each.responses] == [at == each.right for at in range(3)]
        assert f"ranking_{name}: {len(made)} questions of 3 responses" in printed
    assert "ranking.responses=3" in card["command"] and "Ranking questions" in (tmp_path / "ranked/card.md").read_text()
    assert {name: card[name] for name in plain if name not in ("config", "command")} == {
        name: plain[name] for name in plain if name not in ("config", "command")}
    curate.run(config, tmp_path / "ranked")  # without them again: none of before stay
    assert outputs(tmp_path / "ranked") == before and not list((tmp_path / "ranked").glob("ranking_*"))


def test_a_changed_input_changes_the_card(tmp_path):
    config = make_inputs(tmp_path)
    before = curate.run(config, tmp_path / "out")["inputs"]
    with open(config.rollouts[0], "a") as file:
        file.write("\n")
    after = curate.run(config, tmp_path / "out")["inputs"]
    assert before["problems"] == after["problems"] and before["rollouts"] != after["rollouts"]


def test_what_an_earlier_run_set_aside_does_not_stay(tmp_path):
    config = make_inputs(tmp_path)
    curate.run(config, tmp_path / "out")
    lines = (tmp_path / "verified.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "verified.jsonl").write_text("".join(line for line in lines if "sample" in line))
    assert curate.run(config, tmp_path / "out")["broken_lines"]["rollouts"] == 0
    assert not (tmp_path / "out" / "rollouts.rejected.jsonl").exists()


def scattered(config, folder, num_files, seed):
    """The same records in several files, some lines in two of them, each file in an order of its own."""
    rng, files = random.Random(seed), {}
    for name in ("problems", "rollouts"):
        lines = open(getattr(config, name)[0]).read().splitlines(keepends=True)
        files[name] = tuple(str(folder / f"{part}/{name}.jsonl") for part in range(num_files))
        for number, path in enumerate(files[name]):
            some = [line for place, line in enumerate(lines) if place % num_files == number]
            some += [line for line in rng.sample(lines, 3) if "broken" not in line and '": 3}' not in line]
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.writelines(rng.sample(some, len(some)))
    return dataclasses.replace(config, problems=files["problems"], rollouts=files["rollouts"])


def test_neither_files_nor_their_order_nor_that_of_lines_change_the_sets(tmp_path):
    config = make_inputs(tmp_path)
    card = curate.run(config, tmp_path / "whole")
    several = scattered(config, tmp_path / "in", 3, seed=0)
    made = curate.run(several, tmp_path / "several")
    for name in ("train.jsonl", "bench.jsonl"):
        assert (tmp_path / "several" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert made["broken_lines"] == card["broken_lines"]
    assert [each["file"] for each in made["inputs"]["rollouts"]] == [f"{n}/rollouts.jsonl" for n in range(3)]
    turned = dataclasses.replace(several, problems=several.problems[::-1], rollouts=several.rollouts[1:] + (
        several.rollouts[:1] * 2))
    curate.run(turned, tmp_path / "turned")
    assert outputs(tmp_path / "turned") == outputs(tmp_path / "several")


def test_the_card_names_sources_licences_hashes_and_the_command(tmp_path):
    config = dataclasses.replace(make_inputs(tmp_path), licences=("s=MIT or so",),
                                 v2v=V2VConfig(bands=(0.2, 0.8), difficulty_policies=("weak", "strong")))
    card = curate.run(config, tmp_path / "out")
    assert card["licences"] == {"s": "MIT or so", "t": "unknown"}
    for name, digest in card["outputs"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    given = card["train"]["difficulty"]["all"]["given"]
    kept = card["train"]["difficulty"]["all"]["kept"]
    assert given["0"] and not kept["0"] and not kept["1"] and sum(kept.values()) == card["train"]["problems"]
    again, left = configs.parse(shlex.split(card["command"])[3:], curate.Config())
    assert left == [] and again == dataclasses.replace(config, problems=("problems.jsonl",),
                                                       rollouts=("verified.jsonl",))
    text = (tmp_path / "out/card.md").read_text()
    assert card["outputs"]["bench.jsonl"] in text and card["command"] in text and "| t | unknown |" in text


@pytest.mark.parametrize(("licences", "message"), [
    (("u=MIT",), "no problem is of the source 'u'"), (("MIT",), "expected SOURCE=LICENCE"), (("s=",), "SOURCE=LICENCE"),
])
def test_licences_of_nothing(licences, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        curate.run(dataclasses.replace(make_inputs(tmp_path, num_problems=2), licences=licences), tmp_path / "out")


@pytest.mark.parametrize(("argv", "message"), [
    ([], "--config.problems is empty"),
    (["--config.problems=none.jsonl", "--config.rollouts=none.jsonl"], "none.jsonl"),
    (["--config.v2v.max_per_problm=3"], "nearest is --config.v2v.max_per_problem"),
])
def test_mistakes(argv, message, tmp_path, capsys):
    assert curate.main(["curate", f"--workdir={tmp_path}", *argv]) == 2
    assert message in capsys.readouterr().err


def test_one_path_where_several_belong(tmp_path):
    with pytest.raises(ValueError, match=r"problems is the string 'p\.jsonl'; expected a tuple of paths"):
        curate.run(curate.Config(problems="p.jsonl", rollouts=("r.jsonl",)), tmp_path)


def test_killed_at_random_moments_it_ends_in_the_same_bytes(tmp_path):
    """SIGKILL while it imports, reads, curates and writes; what then lies there never misleads the next run."""
    config = make_inputs(tmp_path, num_problems=800)
    curate.run(config, tmp_path / "whole")
    command = [sys.executable, "-m", "libra_jax.stages.curate", f"--workdir={tmp_path / 'killed'}",
               f"--config.problems={config.problems[0]}", f"--config.rollouts={config.rollouts[0]}",
               "--config.bench_fraction=0.3"]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    start = time.monotonic()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    took = time.monotonic() - start
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
    rng, killed = random.Random(0), 0
    for number in range(6):
        if number % 2:  # half of the kills meet an empty folder, half a finished one
            shutil.rmtree(tmp_path / "killed")
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(took * rng.uniform(0.2, 1.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if (tmp_path / "killed" / "card.json").exists():
            assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
    assert killed >= 2
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob("*.partial"))
