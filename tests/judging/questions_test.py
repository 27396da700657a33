"""Near questions: cases by hand, and the same as comparing every pair."""

import itertools
import random
import time

import pytest

from libra_jax.judging import questions

TEXT = ("Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
        "How many clips did Natalia sell altogether in April and May?")


@pytest.mark.parametrize(("question", "near"), [
    (TEXT, True),
    (TEXT.upper().replace(" ", "\n"), True),
    ("In spring it is warm. " + TEXT, True),
    (TEXT.split("half")[0] + "three in May. How much did she earn if a clip costs 2 dollars, and tax is 10 %?", False),
    (TEXT.replace("48", "36"), True),
    (TEXT.replace("48", "36").replace("friends", "pals").replace("half", "twice").replace("sell", "have"), False),
    ("What is 2+2?", False),
    ("What is 1 + 2?", True),
])
def test_contaminated(question, near):
    assert questions.contaminated({"x": question}, [TEXT, "what is 1+2?"]) == ({"x"} if near else set())


def near_by_hand(one, two, ngram, overlap):
    one, two = questions._grams(one, ngram), questions._grams(two, ngram)
    return len(one & two) >= overlap * min(len(one), len(two))


@pytest.mark.parametrize("overlap", [0.1, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("ngram", [1, 2, 4])
def test_the_index_finds_what_comparing_every_pair_finds(ngram, overlap):
    rng = random.Random(ngram)
    texts = [" ".join(rng.choices("abcdef", k=rng.randrange(12))) for _ in range(60)]
    known, asked = texts[:40], texts[20:]
    index = questions.Index(known, ngram=ngram, overlap=overlap)
    some = frozenset(range(0, 40, 3))
    for text in asked:
        near = {number for number, other in enumerate(known) if near_by_hand(text, other, ngram, overlap)}
        assert index.near(text) == near and index.near(text, some) == near & some


def test_of_near_questions_the_first_stays():
    given = {name: name for name in ("a b c", "x", "b c d", "c d e", "X")}
    gone = questions.repeated(given, ngram=2, overlap=0.5)
    assert gone == {"b c d", "X"}  # "c d e" is near "b c d" alone, which has gone
    left = [name for name in given if name not in gone]
    assert not any(near_by_hand(one, two, 2, 0.5) for one, two in itertools.combinations(left, 2))


def test_words_that_all_questions_share_cost_little():
    """Comparing every pair of these would take minutes: each shares 20 grams with each."""
    ending = "give the answer as a fraction in its lowest terms and explain every step that led you to it " * 2
    given = {str(n): " ".join(f"{word}{n}" for word in "abcdefgh" * 6) + " " + ending for n in range(3000)}
    start = time.monotonic()
    assert questions.repeated(given, ngram=13, overlap=0.5) == set()
    assert time.monotonic() - start < 20
