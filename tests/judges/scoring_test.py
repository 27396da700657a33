"""Pairs in, scored responses out: the same judgements as the judge stage writes."""

import dataclasses
import random

import pytest

from libra_jax import Judge, records
from libra_jax.judges.scoring import pair_example
from libra_jax.miniature import arithmetic
from libra_jax.records import Judgement
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import judge as stage
from libra_jax.stages.chain import CHECKPOINT

QUESTIONS = [problem.question for problem in arithmetic.problems(0, 6)]
RESPONSES = [arithmetic.solution(question, random.Random(number), slip=number % 2)[0]
             for number, question in enumerate(QUESTIONS)]
HOW = {"votes": 3, "max_new_tokens": 64, "seed": 5}


@pytest.fixture(scope="module")
def judge():
    return Judge.load("miniature", **HOW)


@pytest.fixture(scope="module")
def scored(judge):
    return judge.score(QUESTIONS, RESPONSES)


def test_pairs_are_told_apart_by_both_texts():
    pairs = [("a", "b"), ("a", "c"), ("ab", ""), ("", "ab")]
    assert len({pair_example(*pair).id for pair in pairs}) == 4
    example = pair_example("a", "b")
    assert (example.question, example.response, example.correct) == ("a", "b", None)
    assert example == pair_example("a", "b")


def test_the_objects_are_those_that_the_stage_writes(judge, scored, tmp_path):
    examples = [dataclasses.replace(pair_example(*pair), policy="p", source="s", correct=True)
                for pair in zip(QUESTIONS, RESPONSES, strict=True)]
    records.write(tmp_path / "examples.jsonl", examples)
    sampling = SamplingConfig(max_new_tokens=64, num_samples=3, seed=5)
    stage.run(stage.Config(examples=str(tmp_path / "examples.jsonl"), checkpoint=str(CHECKPOINT), template="miniature",
                           name="miniature", sampling=sampling), tmp_path)
    written = (tmp_path / "judgements.jsonl").read_text()
    assert "".join(records.to_json(vote) + "\n" for each in scored for vote in each.votes) == written
    assert list(judge.judge(examples)) == [vote for each in scored for vote in each.votes]
    assert list(judge.judge(examples, skip=4)) == list(records.read(tmp_path / "judgements.jsonl", Judgement))[4:]
