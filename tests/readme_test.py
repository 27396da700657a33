"""What README.md, docs/ and configs/ promise beside their commands and links, which tests/docs looks at."""

import importlib
import json
import pathlib
import re

import pytest

from libra_jax import config as configs
from libra_jax.stages import cli

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_gives_its_stage_a_config_and_says_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    (command,) = re.findall(r"^    libra (.*(?<!\\)(?:\\\n.*)*)$", text, re.MULTILINE)
    words = command.split()
    stage = importlib.import_module(f"libra_jax.stages.{words[0]}")
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


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_and_defines_nothing(path, capsys):
    cells = [("".join(cell["source"]), cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    names = {"__name__": "__main__"}
    for source, cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and not re.search(r"^\s*(def|class) ", source, re.MULTILINE)
            exec(compile(source.replace("NUM_PROBLEMS = 100", "NUM_PROBLEMS = 9"), path.name, "exec"), names)
    printed = capsys.readouterr().out
    assert "mean of sources" in printed and "thinking minus no thought" in printed
