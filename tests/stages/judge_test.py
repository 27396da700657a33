import dataclasses
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from libra_jax import records, runs
from libra_jax.judges.endpoint import EndpointConfig, EndpointError
from libra_jax.judges.tally import Prices
from libra_jax.parallel import mesh as meshes
from libra_jax.records import Judgement, JudgingExample, Score
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import judge


@pytest.fixture
def config(tmp_path, tiny_checkpoint):
    examples = [JudgingExample(id=f"e{number}", problem_id=f"p{number // 2}", question=f"{number // 2}+1?",
                               response=f"The answer is {number}.", correct=number % 2 == 0, policy="p", source="s")
                for number in range(6)]
    records.write(tmp_path / "examples.jsonl", examples)
    return judge.Config(examples=str(tmp_path / "examples.jsonl"), checkpoint=tiny_checkpoint, template="miniature",
                        sampling=SamplingConfig(max_new_tokens=6, num_samples=2, batch_size=4))


def test_a_model_judges_every_example(config, tmp_path):
    summary = judge.run(config, tmp_path / "out")
    rows = list(records.read(tmp_path / "out" / "judgements.jsonl", Judgement))
    assert [(row.example_id, row.sample) for row in rows] == [(f"e{e}", s) for e in range(6) for s in range(2)]
    assert {row.judge for row in rows} == {"tiny"}
    assert summary["judgements"] == 12 == sum(summary[name] for name in ("correct", "incorrect", "unparsed"))


def test_a_template_in_a_file_is_asked_and_counts_by_its_content(config, tmp_path):
    file = tmp_path / "lab.py"
    file.write_text("from libra_jax.judging.prompt import Template\n"
                    "TEMPLATE = Template(judge='Safe? {question} {response}', solve='{question}')\n")
    config = dataclasses.replace(config, template=str(file))
    assert judge.make(config).template.judge == "Safe? {question} {response}"
    judge.run(config, tmp_path / "out")
    file.write_text(file.read_text().replace("Safe?", "Is it safe?"))
    with pytest.raises(ValueError, match=r"judgements\.jsonl was made with template="):
        judge.run(config, tmp_path / "out")


def test_a_judge_may_be_spread_over_devices_and_compute_in_bfloat16(config, tmp_path):
    spread = dataclasses.replace(config, mesh=meshes.MeshConfig(data=1, fsdp=4, tensor=2), compute_dtype="bfloat16")
    made = judge.make(spread)
    assert made.model_config.dtype == "bfloat16" and made.mesh.shape["tensor"] == 2
    assert {leaf.dtype for leaf in jax.tree.leaves(made.params)} == {np.dtype("bfloat16")}
    assert made.params["embedding"].sharding.spec == jax.sharding.PartitionSpec("tensor", "fsdp")
    plain = judge.make(config)
    assert {leaf.dtype for leaf in jax.tree.leaves(plain.params)} == {np.dtype("float32")}
    assert plain.params["embedding"].sharding.is_fully_replicated and plain.mesh.shape["data"] == 8
    assert judge.run(spread, tmp_path)["judgements"] == 12


def test_thinking_changes_the_prompt(config, tmp_path):
    judge.run(config, tmp_path / "thinking")
    judge.run(dataclasses.replace(config, thinking=False), tmp_path / "quick")
    quick = list(records.read(tmp_path / "quick" / "judgements.jsonl", Judgement))
    assert all(row.thought == "" for row in quick)
    assert quick != list(records.read(tmp_path / "thinking" / "judgements.jsonl", Judgement))


@pytest.mark.parametrize("name", ["model", "majority_answer"])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(config, tmp_path, name):
    config = dataclasses.replace(config, judge=name)
    judge.run(config, tmp_path / "whole")
    wanted = (tmp_path / "whole" / "judgements.jsonl").read_bytes()
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "judgements.jsonl.partial").write_bytes(b"".join(wanted.splitlines(keepends=True)[:5]) + b'{"exa')
    summary = judge.run(config, killed)
    assert (killed / "judgements.jsonl").read_bytes() == wanted
    assert summary["judgements"] == len(wanted.splitlines())


