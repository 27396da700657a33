"""The report: one offline page whose text is inert, and the same numbers as JSON."""

import base64
import html.parser
import json
import re

import pytest

from libra_jax.bench import report
from libra_jax.bench.significance import Bootstrap
from libra_jax.records import Judgement, JudgingExample

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>{body}{title}$x^2$"


def examples(count=8, text="r"):
    return [JudgingExample(id=f"{n}", problem_id=f"{n // 2}", question=text, response=text, correct=n % 2 == 0,
                           policy=text, source=f"s{n % 3}") for n in range(count)]


def judge(name, verdicts, text="t"):
    return [Judgement(example_id=f"{n}", judge=name, sample=0, thought=text, verdict=verdict, num_tokens=5)
            for n, verdict in enumerate(verdicts)]


GOOD = ["correct", "incorrect"] * 4
FEW = Bootstrap(num_resamples=50)


class Tags(html.parser.HTMLParser):
    """Collects start tags, and every attribute that could load or run something."""

    def __init__(self):
        super().__init__()
        self.names, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") or name.startswith("on")]


def test_text_of_models_cannot_run_or_load_anything(tmp_path):
    report.write(tmp_path, title=EVIL, examples=examples(text=EVIL), judgements_by_judge={EVIL: judge("j", GOOD, EVIL)},
                 curves={f"{EVIL}/{EVIL}": [(0, 1.0), (1, 2.0)]}, tables=[(EVIL, (EVIL,), [(EVIL,)])], bootstrap=FEW)
    page = (tmp_path / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.names and page.count("&lt;script&gt;") > 20
    assert len(tags.links) == 2 and all(link.startswith("data:image/svg+xml;base64,") for link in tags.links)
    assert "default-src 'none'" in page and not re.search(r"https?://", page)
    images = [base64.b64decode(link.partition(",")[2]).decode() for link in tags.links]
    assert all("<svg" in image and "<script" not in image for image in images)
    assert page.count("<h1>") == 1  # a title that names the page's own blanks does not fill them


def test_the_page_shows_judges_groups_examples_and_curves(tmp_path):
    half = ["correct", "unparsed"] * 4
    numbers = report.write(tmp_path / "deep" / "page.html", title="T", examples=examples(),
                           judgements_by_judge={"base": judge("base", half, "hm"), "sft": judge("sft", GOOD, "aha")},
                           curves={"sft/loss": [(1, 2.0), (2, float("nan"))]},
                           tables=[("Policy", ("when", "accuracy"), [("before", 0.25), ("after", None)])],
                           bootstrap=FEW)
    page = (tmp_path / "deep" / "page.html").read_text()
    for text in ("base", "sft", "s2", "hm", "aha", "Policy", "0.250", "unparsed", "0.500 [", "Training: sft",
                 "Differences, paired", "higher"):
        assert text in page, text
    assert page.count("<details>") == 8
    assert json.loads((tmp_path / "deep" / "page.json").read_text()) == numbers
    by_name = {each["judge"]: each for each in numbers["judges"]}
    assert by_name["base"]["metrics"]["accuracy"]["value"] == 0.5 and by_name["sft"]["metrics"]["accuracy"]["high"] == 1
    assert numbers["differences"][0]["first"] == "base" and numbers["differences"][0]["value"] == 0.5
    assert numbers["curves"]["sft/loss"] == [[1, 2.0], [2, None]]


def test_equal_input_gives_equal_bytes(tmp_path):
    for folder in ("a", "b"):
        report.write(tmp_path / folder, title="T", examples=examples(), judgements_by_judge={"j": judge("j", GOOD)},
                     curves={"loss": [(0, 1.0)]}, bootstrap=FEW)
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()


def test_no_judge_leaves_the_tables(tmp_path):
    numbers = report.write(tmp_path, title="T", examples=[], judgements_by_judge={}, tables=[("A", ("b",), [(1,)])])
    assert numbers["judges"] == [] and "<h2>A</h2>" in (tmp_path / "report.html").read_text()


def test_what_cannot_be_scored_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="no judgement"):
        report.write(tmp_path, title="T", examples=examples(), judgements_by_judge={"j": judge("j", GOOD[:3])})
    assert list(tmp_path.iterdir()) == []


def test_long_text_is_cut_and_says_so(tmp_path):
    report.write(tmp_path, title="T", examples=examples(), bootstrap=FEW,
                 judgements_by_judge={"j": judge("j", GOOD, "x" * (report.LONGEST + 1500))})
    page = (tmp_path / "report.html").read_text()
    assert "[... 1,500 more characters]" in page and "x" * (report.LONGEST + 1) not in page


def test_the_text_table_is_aligned():
    table = report.Table(title="T", header=("judge", "accuracy"), rows=(("a", 0.5), ("longer", None)))
    assert report.to_text(table).splitlines() == ["T", "judge   accuracy", "a       0.500", "longer  -"]
