"""Every command of README.md and docs/ is run or checked, and every block is of one kind; the rule is in pages.py.

| program | on the pages of docs/howto | elsewhere, and where a block says `needs` |
|---|---|---|
| libra | run on the miniature, output compared (howto_test.py) | parsed by its stage, files of --config loaded |
| launch/local.sh | | CI's last line is its `test`; `demo` is tests/stages/demo_test.py; flags parsed |
| launch/pipeline.sh | | --dry_run, and every command that it prints parsed |
| launch/tpu_vm.sh | | --dry_run, and the stage behind -- parsed |
| python FILE | run | the file is there and knows the flags |
| curl | | the service has the route, and the body is JSON |
| pip install, pytest, zensical | | the extras and paths are there; site_test.py builds |
| gcloud, xpk, export | | other people's programs: words alone, on the pages of OTHERS |

Python is parsed, and what it imports of this package is there.
"""

import ast
import importlib
import json
import os
import re
import shlex
import subprocess

import pages
import pytest
from pages import PAGES, ROOT

from libra_jax import config as configs
from libra_jax.serving import service
from libra_jax.stages import cli, compare

STAGE_FLAGS = ("--workdir", "--debug", "--help")
STAGES = cli.stages()
# Why the commands of a page are parsed and not run, where its blocks do not say so themselves.
PARSED = {
    "README.md": "CI runs the two commands", "index.md": "site_test.py builds the site",
    "stages.md": "on published responses, and on a demo's files, for minutes",
    "bench.md": "on published responses and suites", "judges.md": "on your own checkpoint or endpoint",
    "serve.md": "howto/endpoint.md and howto/trainers.md run the service; tests/serving asks it",
    "criteria.md": "on published responses; tests/configs runs the domain's", "audit.md": "on published responses",
    "downstream.md": "on published responses, and on a demo's files, for minutes",
    "mixture.md": "on your own files, and for half an hour", "lora.md": "on a demo's files",
    "sampling.md": "on a demo's files", "paper.md": "for hours; tests/stages/paper_test.py makes small tables",
    "plans.md": "for minutes, with the TPU's compiler", "tpu.md": "on a TPU", "reference.md": "with names for files",
}
FILES = [*sorted((ROOT / "configs").rglob("*.py")), *sorted((ROOT / "libra_jax/stages").glob("*.py"))]
OTHERS = {"gcloud": ("tpu.md",), "xpk": ("tpu.md",), "export": ("plans.md",)}


def check_stage(words):
    """`libra ...`: the stage exists and takes these flags; AssertionError or ConfigError otherwise."""
    words = [words[0], *words[1 + words[1].startswith("--distributed"):]]
    if words[1:] == ["--help"] or words[1] == "STAGE":
        return
    if words[1:3] == ["bench", "compare"]:
        words = ["libra", "compare", *compare.flags(words[3:])]
    assert words[1] in STAGES, words
    default = importlib.import_module(f"libra_jax.stages.{words[1]}").Config()
    _, rest = configs.parse([re.sub("^--config=", f"--config={ROOT}/", word) for word in words[2:]], default)
    assert all(word.split("=")[0] in STAGE_FLAGS for word in rest), (words, rest)
    assert rest[:1] == ["--help"] or any(word.startswith("--workdir=") for word in rest) or words[1] == "compare", words


def printed(words, *more, **environment):
    done = subprocess.run([str(ROOT / words[0]), *words[1:], *more], capture_output=True, text=True, check=False,
                          env=os.environ | environment)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def check_local(words):
    assert words[1] in ("demo", "test"), words
    if words[1] == "demo":
        check_stage(["libra", "demo", "--workdir=runs/demo", *words[2:]])


def check_pipeline(words):
    out = [shlex.split(line) for line in printed(words, "--dry_run", LIBRA="libra").splitlines()]
    assert len(out) >= 8
    for line in out:
        check_stage(line)


def check_tpu_vm(words):
    split = words.index("--") if "--" in words else len(words)
    assert printed([word for word in words[:split] if not word.startswith("--setup=")], "--dry_run", *words[split:])
    if words[1] in ("run", "up"):
        check_stage(["libra", *words[split + 1:]])


def check_python(words):
    file = ROOT / words[1]
    assert file.is_file(), words
    known = set(re.findall(r'(?:DEFINE_\w+\(\s*"|"--)(\w+)"', file.read_text(encoding="utf-8")))
    assert {word[2:].split("=")[0] for word in words[2:] if word.startswith("--")} <= known, (words, known)


def check_pip(words):
    assert words[1] == "install", words
    known = set(re.findall(r'^        "(\w+)": ', (ROOT / "setup.py").read_text(), re.MULTILINE))
    for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
        assert extra in known, (extra, known)


def check_pytest(words):
    assert all((ROOT / word).exists() for word in words[1:] if not word.startswith("-")), words


def check_curl(words):
    path = "/" + next(word for word in words if word.startswith("http")).split("/", 3)[3]
    assert path in service._ROUTES, words
    if "-d" in words:
        json.loads(words[words.index("-d") + 1])


CHECKS = {"libra": check_stage, "launch/local.sh": check_local, "launch/pipeline.sh": check_pipeline,
          "launch/tpu_vm.sh": check_tpu_vm, "python": check_python, "pip": check_pip, "pytest": check_pytest,
          "curl": check_curl, "zensical": lambda words: None}


