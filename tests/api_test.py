"""The stable surface: its names and signatures do not change unseen, and `import libra_jax` costs next to nothing."""

import dataclasses
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import libra_jax
from libra_jax.judges import trainers

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = "votes=1, template='{}', {}probability=False, max_new_tokens={}, temperature=1.0, "
SURFACE = {
    "Decision": "(*, correct, extracted, why)",
    "Estimate": "(*, value, low=None, high=None)",
    "Evaluation": "(*, judge, num_examples, num_problems, num_judgements, metrics, by_source, by_policy, confusion, "
                  "reliability, mean_tokens)",
    "Judge": "(*, backend)",
    "Judgement": "(*, example_id, judge, sample, thought, verdict, num_tokens, score=None)",
    "JudgingExample": "(*, id, problem_id, question, response, correct, policy, source)",
    "PreferencePair": "(*, problem_id, question, chosen, rejected, chosen_score, rejected_score)",
    "Problem": "(*, id, source, question, answer=None, level=None, subject=None)",
    "Ranking": "(*, scored)",
    "Rollout": "(*, problem_id, policy, sample, text, num_tokens, finish)",
    "Scored": "(*, question, response, votes)",
    "Template": "(*, judge, solve, system='', think_open='<think>', think_close='</think>', "
                "verdict_format='Verdict: {verdict}', thought_gap='\\n', verdict_gap='\\n\\n', rank='', "
                "rank_response='# Response {letter}\\n{fence}\\n{response}\\n{fence}\\n\\n')",
    "VerifiedRollout": "(*, problem_id, policy, sample, text, num_tokens, finish, correct, decided_by, why)",
    "evaluate": "(judge, examples, judgements, config=Bootstrap(num_resamples=2000, level=0.95, seed=0))",
    "read_records": "(path, cls, *, rejected=None, aside=None)",
    "verify_answer": "(response, reference)",
    "write_records": "(path, records)",
}
METHODS = {
    "Judge.best_of": "(self, question, responses, *, progress=False)",
    "Judge.endpoint": "(url, model, *, " + SETTINGS.format("libra", "", 4096) + "top_p=1.0, seed=0, name='', "
                      "api_key_env='', concurrency=16, timeout=600.0, retries=6, extra=None)",
    "Judge.judge": "(self, examples, *, skip=0)",
    "Judge.load": "(path, *, " + SETTINGS.format("", "thinking=True, ", 0) + "top_k=0, top_p=1.0, seed=0, "
                  "batch_size=64, name='', compute_dtype='float32', mesh=None, devices=None)",
    "Judge.name": "property",
    "Judge.rank": "(self, question, responses, *, progress=False)",
    "Judge.replace": "(self, *, votes=None, temperature=None, max_new_tokens=None, seed=None)",
    "Judge.score": "(self, questions, responses, *, progress=False)",
    "Judge.scores": "(self, pairs)",
    "Ranking.best": "property",
    "Ranking.order": "property",
    "Scored.num_tokens": "property",
    "Scored.score": "property",
    "Scored.thought": "property",
    "Scored.verdict": "property",
}
TRAINERS = {
    "from_checkpoint": "(path, *, votes=1, template='', question='', unparsed=None, **how)",
    "from_url": "(url, *, votes=1, token_env='', question='', unparsed=None, timeout=600.0, retries=8)",
}


def signature(what) -> str:
    """Names, kinds and defaults; annotations are the type checker's."""
    if isinstance(what, property):
        return "property"
    found = inspect.signature(what)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def test_the_surface_is_what_is_written_here():
    """A change here belongs into CHANGELOG.md."""
    assert libra_jax.__all__ == sorted([*SURFACE, "__version__"])
    assert {name: signature(getattr(libra_jax, name)) for name in SURFACE} == SURFACE
    found = {}
    for name in ("Judge", "Ranking", "Scored"):
        cls = getattr(libra_jax, name)
        fields = {field.name for field in dataclasses.fields(cls)}
        found |= {f"{name}.{each}": signature(inspect.getattr_static(cls, each) if isinstance(
            inspect.getattr_static(cls, each), property) else getattr(cls, each))
            for each in vars(cls) if not each.startswith("_") and each not in fields}
    assert found == METHODS
    assert {name: signature(getattr(trainers, name)) for name in TRAINERS} == TRAINERS


def test_every_name_is_there_for_type_checkers_and_says_what_it_does():
    checked = (ROOT / "libra_jax/__init__.py").read_text(encoding="utf-8").partition("if TYPE_CHECKING")[2]
    for name in SURFACE:
        assert re.search(rf"import .*\b{name}\b", checked), name
        assert getattr(libra_jax, name).__doc__ and name in dir(libra_jax)
    assert libra_jax.read_records is importlib.import_module("libra_jax.records").read
    assert libra_jax.write_records is importlib.import_module("libra_jax.records").write
    with pytest.raises(AttributeError, match=r"no attribute 'Juge'; it offers Decision, .*Judge"):
        _ = libra_jax.Juge


@pytest.mark.parametrize("what, without", [
    ("", {"jax", "numpy", "absl"}), ("libra_jax.Judge; libra_jax.Template", {"jax", "numpy"}),
    ("libra_jax.Problem; libra_jax.read_records; libra_jax.verify_answer(r'\\boxed{5}', '5')", {"jax", "numpy"}),
    ("libra_jax.evaluate", {"jax", "matplotlib"}),
])
def test_what_is_not_used_is_not_loaded(what, without):
    code = f"import sys, libra_jax; {what}\nprint(sorted({without!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_version_is_in_one_place_and_the_newest_of_the_changelog():
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", log, re.MULTILINE)
    assert released[0] == libra_jax.__version__ and "\n## [Unreleased]\n" in log
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout.split()[-1] == libra_jax.__version__


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "libra_jax/py.typed").exists()
    assert 'package_data={"libra_jax": ["py.typed"]' in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_the_pages_blocks_print_what_the_page_shows(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", page, re.DOTALL)
    assert len(blocks) > 5 and sum(bool(shown) for _, shown in blocks) > 4
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for code, shown in blocks:
        exec(compile(code, "docs/api.md", "exec"), names)
        assert capsys.readouterr().out == shown, code


def test_the_page_names_the_whole_surface():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    for name in [*libra_jax.__all__, *(name.partition(".")[2] for name in METHODS), *TRAINERS]:
        assert re.search(rf"`[^`\n]*\b{name}\b", page), name
