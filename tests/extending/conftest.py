"""The code that CONTRIBUTING.md shows, so that what it says is what is tested; and a package that holds it."""

import pathlib
import re
import tomllib

import pytest

from libra_jax.model import families

PAGE = pathlib.Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def shown():
    """The one block of a language under a heading of the page."""
    def block(heading: str, language: str = "python") -> str:
        section = PAGE.read_text(encoding="utf-8").partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
        (code,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        return code

    return block


@pytest.fixture
def lab(tmp_path, monkeypatch, shown):
    """An installed package `lab` with what the page shows, and its entry points."""
    parts = [shown(heading) for heading in ("A criterion", "A judge", "A model family")]
    (tmp_path / "lab.py").write_text("\n\n".join(parts))
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    points = tomllib.loads(shown("In a package of yours", "toml"))["project"]["entry-points"]
    (info / "entry_points.txt").write_text("".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in each.items())
        for group, each in points.items()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    families._of_entry_point.cache_clear()
    yield points
    families._of_entry_point.cache_clear()
