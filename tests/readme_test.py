"""What README.md, docs/ and configs/ tell people to type, and the files that they point to, exist."""

import importlib
import pathlib
import re
import shlex

import pytest

from libra_jax import config as configs
from libra_jax.stages import cli, compare

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
STAGE_FLAGS = ("--workdir", "--debug", "--help")


def commands(text: str) -> list[list[str]]:
    """Every `libra STAGE ...` of a text, on a line of its own or after --, as words; continued lines are joined."""
    text = text.replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("libra ")]
    return [words for words in found if words[1:2] and words[1] not in ("--help", "STAGE")]


def check(words: list[str]) -> None:
    """The stage exists and takes these flags; AssertionError or ConfigError otherwise."""
    if words[1:3] == ["bench", "compare"]:
        words = ["libra", "compare", *compare.flags(words[3:])]
    stage = words[1 + (words[1] == "--distributed")]
    assert stage in cli.stages(), words
    default = importlib.import_module(f"libra_jax.stages.{stage}").Config()
    flags = [f"--config={ROOT / word.partition('=')[2]}" if word.startswith("--config=") else word
             for word in words[2 + (words[1] == "--distributed"):]]
    _, rest = configs.parse(flags, default)
    assert all(word.split("=")[0] in STAGE_FLAGS for word in rest), (words, rest)


def test_every_command_of_every_page_is_understood():
    found = [words for page in [*PAGES, *CONFIGS] for words in commands(page.read_text(encoding="utf-8"))]
    assert len(found) > 5
    for words in found:
        check(words)


def test_stages_describe_commands_that_they_understand():
    for stage in cli.stages():
        for words in commands((ROOT / f"libra_jax/stages/{stage}.py").read_text(encoding="utf-8")):
            check(words)


def test_a_wrong_command_is_noticed():
    with pytest.raises(configs.ConfigError, match="judgements"):
        check(shlex.split("libra bench --workdir=x --config.judgments=y"))
    with pytest.raises(AssertionError):
        check(shlex.split("libra bnch --workdir=x"))
    with pytest.raises(AssertionError):
        check(shlex.split("libra bench --wrokdir=x"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:libra_jax|configs|launch|docs|notebooks|tests)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_gives_its_stage_a_config_and_says_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    (words,) = commands(text)
    stage = importlib.import_module(f"libra_jax.stages.{words[1]}")
    assert isinstance(configs.load(str(path), stage.Config), stage.Config)
    assert f"--config=configs/{path.name}" in words
    for needed in ("Hardware:", "Time and score:"):
        assert needed in text


def test_the_two_commands_are_there_and_ci_runs_the_second():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("launch/local.sh demo", "launch/local.sh test"):
        assert re.search(rf"^    {command}\b", readme, re.MULTILINE), command
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == "launch/local.sh test"


def test_the_plans_of_the_shipped_configs_are_shown_and_fit():
    from libra_jax.stages import plan

    sections = (ROOT / "docs/plans.md").read_text(encoding="utf-8").split("\n## ")[1:]
    shown = {section.partition("\n")[0]: section for section in sections}
    for size, topologies in (("32b", ("v5p:4x4x4", "v6e:8x8")), ("8b", ("v5p:4x4x4", "v6e:8x8", "v5e:8x8")),
                             ("1p7b", ("v5p:4x4x4", "v6e:8x8"))):
        config = configs.load(str(ROOT / f"configs/libra_rm_{size}.py"), plan.Config)
        for topology in topologies:
            section = shown[f"libra_rm_{size} on {topology}"]
            assert section.count("| yes |") == len(config.programs) and "**no**" not in section
            assert f"**{config.model}**" in section and f"on **{topology}**" in section
            found = re.findall(r"^\| (\w+) \|", section, re.MULTILINE)
            assert found == [*config.programs] * 2
    assert "| decode |" in section


def test_every_stage_is_in_the_guide():
    guide = (ROOT / "docs/stages.md").read_text(encoding="utf-8")
    for stage in cli.stages():
        assert f"`{stage}`" in guide, stage