@pytest.mark.parametrize("name", ["majority_answer", "response_length", "always_correct"])
def test_baselines_need_no_checkpoint(config, tmp_path, name):
    summary = judge.run(dataclasses.replace(config, judge=name, checkpoint=""), tmp_path)
    rows = list(records.read(tmp_path / "judgements.jsonl", Judgement))
    assert [row.judge for row in rows] == [name] * 6 and summary["unparsed"] == 0


def test_a_model_needs_one(config, tmp_path):
    with pytest.raises(ValueError, match=r"--config\.checkpoint is empty"):
        judge.run(dataclasses.replace(config, checkpoint=""), tmp_path)


@pytest.fixture
def scored(config, tmp_path):
    """The config with scores of its first five examples, and a broken line: 10, 1, 12, 3, 14."""
    lines = [records.to_json(Score(example_id=f"e{number}", score=10.0 * (number % 2 == 0) + number))
             for number in range(5)]
    (tmp_path / "scores.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    return dataclasses.replace(config, judge="scores", scores=str(tmp_path / "scores.jsonl"), checkpoint="")


def test_scores_are_judged_and_resumed(scored, tmp_path):
    summary = judge.run(dataclasses.replace(scored, name="reward-7b"), tmp_path / "out")
    rows = list(records.read(tmp_path / "out/judgements.jsonl", Judgement))
    assert [row.verdict for row in rows] == ["correct", "incorrect", "correct", "incorrect", "correct", "unparsed"]
    assert {row.judge for row in rows} == {"reward-7b"} and rows[0].score > 0.5 > rows[1].score
    assert summary["broken_lines"] == 1 and (tmp_path / "out/scores.rejected.jsonl").is_file()
    wanted = (tmp_path / "out/judgements.jsonl").read_bytes()
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/judgements.jsonl.partial").write_bytes(wanted[: len(wanted) // 2])
    assert judge.run(dataclasses.replace(scored, name="reward-7b"), tmp_path / "killed")["broken_lines"] == 1
    assert (tmp_path / "killed/judgements.jsonl").read_bytes() == wanted


def test_other_labelled_examples_may_choose_the_threshold(scored, tmp_path):
    other = [JudgingExample(id=f"e{number}", problem_id=f"other{number}", question="q", response="r",
                            correct=number == 2, policy="p", source="s") for number in (2, 4)]
    records.write(tmp_path / "other.jsonl", other)  # e2 scores 12 and e4 14, so upside down: all from 12 on are correct
    judge.run(dataclasses.replace(scored, calibration=str(tmp_path / "other.jsonl")), tmp_path / "out")
    rows = list(records.read(tmp_path / "out/judgements.jsonl", Judgement))
    assert [row.verdict for row in rows] == ["incorrect", "incorrect", "correct", "incorrect", "correct", "unparsed"]
    with pytest.raises(ValueError, match=r"made with calibration"):
        judge.run(scored, tmp_path / "out")


def test_scores_need_their_file(config, tmp_path):
    with pytest.raises(ValueError, match=r"--config\.scores is empty"):
        judge.run(dataclasses.replace(config, judge="scores"), tmp_path)

KEY = "sk-0123456789abcdef"


@pytest.fixture
def asked(config, server, chat):
    """A config that asks the server, which answers by what it is asked alone and counts 40 + 7 tokens."""
    def answer(request, handler):
        word = "correct" if "answer is 2" in request["messages"][-1]["content"] else "incorrect"
        return chat(f"Verdict: {word}", usage=(40, 7), reasoning_content=f"sample {request['seed']}")

    server.answer = answer
    how = EndpointConfig(url=server.url, model="m", num_samples=2, concurrency=2, backoff=0.01,
                         prices=Prices(input=1.0, output=10.0))
    return judge.Config(examples=config.examples, judge="endpoint", endpoint=how)


def test_an_endpoint_judges_and_its_cost_is_in_the_summary(asked, tmp_path):
    summary = judge.run(asked, tmp_path / "out")
    rows = list(records.read(tmp_path / "out" / "judgements.jsonl", Judgement))
    assert [(row.example_id, row.sample) for row in rows] == [(f"e{e}", s) for e in range(6) for s in range(2)]
    assert {row.judge for row in rows} == {"m"} and [row.verdict for row in rows].count("correct") == 2
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["attempts"], summary["prompt_tokens"], summary["completion_tokens"]) == (12, 480, 84)
    assert summary["cost"] == pytest.approx(480e-6 + 84e-5) and summary["failed_requests"] == 0
    assert judge.run(asked, tmp_path / "out") == summary  # finished: nothing is asked


