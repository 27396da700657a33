"""Pairs in, scored responses out: the judge stage's own judgements, whoever judges; orders, settings, and mistakes."""

import concurrent.futures
import dataclasses
import html.parser
import pathlib
import random
import subprocess
import sys

import jax
import pytest

from libra_jax import Judge, Scored, Template, records
from libra_jax.judges import baselines, protocol, shown
from libra_jax.judges.model import stable_id
from libra_jax.judges.scoring import Ranking, pair_example
from libra_jax.judging import prompt
from libra_jax.miniature import arithmetic
from libra_jax.parallel.mesh import MeshConfig
from libra_jax.records import Judgement
from libra_jax.sampling.engine import SamplingConfig
from libra_jax.stages import judge as stage
from libra_jax.stages.chain import CHECKPOINT

QUESTIONS = [problem.question for problem in arithmetic.problems(0, 6)]
RESPONSES = [arithmetic.solution(question, random.Random(number), slip=number % 2)[0]
             for number, question in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def judge():
    return Judge.load("miniature", votes=3, max_new_tokens=64, seed=5)


@pytest.fixture(scope="module")
def scored(judge):
    return judge.score(QUESTIONS, RESPONSES)


def vote(verdict, *, thought="", sample=0, num_tokens=3, score=None):
    return Judgement(example_id="x", judge="j", sample=sample, thought=thought, verdict=verdict, num_tokens=num_tokens,
                     score=score)


def scored_by(*votes):
    return Scored(question="q", response="r", votes=votes)


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


def test_a_pair_is_judged_alike_whatever_is_beside_it_and_however_often(judge, scored):
    assert [(each.question, each.response) for each in scored] == list(zip(QUESTIONS, RESPONSES, strict=True))
    assert judge.score(QUESTIONS[::-1] + QUESTIONS[:1], RESPONSES[::-1] + RESPONSES[:1]) == scored[::-1] + scored[:1]
    assert judge.scores(list(zip(QUESTIONS, RESPONSES, strict=True))[2:4]) == [each.score for each in scored[2:4]]
    assert judge.score([], []) == [] and len({each.score for each in scored}) > 1


def test_settings_are_heard(judge, scored):
    two = judge.replace(votes=2).score(QUESTIONS, RESPONSES)
    assert [each.votes for each in two] == [each.votes[:2] for each in scored]
    assert judge.replace(seed=6).score(QUESTIONS, RESPONSES) != scored
    other = judge.replace(votes=2, temperature=0.5, max_new_tokens=2, seed=6).backend
    assert other.config.sampling == SamplingConfig(num_samples=2, temperature=0.5, max_new_tokens=2, seed=6)
    assert other.params is judge.backend.params


def test_what_load_is_told_reaches_the_judge(judge):
    other = Judge.load(CHECKPOINT, template=prompt.TEMPLATES["libra"], thinking=False, probability=True, top_k=5,
                       top_p=0.9, temperature=0.5, batch_size=8, name="mine", compute_dtype="bfloat16",
                       mesh=MeshConfig(data=1, fsdp=-1)).backend
    assert other.config.sampling == SamplingConfig(top_k=5, top_p=0.9, temperature=0.5, batch_size=8,
                                                   max_new_tokens=256)  # half of the miniature's context
    assert (other.name, other.config.thinking, other.config.probability) == ("mine", False, True)
    assert other.template == prompt.TEMPLATES["libra"] and other.model_config.dtype == "bfloat16"
    assert (other.mesh.size if other.mesh else 1) == jax.device_count()
    assert Judge.load("miniature").backend.template == prompt.TEMPLATES["miniature"] == judge.backend.template
    assert Judge.load(CHECKPOINT, template="libra").backend.template == prompt.TEMPLATES["libra"]
    assert (judge.name, Judge.load(str(CHECKPOINT)).name) == ("miniature", "checkpoint")


@pytest.mark.parametrize("votes, score, verdict, thought", [
    ([vote("correct", thought="a"), vote("incorrect", thought="b")], 0.5, "incorrect", "b"),
    ([vote("unparsed", thought="a"), vote("correct", thought="b")], 1.0, "correct", "b"),
    ([vote("unparsed", thought="a"), vote("unparsed", thought="b")], None, "unparsed", "a"),
    ([vote("correct", thought="a", score=0.9), vote("incorrect", thought="b", score=0.2),
      vote("unparsed", thought="c")], 0.55, "incorrect", "b"),
    ([vote("correct", thought="a", score=0.6), vote("correct", thought="b")], 0.6, "correct", "a"),
])
def test_score_verdict_and_thought_of_votes(votes, score, verdict, thought):
    each = scored_by(*votes)
    assert (each.score, each.verdict, each.thought) == (score and pytest.approx(score), verdict, thought)
    assert each.num_tokens == 3 * len(votes)


def test_probabilities_become_the_score():
    judge = Judge.load("miniature", votes=2, max_new_tokens=64, probability=True)
    (each,) = judge.score(QUESTIONS[:1], RESPONSES[:1])
    given = [vote.score for vote in each.votes if vote.score is not None]
    assert given and each.score == pytest.approx(sum(given) / len(given)) and each.score not in (0.0, 1.0)


def test_the_best_is_the_earliest_of_the_highest_and_what_has_no_score_is_last():
    scores = [None, 0.5, 1.0, 0.0, 1.0, None]
    ranking = Ranking(scored=tuple(
        scored_by(vote("unparsed") if score is None else vote("correct", score=score)) for score in scores))
    assert ranking.order == (2, 4, 1, 3, 0, 5) and ranking.best == 2


def test_responses_to_one_question_are_ordered_by_their_scores(judge):
    question, right = "What is 45+7+2?", "45+7=52\n52+2=54\nA: 54"
    responses = ["45+7=51\n51+2=53\nA: 53", right, "45+7=52\n52+2=57\nA: 57"]
    ranking = judge.rank(question, responses)
    assert [each.response for each in ranking.scored] == responses
    assert list(ranking.scored) == judge.score([question] * 3, responses)
    assert ranking.best == judge.best_of(question, responses) == 1


def test_progress_is_told_on_request_alone(judge, capsys):
    told = []
    judge.score(QUESTIONS, RESPONSES, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (18, 18) and told == sorted(told)
    judge.best_of(QUESTIONS[0], RESPONSES[:2])
    assert capsys.readouterr().err == ""
    judge.best_of(QUESTIONS[0], RESPONSES[:2], progress=True)
    assert "judge miniature: 6/6 samples" in capsys.readouterr().err


def test_threads_may_share_a_judge(judge, scored):
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: judge.score(QUESTIONS, RESPONSES), range(2))) == [scored] * 2


