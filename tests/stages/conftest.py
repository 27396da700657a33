"""A chat-completions server, and a folder of files of all stages."""

import importlib.util
import json
import pathlib
import shutil

import pytest

from libra_jax import records
from libra_jax.records import Judgement, JudgingExample, PreferencePair, Problem, Rollout, VerifiedRollout
from libra_jax.stages import chain, judge

_spec = importlib.util.spec_from_file_location("chat_server", pathlib.Path(__file__).parents[1] / "chat_server.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
chat, server = _module.chat, _module.server


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with a checkpoint, files as the stages make them, some that are broken, and runs/used, of a judge."""
    folder = tmp_path_factory.mktemp("mistakes")
    problems = [Problem(id=str(number), source="sums", question=f"What is {number} + 2 * 3?", answer=str(number + 6))
                for number in range(4)]
    rollouts = [Rollout(problem_id=each.id, policy="p", sample=sample, num_tokens=9, finish="stop",
                        text=f"2 * 3 = 6\n{each.id} + 6 = {int(each.answer) + sample}")
                for each in problems for sample in (0, 1)]
    verified = [VerifiedRollout(**vars(each), correct=each.sample == 0, decided_by="rule", why="") for each in rollouts]
    examples = [JudgingExample(id=f"{each.problem_id}/p/{each.sample}", problem_id=each.problem_id, policy="p",
                               question=problems[int(each.problem_id)].question, response=each.text,
                               correct=each.correct, source="sums") for each in verified]
    unlabelled = [JudgingExample(**vars(each) | {"correct": None}) for each in examples]
    votes = [Judgement(example_id=each.id, judge="a", sample=0, thought="", verdict="correct", num_tokens=2)
             for each in examples]
    others = [Judgement(**vars(each) | {"example_id": f"x{each.example_id}"}) for each in votes]
    kept = [Judgement(**vars(each) | {"verdict": "correct" if example.correct else "incorrect"})
            for each, example in zip(votes, examples, strict=True)]
    pairs = [PreferencePair(problem_id=right.problem_id, question=right.question, chosen=right.response,
                            rejected=wrong.response, chosen_score=1.0, rejected_score=0.0)
             for right, wrong in zip(examples[::2], examples[1::2], strict=True)]
    for name, some in {"problems": problems, "rollouts": rollouts, "verified": verified, "bench": examples,
                       "unlabelled": unlabelled, "judgements": votes, "others": others, "kept": kept,
                       "pairs": pairs}.items():
        records.write(folder / f"{name}.jsonl", some)
    (folder / "empty.jsonl").touch()
    (folder / "photo.jsonl").write_bytes(bytes(range(256)) * 8)
    (folder / "half.jsonl").write_text('{"id": "1", "problem_id": \n{"id"\n')
    (folder / "array.jsonl").write_text(json.dumps([vars(each) for each in examples]) + "\n")
    (folder / "notes").mkdir()
    (folder / "notes/readme.txt").write_text("x")
    checkpoints(folder)
    (folder / "broken.py").write_text("def get_config(:\n")
    (folder / "nothing.py").write_text("x = 1\n")
    (folder / "rl.py").write_text("from libra_jax.stages import rl\n\n\ndef get_config():\n    return rl.Config()\n")
    judge.run(judge.Config(examples=str(folder / "bench.jsonl"), judge="always_correct"), folder / "runs/used")
    return folder


def checkpoints(folder):
    """model, which is whole, and others that are not."""
    for name in ("model", "tokenless", "cut", "torn", "wordy", "mute"):
        shutil.copytree(chain.CHECKPOINT, folder / name)
    (folder / "tokenless/tokenizer.json").unlink()
    weights = folder / "cut/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    (folder / "torn/tokenizer.json").write_text('{"version": ')
    words = json.loads((folder / "wordy/tokenizer.json").read_text())
    words["added_tokens"] += [words["added_tokens"][0] | {"id": 310 + number, "content": f"<extra {number}>"}
                              for number in range(20)]
    (folder / "wordy/tokenizer.json").write_text(json.dumps(words))
    words = folder / "mute/tokenizer.json"
    words.write_text(words.read_text().replace("<|im_start|>", "<|begin|>").replace("<|im_end|>", "<|end|>"))
    about = folder / "mute/tokenizer_config.json"
    about.write_text(about.read_text().replace("<|im_end|>", "<|end|>"))