def test_a_killed_endpoint_run_goes_on_with_other_patience_and_ends_in_the_same_bytes(asked, tmp_path, server):
    judge.run(asked, tmp_path / "whole")
    well, seen = server.answer, len(server.requests)
    server.answer = lambda request, handler: (
        (401, {}, b"key expired") if len(server.requests) > seen + 5 else well(request, handler))
    with pytest.raises(EndpointError, match="key expired"):
        judge.run(asked, tmp_path / "killed")
    assert not (tmp_path / "killed" / "judgements.jsonl").exists()
    server.answer, seen = well, len(server.requests)
    patient = dataclasses.replace(asked.endpoint, concurrency=5, retries=1, timeout=9.0, max_failures=2)
    summary = judge.run(dataclasses.replace(asked, endpoint=patient), tmp_path / "killed")
    whole, gone_on = (tmp_path / name / "judgements.jsonl" for name in ("whole", "killed"))
    assert whole.read_bytes() == gone_on.read_bytes()
    assert 7 <= len(server.requests) - seen <= 8  # of 12, 5 were answered, one of which perhaps not in time to be kept
    assert summary["prompt_tokens"] >= 480
    with pytest.raises(ValueError, match=r"endpoint\.max_tokens"):
        judge.run(dataclasses.replace(asked, endpoint=dataclasses.replace(patient, max_tokens=5)), tmp_path / "killed")


def test_a_process_killed_by_the_system_goes_on_and_the_key_is_in_no_file_and_no_log(asked, tmp_path, server):
    judge.run(asked, tmp_path / "whole")
    well, seen, children = server.answer, len(server.requests), []

    def answer(request, handler):
        if len(server.requests) == seen + 6:
            children[0].send_signal(signal.SIGKILL)
        return well(request, handler)

    server.answer = answer
    command = [sys.executable, "-m", "libra_jax.stages.judge", f"--workdir={tmp_path / 'killed'}",
               f"--config.examples={asked.examples}", "--config.judge=endpoint", f"--config.endpoint.url={server.url}",
               "--config.endpoint.model=m", "--config.endpoint.num_samples=2", "--config.endpoint.concurrency=2",
               "--config.endpoint.api_key_env=LIBRA_TEST_KEY", "--config.endpoint.prices.input=1"]
    environment = os.environ | {"LIBRA_TEST_KEY": KEY}
    for wanted in (-signal.SIGKILL, 0):
        with open(tmp_path / f"log{wanted}", "wb") as log:
            children[:] = [subprocess.Popen(command, env=environment, stdout=log, stderr=log)]
            assert children[0].wait(120) == wanted, (tmp_path / f"log{wanted}").read_text()
        server.answer = well
    assert (tmp_path / "killed/judgements.jsonl").read_bytes() == (tmp_path / "whole/judgements.jsonl").read_bytes()
    assert server.headers[-1][1]["Authorization"] == f"Bearer {KEY}"
    assert 12 <= len(server.requests) - seen <= 12 + 3  # 2 under way at the kill, and one whose line was not yet there
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file
    assert "12 of 12 judgements" in (tmp_path / "log0").read_text()


def test_what_an_endpoint_cannot_do_is_refused(asked, tmp_path, monkeypatch):
    for wrong in ({"thinking": False}, {"sampling": SamplingConfig(num_samples=4)}):
        with pytest.raises(ValueError, match=r"are for judge=model"):
            judge.make(dataclasses.replace(asked, **wrong))
    with pytest.raises(ValueError, match="enough=1"):
        judge.make(dataclasses.replace(asked, enough=1))
    monkeypatch.setattr(runs, "num_processes", lambda: 2)
    with pytest.raises(ValueError, match="2 processes would write"):
        judge.run(asked, tmp_path)