def test_an_endpoint_is_asked_in_the_same_words(server, chat):
    server.answer = lambda request, handler: chat(f"Verdict: {'correct' if request['seed'] else 'incorrect'}",
                                                  reasoning_content="so", usage=(9, 4))
    judge = Judge.endpoint(server.url, "m", votes=3, temperature=0.25, top_p=0.5, max_new_tokens=77, seed=0,
                           concurrency=2, extra={"top_k": 20}, name="theirs")
    told = []
    first, second = judge.score(["1+1?", "2+2?"], ["2", ""], progress=lambda *now: told.append(now))
    assert (first.score, first.verdict, first.thought, first.num_tokens) == (pytest.approx(2 / 3), "correct", "so", 12)
    assert (second.question, second.response, second.votes[0].judge) == ("2+2?", "", "theirs")
    assert told[-1] == (6, 6) and len(server.requests) == 6
    asked = server.requests[0]
    assert {name: asked[name] for name in ("model", "temperature", "top_p", "max_tokens", "top_k")} == {
        "model": "m", "temperature": 0.25, "top_p": 0.5, "max_tokens": 77, "top_k": 20}
    wanted = prompt.TEMPLATES["libra"].judging("1+1?", "2")[0].content[0]
    assert wanted in {request["messages"][0]["content"] for request in server.requests}
    assert len(judge.replace(votes=1, seed=4).score(["1+1?"], ["2"])[0].votes) == 1
    assert server.requests[-1]["seed"] == 4 and "logprobs" not in asked
    Judge.endpoint(server.url, "m", probability=True, template="miniature").score(["1+1?"], ["2"])
    assert server.requests[-1]["logprobs"] and server.requests[-1]["messages"][0]["content"] == "Judge.\n1+1?\n2"


def test_any_judge_of_the_package_may_be_behind_it():
    judge = Judge(backend=baselines.BASELINES["always_correct"]())
    assert [each.score for each in judge.score(["a", "b"], ["1", "2"])] == [1.0, 1.0]
    for what in (lambda: judge.replace(votes=2), lambda: judge.score(["a"], ["1"], progress=True)):
        with pytest.raises(ValueError, match=r"has none; expected a judge with the methods of libra_jax\.judges"):
            what()
    assert isinstance(Judge.endpoint("http://127.0.0.1:1", "m").backend, protocol.Sampler)


