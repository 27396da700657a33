"""The report: whatever texts, names and labels hold, the page is the page of harmless ones with other letters."""

import html.parser
import itertools
import json
import re

from libra_jax.bench import report
from libra_jax.bench.significance import Bootstrap
from libra_jax.records import Judgement, JudgingExample

FEW = Bootstrap(num_resamples=20)
ACTIVE = {"script", "iframe", "object", "embed", "base", "link", "form", "input", "textarea", "plaintext", "frame"}
FORMULAS = {"math", "semantics", "annotation", "mfrac", "mi", "mn", "mo", "mover", "mphantom", "mroot",
            "mrow", "mspace", "msqrt", "msub", "msubsup", "msup", "mtable", "mtd",
            "mtext", "mtr", "munder", "munderover"}  # MathML that shows, and does nothing


class Page(html.parser.HTMLParser):
    """What a browser would make of a page, as far as it could do something: tags by count, attributes, scripts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.handlers, self.targets, self.scripts, self.comments, self._inside = set(), [], [], [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._inside = tag
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name in ("srcdoc", "formaction")]
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "action", "xlink:href",
                                                                          "data")]
        if tag == "script":
            self.scripts.append([dict(attrs).get("type"), ""])

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1][1] += data

    def handle_comment(self, data):
        self.comments.append(data)


def write(folder, texts, title):
    """A report in which every place that comes from files holds one of `texts`; each example has one of its own."""
    nth = itertools.cycle(texts)
    examples = [JudgingExample(id=f"{number} {text[:200]}", problem_id=f"{number // 2} {text[:50]}", question=next(nth),
                               response=text, correct=number % 2 == 0, policy=next(nth)[:100], source=next(nth)[:100])
                for number, text in enumerate(texts)]
    names = [f"a{title[:60]}", f"b{title[-60:]}"]
    judgements = {name: [Judgement(example_id=example.id, judge=name, sample=0, thought=example.response,
                                   verdict="unparsed" if len(example.id) % 3 else "correct", num_tokens=1, score=None)
                         for example in examples] for name in names}
    numbers = report.write(folder, title=title, examples=examples, judgements_by_judge=judgements, bootstrap=FEW,
                           curves={f"{title[:30]}/x": [(0, 1.0), (1, 0.5)]})
    return numbers, (folder / "report.html").read_text(encoding="utf-8")


def inert(page, harmless):
    """Asserts that hostile texts gave the page nothing that harmless ones do not."""
    assert page.tags & ACTIVE <= harmless.tags & ACTIVE
    assert page.tags - harmless.tags <= FORMULAS
    assert page.handlers == harmless.handlers == [] and page.comments == harmless.comments
    assert all(re.match(r"data:image/(svg\+xml|png);base64,[\w+/=]*$|#[\w-]*$", target) for target in page.targets)
    assert [kind for kind, _ in page.scripts] == [kind for kind, _ in harmless.scripts]
    for (kind, code), (_, same) in zip(page.scripts, harmless.scripts, strict=True):
        if kind == "application/json":
            json.loads(code)
        else:
            assert code == same


def test_no_hostile_text_does_anything_to_the_page(tmp_path, corpus):
    """All cases, 24 to a page: as many examples as a page shows."""
    texts = [text.encode("utf-8", "replace").decode() for text in corpus.values()]  # as records hold them
    harmless = {}
    for number in range(0, len(texts), report.SHOWN):
        some = [text[:20_000] for text in texts[number:number + report.SHOWN]]
        if len(some) not in harmless:
            harmless[len(some)] = Page(write(tmp_path / "harmless", ["x"] * len(some), "title")[1])
        numbers, text = write(tmp_path / "hostile", some, some[0] or "title")
        inert(Page(text), harmless[len(some)])
        assert json.loads((tmp_path / "hostile" / "report.json").read_text(encoding="utf-8")) == json.loads(
            json.dumps(numbers)) and numbers["num_examples"] == len(some)


def test_hostile_names_of_judges_do_nothing_to_the_page(tmp_path, corpus, request):
    harmless = Page(write(tmp_path / "harmless", ["x"] * 4, "title")[1])
    names = [text for name, text in corpus.items() if name.startswith(("markup/", "controls/", "answers/"))]
    breakers = [name for name in names if name[:1] in ("'", '"', "`")]  # out of an attribute
    for name in names if request.config.getoption("--slow") else [*breakers, *names[::20]]:
        text = name.encode("utf-8", "replace").decode()
        inert(Page(write(tmp_path / "hostile", ["x"] * 4, text or "title")[1]), harmless)
