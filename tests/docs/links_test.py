"""Links of README.md and docs/ lead to files and headings, files that prose names exist, the picture is true."""

import dataclasses
import re

import pages
import pytest
from pages import PAGES, ROOT

from libra_jax import records
from libra_jax.stages import cli

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?:libra_jax|configs|launch|docs|notebooks|tests|benchmarks)/[\w./]*")


def prose(text):
    return re.sub(r"^```.*?^```$|^    [^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks/README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(prose(text)):
        path, _, anchor = target.partition("#")
        if "://" in path:
            assert path.startswith("https://"), target
            continue
        there = page.parent / path if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in pages.anchors(there.read_text(encoding="utf-8")), f"{page.name}: {target}"
        if ROOT / "docs" in page.parents:  # the site holds docs/ alone
            assert ROOT / "docs" in there.resolve().parents, f"{page.name}: {path} is not in docs/"
    for span in pages.inline(text):
        if PATH.fullmatch(span):
            assert (ROOT / span).exists(), f"{page.name}: {span}"


def test_every_page_can_be_reached_from_the_readme():
    seen, left = set(), [PAGES[0]]
    while left:
        page = left.pop()
        if page not in seen:
            seen.add(page)
            left += [(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(page.read_text())
                     if re.fullmatch(r"[\w./]+\.md(#.*)?", target)]
    assert set(PAGES) <= seen, set(PAGES) - seen


def test_the_readme_reads_in_three_minutes():
    words = prose((ROOT / "README.md").read_text(encoding="utf-8")).split()
    assert len(words) <= 3 * 230, len(words)


def test_prose_is_what_no_block_holds():
    assert prose("a\n\n    b [c](d)\n\ne\n```\nf\n```\ng").split() == ["a", "e", "g"]
    assert pages.inline("`a\nb`\n\n    `c`\n\n`d`") == ["a b", "d"]


def test_a_wrong_anchor_is_noticed():
    found = pages.anchors("# A `b` of [c](d)\n\n## What's new?\n\n    # no heading\n\n## libra_rm on v5e:8x8\n")
    assert found == {"a-b-of-c", "whats-new", "libra_rm-on-v5e8x8"}


def test_the_picture_names_what_the_code_names():
    picture = (ROOT / "docs/flow.svg").read_text(encoding="utf-8")
    nouns = set(re.findall(r'<text class="name"[^>]*>([^<]+)<', picture)) - {"checkpoint", "report", "your trainer"}
    assert all(dataclasses.is_dataclass(getattr(records, noun)) for noun in nouns) and len(nouns) >= 7
    arrows = set(re.findall(r'<text class="stage"[^>]*>([^<]+)<', picture))
    assert arrows <= set(cli.stages()) and len(arrows) >= 12
    assert "prefers-color-scheme: dark" in picture and not re.search(r"(href|src|url)\W+https?:", picture)


def test_concepts_name_every_stage_and_record():
    page = (ROOT / "docs/concepts.md").read_text(encoding="utf-8")
    for stage in cli.stages():
        assert re.search(rf"^\| [^|]*`{stage}`", page, re.MULTILINE), stage
    for noun in ("Problem", "Rollout", "VerifiedRollout", "HumanLabel", "JudgingExample", "RankingExample", "Judgement",
                 "Score", "PreferencePair"):
        assert f"| `{noun}` |" in page and hasattr(records, noun)