def check_imports(tree):
    """What a Python block takes from this package is there; it is parsed, and run where a how-to calls it a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "libra_jax":
            for alias in node.names:
                module = importlib.import_module(node.module)
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}"), alias.name


def check(command, page):
    words = [word for word in command.words if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    assert words[0] in CHECKS or page.name in OTHERS[words[0]], f"{page.name}: {words[0]} is in no class"
    CHECKS.get(words[0], lambda words: None)(words)


def test_every_program_is_in_a_class():
    assert set(CHECKS) | set(OTHERS) == set(pages.PROGRAMS)
    called = {command.words[0] for page in PAGES for block in pages.blocks(page) for command in block.commands}
    assert set(pages.PROGRAMS) <= called, "no page calls it any more"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page):
    given = {block.note("file") for block in pages.blocks(page)}
    for block in pages.blocks(page):
        for command in block.commands:
            assert command.words[0] in pages.PROGRAMS or re.match(r"[A-Z_]+=", command.words[0]), (
                f"{block}: {command.words[0]!r} is in no class; a line of output needs `$ ` before the command")
            if command.words[0] != "python" or command.words[1] not in given:
                check(command, page)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_docstrings_tell_to_type_is_understood(file):
    for block in pages.blocks(file, ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""):
        for command in block.commands:
            check(command, file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_one_kind(page):
    inside = {block.line + place for block in pages.blocks(page) for place in range(block.text.count("\n") + 2)}
    for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
        hidden = number not in inside and re.match(r" {4,}(\$ |\S+)", line)
        assert not hidden or hidden[1].strip() not in ("$", *pages.PROGRAMS), f"{page.name}:{number}: within a list"
    for block in pages.blocks(page):
        assert block.note("needs") in ("", *pages.NEEDS), block
        if block.is_python:
            check_imports(ast.parse(block.text))
        elif not block.is_console and not block.note("file"):
            for line in block.text.split("\n"):
                first = line.split(maxsplit=1)[:1]
                assert first not in [[program] for program in pages.PROGRAMS], f"{block}: a command within? {line!r}"
                assert not re.match(r"(\$ |[\w./]+( [^- ]\S*)* --?[a-z]\w*\b(?!->))", line), f"{block}: {line!r}"


def test_every_field_that_prose_names_is_one():
    paths = {path for stage in STAGES
             for path in configs.field_paths(importlib.import_module(f"libra_jax.stages.{stage}").Config())}
    groups = {path.rsplit(".", count)[0] + "." for path in paths for count in range(1, path.count(".") + 1)}
    for page in PAGES:
        for span in pages.inline(page.read_text(encoding="utf-8")):
            for name in re.findall(r"--config\.([a-z][\w.]*)", span):
                assert name in paths or name in groups or name + "." in groups, f"{page.name}: no stage has {name!r}"


def test_every_page_whose_commands_are_not_run_says_why():
    silent = {page.name for page in PAGES if page not in pages.HOWTOS and any(
        block.is_console and not block.note("needs") for block in pages.blocks(page))}
    assert silent == set(PARSED), "PARSED says why; `needs` above a block does too"


def test_the_reader_of_pages():
    text = ("A.\n\n    $ libra judge --workdir=a \\\n      --config.judge=scores\n    out\n    more\n    $ libra x\n\n"
            "<!-- file: a.jsonl -->\n\n    {}\n\n- item\n\n    no block\n\nB\n\n<!-- needs: a TPU -->\n\n"
            "    libra y --a='1\n    2'\n    libra z  # why\n\n```python\nx = 1\n```\n")
    found = pages.blocks(ROOT / "README.md", text)
    assert [block.is_console for block in found] == [True, False, True, False]
    assert [command.shown for command in found[0].commands] == ["out\nmore", ""]
    assert found[0].commands[0].words == ["libra", "judge", "--workdir=a", "--config.judge=scores"]
    assert found[1].note("file") == "a.jsonl" and found[2].note("needs") == "a TPU" and found[3].is_python
    assert [command.words for command in found[2].commands] == [["libra", "y", "--a=1\n2"], ["libra", "z"]]


@pytest.mark.parametrize("text", [
    "libra bench --workdir=x --config.judgments=y", "libra bnch --workdir=x", "libra bench --wrokdir=x", "libra judge",
    "libra sft --workdir=x --config=configs/nothing.py", "launch/local.sh dmeo", "launch/pipeline.sh --checkpoint=x",
    "launch/tpu_vm.sh create --name=a", "launch/tpu_vm.sh run --name=a --zone=b -- sft --workdir=x --config.stps=1",
    "python benchmarks/nothing.py", "python benchmarks/serve.py --clint=3", "pip install 'libra_jax[dta]'",
    "pytest tests/nothing", "curl http://127.0.0.1:8000/scores", "curl http://127.0.0.1:8000/score -d '{'",
    "gcloud auth login", "make all"])
def test_a_wrong_command_is_noticed(text):
    with pytest.raises((configs.ConfigError, AssertionError, ValueError, KeyError)):
        check(pages.Command(text=text), ROOT / "README.md")