@pytest.mark.parametrize("questions, responses, said", [
    (["a"], ["b", "c"], "1 questions and 2 responses; expected as many"),
    ("a", ["b"], "questions is the text 'a'; expected a list"), (["a"], "b", "responses is the text 'b'"),
    (["a", " \n"], ["b", "c"], r"questions\[1\] is empty"),
    (["a", None], ["b", "c"], r"questions\[1\] is 'None', a NoneType; expected a text"),
    (["a"], [5], r"responses\[0\] is '5', a int"), ([b"a"], ["b"], r"questions\[0\] is .*, a bytes"),
    (["a"], ["b" * 3000], r"prompt 0 has 3,?\d+ tokens, .* context of 512"),
])
def test_pairs_that_are_none_are_refused_by_name(judge, questions, responses, said):
    with pytest.raises(ValueError, match=said):
        judge.score(questions, responses)


def test_what_cannot_be_loaded_is_refused_by_name(judge, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"1\.7B: no such folder \(looked for in .*'miniature'.*hf download"):
        Judge.load("Qwen/Qwen3-1.7B")
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file; expected a folder in Hugging"):
        Judge.load(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "miniature").mkdir()
    with pytest.raises(FileNotFoundError):
        Judge.load("./miniature")  # a folder; the name alone is what ships
    assert Judge.load("miniature").name == "miniature"
    for make in (lambda: Judge.load("miniature", votes=0), lambda: judge.replace(votes=0),
                 lambda: Judge.endpoint("http://x", "m", votes=0)):
        with pytest.raises(ValueError, match="votes=0: expected at least 1"):
            make()
    with pytest.raises(ValueError, match="the nearest is 'libra'"):
        Judge.load("miniature", template="lbra")
    with pytest.raises(ValueError, match="model is empty"):
        Judge.endpoint("http://127.0.0.1:1", "")
    with pytest.raises(ValueError, match="NO_SUCH_KEY is not set"):
        Judge.endpoint("http://127.0.0.1:1", "m", api_key_env="NO_SUCH_KEY")
    with pytest.raises(ValueError, match="responses is empty"):
        judge.rank("a", [])


def test_a_notebook_sees_thought_and_verdict_and_no_markup_of_the_models():
    evil = "</details><script>alert(1)</script>&"
    each = Scored(question=evil, response=evil * 1000, votes=(
        vote("unparsed", thought=evil), vote("incorrect", thought=f"{evil} here", sample=1, score=0.25)))
    shown_html = each._repr_html_()
    tags, texts = [], []
    reader = html.parser.HTMLParser()
    reader.handle_starttag = lambda tag, attrs: tags.append((tag, dict(attrs)))
    reader.handle_data = texts.append
    reader.feed(shown_html)
    assert {tag for tag, _ in tags} == {"div", "b", "details", "summary"}
    assert [("open" in attrs) for tag, attrs in tags if tag == "details"] == [False, False, False, True]
    text = "".join(texts)
    assert f"{evil} here" in text and "vote 1: incorrect, P(correct) 0.25, 3 tokens" in text
    assert f"... ({len(evil) * 1000:,} characters)" in text and len(shown_html) < 3 * shown.LONGEST


def test_reprs_are_short(judge, scored):
    assert repr(judge) == "Judge('miniature', ModelJudge)"
    each = Scored(question="q" * 1000, response="r", votes=(vote("correct"),))
    assert repr(each) == (f"Scored(score=1.0, verdict='correct', votes=1, num_tokens=3, question='{'q' * 40}'..., "
                          "response='r')")


def test_a_template_lies_beside_its_checkpoint(tmp_path):
    assert prompt.template_of(tmp_path) == prompt.TEMPLATES["libra"]
    mine = dataclasses.replace(prompt.TEMPLATES["libra"], judge="{question}|{response}")
    prompt.save_template(tmp_path, mine)
    assert isinstance(mine, Template) and prompt.template_of(tmp_path) == mine
    assert prompt.template_of(tmp_path, "miniature") == prompt.TEMPLATES["miniature"]
    file = tmp_path / prompt.NOTE
    for broken in ("{", "[]", '{"prompt": {"judge": "x"}}',
                   '{"prompt": {"judge": "{question}", "solve": "{question}"}}'):
        file.write_text(broken)
        with pytest.raises(ValueError, match=r"libra\.json: no prompt in it"):
            prompt.template_of(tmp_path)


def test_an_endpoint_needs_no_jax():
    code = ("import sys; from libra_jax import Judge; Judge.endpoint('http://127.0.0.1:1', 'm'); "
            "print(sorted({'jax', 'numpy', 'flax', 'tensorflow'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=pathlib.Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"


def test_a_pairs_seed_is_its_texts():
    assert stable_id(pair_example("a", "b").id) == stable_id('["a", "b"]')
