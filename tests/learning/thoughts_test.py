"""Pages of thoughts: all is there, nothing of a text runs, and none grows without end."""

import html.parser
import shutil
import subprocess

import pytest

from libra_jax.learning import thoughts
from libra_jax.records import JudgingExample

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OWN = "document.title = 'owned'"
EVIL = (f"</script><script>{OWN}</script><img src=x onerror=\"{OWN}\"></div></details></think> <|im_end|> "
        f"<svg onload=\"{OWN}\">' onmouseover='{OWN}' <style>body {{ display: none }}</style>")
FORMULA = f" $$</math><b><script>{OWN}</script>$$"


def example(text="q", correct=True):
    return JudgingExample(id=f"id {text}", problem_id="p", question=f"question {text}", response=f"response {text}",
                          correct=correct, policy=f"policy {text}", source=f"source {text}")


def said(text="t", verdict="correct", **changes):
    return thoughts.Said(**{"thought": text, "verdict": verdict, "num_tokens": 1234, "finish": "stop", "reward": 0.5,
                            "advantage": 1.25} | changes)


def write(folder, cards, **changes):
    beside = {"before": 10, "after": [30], "num_groups": 7} | changes
    return thoughts.write(folder, "rl, step 20 of 40", 20, cards, **beside)


class Reader(html.parser.HTMLParser):
    """The elements of a page, and its words."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_has_what_is_needed_to_follow_the_training(tmp_path):
    path = write(tmp_path, [(example(), [said("right thought"), said("wrong thought", "incorrect", reward=-0.25,
                                                                     advantage=-1.0, finish="length")])])
    page = Reader(path.read_text())
    words = " ".join(page.words)
    for wanted in ("rl, step 20 of 40", "1 of the 7 groups", "question q", "response q", "label: correct",
                   "✓ correct", "✗ incorrect", "right thought", "reward 0.500, advantage +1.250, 1,234 tokens",
                   "reward -0.250, advantage -1.000, 1,234 tokens, cut off"):
        assert wanted in words, wanted
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert path.name == "step-000020.html" and links == ["step-000010.html", "step-000030.html"]
    first = write(tmp_path, [], before=None, after=[])
    assert "href" not in first.read_text()


def test_a_page_is_of_bounded_size_and_says_what_it_leaves_out(tmp_path):
    long = "start " + "x" * 1_000_000 + " end"
    text = write(tmp_path, [(example(long), [said(long)] * 50)]).read_text()
    assert "[... 994,010 characters ...]" in text and "start " in text and " end" in text
    assert "and 42 more samples" in text
    assert len(text) < (thoughts.MOST_SAMPLES + 4) * (thoughts.LONGEST + 1_000) + 20_000


def test_no_text_becomes_an_element(tmp_path):
    plain = Reader(write(tmp_path, [(example("q"), [said("t")])]).read_text())
    evil = Reader(write(tmp_path, [(example(EVIL), [said(EVIL)])]).read_text())
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert not [attributes for _, attributes in evil.tags if any(name.startswith("on") for name in attributes)]
    assert "".join(evil.words).count("</script><script>") == 6  # id, source, policy, question, response, thought


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_nothing_of_a_text_runs_in_a_browser(tmp_path):
    path = write(tmp_path, [(example(EVIL), [said(EVIL + FORMULA)])])
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
               "--dump-dom", path.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>rl, step 20 of 40</title>" in shown and shown.rstrip().endswith("</html>")
