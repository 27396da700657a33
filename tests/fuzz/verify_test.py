"""The extractor and the comparison of answers: no crash, no hang, nothing run, and an answer is never made up."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libra_jax.verify import batch, canonical, equal, extract, steps

PIECES = st.sampled_from([
    "\\boxed{", "\\boxed", "\\fbox {", "}", "{", "\\{", "\\}", "\\", "\\\\", "$", "answer is", "The answer is ",
    "Answer:", "A:", "####", "\n", " ", "5", "\\frac{1}{2}", ", ", " and ", "or", ".", "p.m.", "I hope it is", "x=",
    "**", "é", "\ud800"])
LATEX = st.sampled_from([
    "1", "2", "9", "0", "x", "y", "+", "-", "*", "/", "^", "=", "(", ")", "{", "}", "\\frac", "\\sqrt", "\\pi",
    "\\sin", ",", "<", "\\le ", "\\infty", "!", "e", ".", "\\%", " ", "\\text{cm}", "\\cup", "[", "]", "\\pm",
    "\\begin{pmatrix}", "&", "\\\\", "\\end{pmatrix}", "_", "\\log", "|", "\\binom", "\\int", "\\sum", "d", "'", ":",
    "°", "\x00"])


@given(st.lists(PIECES | st.text(st.characters(), max_size=5), max_size=30).map("".join))
def test_an_extracted_answer_stands_in_the_text(text):
    found = extract.extract(text)
    assert found is None or all(part in text for part in found.split(", "))


def test_extracting_from_hostile_texts_is_quick(corpus, bounded):
    for name, text in corpus.items():
        found = bounded(4, name, extract.extract, text)
        assert found is None or all(part in text for part in found.split(", ")), name


def test_writing_and_comparing_hostile_answers_is_quick(corpus, bounded):
    for name, text in corpus.items():
        answer = (extract.extract(text) or text)[:equal.MAX_ANSWER]
        bounded(2, name, canonical.canonical, answer)
        bounded(2, name, canonical.unit, answer)
        assert bounded(2, name, equal.fast_equal, answer, "5") == bounded(2, name, equal.fast_equal, "5", answer), name


def test_steps_of_hostile_texts_end(corpus, bounded):
    for name, text in corpus.items():
        bounded(3, name, lambda text=text: list(steps.steps(text[:10_000])))


def test_workers_decide_every_hostile_response_in_time(corpus, request):
    """Every one is decided, in order, and only those that do say 5 are right."""
    timeout = 2.0 if request.config.getoption("--slow") else 0.4
    start = time.monotonic()
    decisions = list(batch.decide(((text, "5") for text in corpus.values()), num_workers=2, timeout=timeout))
    seconds = time.monotonic() - start
    assert len(decisions) == len(corpus)
    right = {name for name, decision in zip(corpus, decisions, strict=True) if decision.correct}
    assert right <= {name for name, text in corpus.items() if "5" in text or "５" in text} and "answers/15" in right
    assert seconds < 900
    print(f"{len(decisions)} in {seconds:.1f} s, {sum(each.correct is None for each in decisions)} of them undecided")


@given(st.lists(LATEX, max_size=25).map("".join), st.lists(LATEX, max_size=25).map("".join))
def test_the_exact_path_is_symmetric_and_knows_its_own(one, other):
    assert equal.fast_equal(one, other) == equal.fast_equal(other, one)
    assert equal.fast_equal(one, one) is not False


@pytest.fixture(scope="module")
def pool():
    with batch.Pool(num_workers=1, timeout=1.0) as made:
        made.start()
        yield made


def test_computer_algebra_stays_in_its_bounds(pool, request):
    @settings(max_examples=200 if request.config.getoption("--slow") else 25)
    @given(st.lists(st.lists(LATEX, min_size=1, max_size=15).map("".join), min_size=1, max_size=8))
    def compare(answers):
        pairs = [(answer, "x+1") for answer in answers]
        decisions = list(pool.compare(pairs))
        assert len(decisions) == len(pairs)

    compare()
