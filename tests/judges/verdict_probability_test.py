"""P(correct) at the verdict: against the whole softmax, independent of its company, resumed and on a mesh."""

import dataclasses
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import libra_jax
from libra_jax import records
from libra_jax.judges import model, verdict_probability
from libra_jax.judging.prompt import load_template
from libra_jax.model import transformer
from libra_jax.parallel import mesh as meshes
from libra_jax.records import JudgingExample
from libra_jax.sampling import engine
from libra_jax.stages import judge as stage
from libra_jax.text import chat

MINIATURE = pathlib.Path(libra_jax.__file__).parent / "miniature/checkpoint"
SUMS = [("3+4", "7"), ("12+9", "21"), ("8-5", "4"), ("6*3", "18"), ("30-4", "25"), ("7+7", "15")]
EXAMPLES = [JudgingExample(id=f"e{n}", problem_id=f"p{n}", question=f"{asked}=?", correct=None, policy="p", source="s",
                           response=f"{asked}={said}. Answer: {said}") for n, (asked, said) in enumerate(SUMS)]


def miniature(mesh=None, **config):
    config = {"sampling": engine.SamplingConfig(max_new_tokens=64, num_samples=2, batch_size=8)} | config
    how = model.ModelJudgeConfig(probability=True, **config)
    return model.load(MINIATURE, how, load_template("miniature"), mesh=mesh)


@pytest.mark.parametrize("thinking", [True, False])
def test_it_is_the_share_of_the_two_words_in_the_softmax(thinking):
    judge = miniature(thinking=thinking)
    words = verdict_probability.parting({word: judge.verdict_tokens(word) for word in ("correct", "incorrect")})
    judged = list(judge.judge(EXAMPLES))
    assert sum(each.verdict != "unparsed" for each in judged) > len(judged) / 2
    assert all((each.score is None) == (each.verdict == "unparsed") for each in judged)
    for each in judged[::4]:
        if each.score is None:
            continue
        example = next(example for example in EXAMPLES if example.id == each.example_id)
        asked = judge.template.judging(example.question, example.response, thinking=thinking)
        whole = judge.template.judging_target(example.question, example.response, each.thought, each.verdict)
        tokens = list(chat.render(judge.tokenizer, whole).tokens)
        said = words[each.verdict]
        starts = [at for at in range(len(tokens)) if tokens[at:at + len(said)] == said]
        before = tokens[:starts[-1]]
        assert before[:len(judge.prompt(example))] == list(chat.render(judge.tokenizer, asked, open_last=True).tokens)
        chance = {}
        for word, more in words.items():
            row = jnp.array([before + more], jnp.int32)
            logits = transformer.apply(judge.model_config, judge.params, row, positions=jnp.arange(row.shape[1])[None])
            logprobs = jax.nn.log_softmax(logits[0])
            chance[word] = math.exp(sum(float(logprobs[len(before) + n - 1, token]) for n, token in enumerate(more)))
        assert each.score == pytest.approx(chance["correct"] / sum(chance.values()), abs=1e-5)


def test_greedy_verdicts_are_on_its_side_of_one_half():
    judge = miniature(thinking=False, sampling=engine.SamplingConfig(max_new_tokens=16, temperature=0, num_samples=1))
    judged = [each for each in judge.judge(EXAMPLES) if each.score is not None]
    assert judged and all((each.score > 0.5) == (each.verdict == "correct") for each in judged)


def test_it_does_not_depend_on_its_company_and_changes_nothing_else():
    judge = miniature()
    whole = list(judge.judge(EXAMPLES))
    assert list(judge.judge(EXAMPLES, skip=5)) == whole[5:] and list(judge.judge(EXAMPLES[3:])) == whole[6:]
    plain = dataclasses.replace(judge, config=dataclasses.replace(judge.config, probability=False))
    assert list(plain.judge(EXAMPLES)) == [dataclasses.replace(each, score=None) for each in whole]


def test_many_devices_give_the_same():
    alone, mesh = list(miniature().judge(EXAMPLES)), meshes.for_sampling(meshes.MeshConfig(data=-1, fsdp=2))
    spread = list(miniature(mesh=mesh).judge(EXAMPLES))
    assert [each.verdict for each in spread] == [each.verdict for each in alone]
    pairs = [(a.score, b.score) for a, b in zip(spread, alone, strict=True) if b.score is not None]
    np.testing.assert_allclose(*zip(*pairs, strict=True), atol=1e-5)


def test_words_part_where_their_tokens_do():
    assert verdict_probability.parting({"correct": [5, 1, 7], "incorrect": [5, 2, 1, 7]}) == {
        "correct": [1, 7], "incorrect": [2, 1, 7]}


def test_the_stage_writes_it_and_other_judges_refuse_it(tmp_path):
    records.write(tmp_path / "examples.jsonl", EXAMPLES)
    config = stage.Config(examples=str(tmp_path / "examples.jsonl"), checkpoint=str(MINIATURE), template="miniature",
                          probability=True, sampling=engine.SamplingConfig(max_new_tokens=64, num_samples=1))
    judged = stage.judge_file(config, tmp_path / "m")[1]
    assert any(each.score is not None for each in judged)
    with pytest.raises(ValueError, match="probability=True with judge='response_length'"):
        stage.run(dataclasses.replace(config, judge="response_length"), tmp_path / "l")
