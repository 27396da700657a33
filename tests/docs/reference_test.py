"""docs/reference.md is what launch/reference.py makes of the code, and holds every field of every stage."""

import dataclasses
import importlib

import pytest
from pages import ROOT

from libra_jax import config as configs
from libra_jax.stages import cli


@pytest.fixture(scope="module")
def reference():
    return configs.execute(str(ROOT / "launch/reference.py"), "--config")


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs/reference.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date(reference, page):
    assert page == reference.text(), "run python launch/reference.py"


def test_every_field_is_there_with_its_default(page):
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    for stage in cli.stages():
        config = importlib.import_module(f"libra_jax.stages.{stage}").Config()
        for field in dataclasses.fields(config):
            (row,) = (line for line in sections[stage].split("\n") if line.startswith(f"| `{field.name}` |"))
            value = getattr(config, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert f"| `{value}` |" in row
    groups = dict(part.split("\n", 1) for part in sections["Groups"].split("\n### ")[1:])
    assert "| `num_steps` | whole number | `100` | steps of the loop. |" in groups["TrainConfig"]


def test_no_two_sections_have_one_name(page):
    titles = [line for line in page.split("\n") if line.startswith("#")]
    assert len(titles) == len(set(titles))


def test_explanations_are_of_the_fields_alone(reference):
    @dataclasses.dataclass
    class Config:
        """Attributes:
        a: of b: and
          more. c, d: both; not: this.
        """

        a: int = 0
        b: int = 0
        c: int = 0
        d: int = 0

    said = reference.explanations(Config)
    assert said["a"].split() == ["of", "b:", "and", "more."] and said["c"] == said["d"] == "both; not: this."
    assert "b" not in said


def test_what_a_stage_sets_in_a_group_is_told(page):
    assert "| `sampling` | [SamplingConfig](#samplingconfig) | with `max_new_tokens=1024`, `num_samples=4` |" in page
