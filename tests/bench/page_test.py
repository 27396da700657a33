"""The page in a real browser: filters and search work, nothing of the text runs, it fits a phone."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import image

from libra_jax.bench import page, report
from libra_jax.bench.significance import Bootstrap
from libra_jax.bench.tables import Table
from libra_jax.records import Judgement, JudgingExample

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
FEW = Bootstrap(num_resamples=20)
OWN = "document.title = 'owned'"
EVIL = (f"</script><script>{OWN}</script><img src=x onerror=\"{OWN}\"></div></details><svg onload=\"{OWN}\">"
        f"<a href=\"javascript:{OWN}\">x</a>' onmouseover='{OWN}' \" autofocus onfocus=\"{OWN}\" x=\" <!-- ]]> "
        f"<style>body {{ display: none }}</style><iframe srcdoc=\"<script>top.{OWN}</script>\"></iframe> $<b>$ "
        "$$</math>$$")


@pytest.fixture
def written(tmp_path):
    """Six examples of two sources, judged by a good and a bad judge."""

    def write(text="r", title="T", **kwargs):
        examples = [JudgingExample(id=f"e{n}", problem_id=f"{n // 2}", question=text, response=f"{text} number{n}",
                                   correct=n % 2 == 0, policy=text, source=f"{text}{n % 2}") for n in range(6)]
        judged = {f"{text}{name}": [
            Judgement(example_id=f"e{n}", judge=name, sample=0, thought=text, num_tokens=5, score=0.5,
                      verdict=("correct", "incorrect")[(n + wrong(n)) % 2]) for n in range(6)]
            for name, wrong in (("good", lambda n: 0), ("bad", lambda n: n > 1))}
        report.write(tmp_path, title=title, examples=examples, judgements_by_judge=judged, bootstrap=FEW, **kwargs)
        return tmp_path / "report.html"

    return write


def in_browser(file, tmp_path, *flags):
    """What the browser prints; its own folder, so that no other browser is disturbed."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--user-data-dir={tmp_path / 'profile'}", *flags, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def with_script(file, script):
    """A copy of the page with one more script at its end, which the policy of the copy allows."""
    text = file.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    copy = file.with_name("driven.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


def after(file, tmp_path, script):
    """The attribute data-found of the page's root after a script that sets it."""
    dom = in_browser(with_script(file, script), tmp_path, "--dump-dom")
    return re.search(r'<html[^>]* data-found="([^"]*)"', dom)[1]


CHOICES = [
    ({}, "e0 e1 e2 e3 e4 e5"),
    ({"label": "correct"}, "e0 e2 e4"),
    ({"source": "1"}, "e1 e3 e5"),
    ({"judge": "1", "verdict": "correct"}, "e0 e3 e5"),
    ({"verdict": "unparsed"}, ""),
    ({"judge": "1", "agreement": "right"}, "e0 e1"),
    ({"agreement": "wrong", "label": "incorrect"}, "e3 e5"),
    ({"agreement": "split"}, "e2 e3 e4 e5"),
    ({"search": "NUMBER3"}, "e3"),
    ({"search": "number4 question"}, "e4"),
]


@needs_browser
def test_filters_and_search(written, tmp_path):
    found = after(written(), tmp_path, f"""
        const said = {json.dumps([choices for choices, _ in CHOICES])}.map(choices => {{
          for (const [name, value] of Object.entries({{search: "", judge: "", ...choices}}))
            form.elements[name].value = value;
          form.dispatchEvent(new Event("input"));
          const left = cards.filter(card => !card.hidden).map(card => card.querySelector("code").textContent);
          for (const field of form.querySelectorAll("select, input")) field.value = "";
          return left.sort().join(" ") + ": " + form.querySelector("output").textContent;
        }});
        document.documentElement.dataset.found = said.join("; ");""")
    assert found.split("; ") == [f"{left}: {len(left.split())} of 6" for _, left in CHOICES]


@needs_browser
def test_no_text_runs_or_breaks_the_page(written, tmp_path):
    file = written(EVIL, title=EVIL, tables=[(EVIL, (EVIL,), [(EVIL,)])], curves={f"{EVIL}/a": [(0, 1.0), (1, 2.0)]})
    found = after(file, tmp_path, """
        document.title = document.title.includes("owned'") ? "kept" : document.title;
        document.querySelectorAll(".example").forEach(card => { card.open = true; });
        const all = [...document.querySelectorAll("*")];
        document.documentElement.dataset.found = [
          document.title, document.querySelectorAll("script").length,
          document.querySelectorAll("iframe, svg[onload], img:not([src^=data]), a:not([href^='#'])").length,
          all.filter(e => [...e.attributes].some(a => a.name.startsWith("on") || a.name === "autofocus")).length,
          document.querySelectorAll("#cards > .example").length,
          getComputedStyle(document.body).display].join(" ");""")
    assert found == "kept 2 0 0 6 block"


@needs_browser
def test_even_a_hole_in_the_escaping_runs_nothing(written, tmp_path):
    file = written()
    holed = file.with_name("holed.html")
    holed.write_text(file.read_text().replace('<div id="cards">', EVIL, 1))
    assert "<title>T</title>" in in_browser(holed, tmp_path, "--dump-dom")
    holed.write_text(re.sub("<meta http-equiv.*?>", "", holed.read_text(), count=1))  # without the policy it would run
    assert "<title>owned</title>" in in_browser(holed, tmp_path, "--dump-dom")


@needs_browser
@pytest.mark.parametrize("width", [500, 1200])  # the narrowest window that a headless Chromium makes
def test_it_fits_the_screen_and_is_painted(written, tmp_path, width):
    file = written("a $\\frac{1}{2}$ " * 40)
    script = ('document.querySelectorAll("details").forEach(each => { each.open = true; });'
              "document.documentElement.dataset.found = document.documentElement.scrollWidth - innerWidth;")
    copy = with_script(file, script)
    found = in_browser(copy, tmp_path, "--dump-dom", f"--window-size={width},900")
    assert int(re.search(r'data-found="(-?\d+)"', found)[1]) <= 0
    in_browser(copy, tmp_path, f"--screenshot={tmp_path / 'page.png'}", f"--window-size={width},900")
    pixels = image.imread(tmp_path / "page.png")
    assert pixels.shape[:2] == (900, width) and len(np.unique(pixels[::3, ::3, 0])) > 50


class Tags(html.parser.HTMLParser):
    """Counts tags, which must close in order."""

    def __init__(self):
        super().__init__()
        self.names, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_its_policy_names_its_script(written):
    text = written(EVIL).read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and tags.names.count("script") == 1 and "iframe" not in tags.names
    digest = base64.b64encode(hashlib.sha256(page.SCRIPT.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in text and "default-src 'none'" in text
    assert f"<script>{page.SCRIPT}</script>" in text and "</" not in page.SCRIPT


def test_headings_make_the_navigation():
    text = page.assemble("T & U", [("", "<p>start</p>"), ("A <b>", "1"), ("A <b>", "2")])
    assert '<a href="#a-b-0">A &lt;b&gt;</a><a href="#a-b-1">' in text and '<h2 id="a-b-1">A &lt;b&gt;</h2>' in text
    assert "<title>T &amp; U</title>" in text and "<nav></nav>" not in page.assemble("T", [("", "x")])


def test_a_table_is_escaped_and_its_title_can_be_left_out():
    made = Table(title="<t>", header=("<h>",), rows=((0.5,), (None,), ("<c>",)), note="<n>")
    shown = page.table(made)
    assert "&lt;t&gt;" in shown and "<th>&lt;h&gt;</th>" in shown and "<td>0.500</td>" in shown
    assert "<td>-</td>" in shown and "&lt;n&gt;" in shown and "&lt;t&gt;" not in page.table(made, heading=False)


class Frames(html.parser.HTMLParser):
    """The attributes of the frames of a text."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "iframe":
            self.found.append(dict(attrs))


def test_a_framed_page_is_whole_and_kept_apart(written):
    file = written(EVIL)
    (frame,) = Frames(page.framed(file, height=300)).found
    assert frame["srcdoc"] == file.read_text(encoding="utf-8")
    assert frame["sandbox"] == "allow-scripts" and frame["height"] == "300"


@needs_browser
def test_a_framed_page_filters_and_cannot_reach_what_is_around_it(written, tmp_path):
    around = tmp_path / "around.html"
    file = written("r")
    copy = with_script(file, "try { top.document.title = 'owned' } catch (error) {}")
    around.write_text(f"<title>mine</title>{page.framed(file if copy is None else copy)}", encoding="utf-8")
    assert "<title>mine</title>" in in_browser(around, tmp_path, "--dump-dom")
    open_to_all = around.read_text(encoding="utf-8").replace(' sandbox="allow-scripts"', "")
    around.write_text(open_to_all, encoding="utf-8")
    assert "<title>owned</title>" in in_browser(around, tmp_path, "--dump-dom")  # the script would have
