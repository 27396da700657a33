"""Each rule of curation against small cases worked by hand, and what must hold of any curated set."""

import collections
import dataclasses
import random

import pytest

from libra_jax.judging import v2v
from libra_jax.judging.v2v import V2VConfig
from libra_jax.records import Problem, VerifiedRollout

NOTHING = V2VConfig(both_kinds=False, balance=False, max_per_problem=0)


def problem(name, source="s", question=None):
    return Problem(id=name, source=source, question=question or f"What is {name}?", answer="1")


def rollout(name, correct, *, policy="a", sample=0, text=None, finish="stop"):
    return VerifiedRollout(problem_id=name, policy=policy, sample=sample, num_tokens=3, finish=finish, correct=correct,
                           text=text if text is not None else f"{name} {policy} {sample}", decided_by="rule", why="")


def rows(curated):
    return {rule: gone for rule, gone, _ in curated.table if gone}


def ids(curated):
    return sorted(example.id for example in curated.examples)


def big(seed=0, num_problems=60):
    """Policies of different strength on two sources, some undecided, some twice."""
    rng = random.Random(seed)
    problems = {f"p{n}": problem(f"p{n}", source="st"[n % 2]) for n in range(num_problems)}
    rollouts = [
        rollout(name, rng.choice([None, True, True]) if rng.random() < 0.1 else rng.random() < strength, policy=policy,
                sample=sample, text=f"{name} is {rng.randrange(30)}")
        for name in problems
        for policy, strength in (("weak", 0.2), ("even", 0.5), ("strong", 0.9))
        for sample in range(4)
    ]
    return problems, rollouts


def test_an_example_is_its_rollout():
    curated = v2v.curate({"p": problem("p", source="math")}, [rollout("p", False, policy="q7", sample=3, text=" x \n")],
                         NOTHING)
    (example,) = curated.examples
    assert (example.id, example.problem_id, example.correct) == ("p/q7/3", "p", False)
    assert (example.question, example.response, example.policy, example.source) == ("What is p?", " x \n", "q7", "math")


def test_undecided_unknown_and_cut_off_are_counted():
    rollouts = [rollout("p", None), rollout("p", True, sample=1), rollout("none", True),
                rollout("p", False, sample=2, finish="length")]
    curated = v2v.curate({"p": problem("p")}, rollouts, NOTHING)
    assert rows(curated) == {"undecided": 1, "problem unknown": 1, "cut off": 1}
    assert ids(curated) == ["p/a/1"]
    kept = v2v.curate({"p": problem("p")}, rollouts, dataclasses.replace(NOTHING, keep_cut_off=True))
    assert ids(kept) == ["p/a/1", "p/a/2"]


def test_duplicates_up_to_white_space_over_policies_and_equal_questions():
    problems = {"p": problem("p", question="Q  1?"), "q": problem("q", question="Q 1?"), "r": problem("r")}
    rollouts = [rollout("p", True, text="so 2\n"), rollout("p", True, policy="b", text="so  2"),
                rollout("q", True, text=" so 2"), rollout("r", True, text="so 2")]
    curated = v2v.curate(problems, rollouts, NOTHING)
    assert rows(curated) == {"duplicate response": 2}
    assert {example.problem_id for example in curated.examples} >= {"r"}


def test_one_text_labelled_both_ways_goes_altogether():
    rollouts = [rollout("p", True, text="2"), rollout("p", False, policy="b", text="2 "), rollout("p", True, sample=1)]
    curated = v2v.curate({"p": problem("p")}, rollouts, NOTHING)
    assert rows(curated) == {"labelled both ways": 2}
    assert ids(curated) == ["p/a/1"]


def test_ids_are_unique():
    rollouts = [rollout("p", True, text="one"), rollout("p", True, text="two")]
    curated = v2v.curate({"p": problem("p")}, rollouts, NOTHING)
    assert rows(curated) == {"repeated id": 1} and ids(curated) == ["p/a/0"]
    assert v2v.curate({"p": problem("p")}, rollouts[::-1], NOTHING) == curated


def test_problems_of_one_kind_go_if_so_wished():
    problems = {name: problem(name) for name in "pq"}
    rollouts = [rollout("p", True), rollout("p", False, sample=1), rollout("q", True), rollout("q", True, sample=1)]
    config = dataclasses.replace(NOTHING, both_kinds=True)
    assert ids(v2v.curate(problems, rollouts, config)) == ["p/a/0", "p/a/1"]
    assert len(v2v.curate(problems, rollouts, NOTHING).examples) == 4


def test_the_cap_takes_kinds_and_policies_in_turn():
    rollouts = [rollout("p", correct, policy=policy, sample=sample + 10 * correct)
                for correct in (True, False) for policy in "abc" for sample in range(5)]
    curated = v2v.curate({"p": problem("p")}, rollouts, dataclasses.replace(NOTHING, max_per_problem=6))
    counts = collections.Counter((example.policy, example.correct) for example in curated.examples)
    assert counts == {(policy, correct): 1 for policy in "abc" for correct in (True, False)}
    assert rows(curated) == {"over the cap of a problem": 24}


def test_balance_takes_the_surplus_from_the_fullest_problems():
    """Policy a has 4 correct on p, 1 on q, and 1 incorrect on each: 3 correct go, and all of them from p."""
    rollouts = [*(rollout("p", True, sample=n) for n in range(4)), rollout("p", False, sample=9),
                rollout("q", True), rollout("q", False, sample=9)]
    problems = {name: problem(name) for name in "pq"}
    curated = v2v.curate(problems, rollouts, dataclasses.replace(NOTHING, both_kinds=True, balance=True))
    assert rows(curated) == {"balance of source and policy": 3}
    assert collections.Counter((e.problem_id, e.correct) for e in curated.examples) == {
        (name, kind): 1 for name in "pq" for kind in (True, False)}


def test_balance_spares_the_last_response_of_a_kind():
    """Policy a has one correct too many, on p or q; p has no other correct one, so q's goes and both problems stay."""
    rollouts = [rollout("p", True), rollout("q", True), rollout("q", False, sample=1),
                rollout("p", False, policy="b"), rollout("q", False, policy="b"),
                rollout("q", True, policy="b", sample=1), rollout("q", True, policy="b", sample=2)]
    for seed in range(5):
        curated = v2v.curate({name: problem(name) for name in "pq"}, rollouts, V2VConfig(seed=seed))
        assert rows(curated) == {"balance of source and policy": 1}
        assert ids(curated) == ["p/a/0", "p/b/0", "q/a/1", "q/b/0", "q/b/1", "q/b/2"]


def test_a_policy_that_is_always_right_teaches_nothing():
    rollouts = [rollout("p", True, policy="best"), rollout("p", True), rollout("p", False, sample=1)]
    curated = v2v.curate({"p": problem("p")}, rollouts, V2VConfig())
    assert ids(curated) == ["p/a/0", "p/a/1"]


def test_balancing_that_leaves_one_kind_removes_the_problem():
    """Only policy a was right and only policy b wrong: balanced cells are empty, and so is the set."""
    curated = v2v.curate({"p": problem("p")}, [rollout("p", True), rollout("p", False, policy="b")], V2VConfig())
    assert curated.examples == () and curated.table[-1][2] == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_holds_of_every_set(seed):
    problems, rollouts = big(seed)
    config = V2VConfig(max_per_problem=5)
    curated = v2v.curate(problems, rollouts, config)
    assert len(curated.examples) > 20
    cells, kinds, sizes = (collections.defaultdict(collections.Counter), collections.defaultdict(set),
                           collections.Counter())
    for example in curated.examples:
        cells[example.source, example.policy][example.correct] += 1
        kinds[example.problem_id].add(example.correct)
        sizes[example.problem_id] += 1
    assert all(cell[True] == cell[False] > 0 for cell in cells.values())
    assert all(len(kind) == 2 for kind in kinds.values())
    assert max(sizes.values()) <= 5
    assert len({(e.problem_id, " ".join(e.response.split())) for e in curated.examples}) == len(curated.examples)
    left = len(rollouts)
    for _, removed, remaining in curated.table:
        assert removed >= 0 and remaining == left - removed
        left = remaining
    assert left == len(curated.examples)


def test_the_order_of_the_input_changes_nothing_and_the_seed_does():
    problems, rollouts = big()
    curated = v2v.curate(problems, rollouts, V2VConfig())
    shuffled = random.Random(1).sample(rollouts, len(rollouts))
    assert v2v.curate(dict(reversed(problems.items())), iter(shuffled), V2VConfig()) == curated
    other = v2v.curate(problems, rollouts, V2VConfig(seed=1))
    assert [e.id for e in other.examples] != [e.id for e in curated.examples]


def test_the_order_is_the_same_on_every_machine():
    """Python's own hash of strings differs between processes; the order that a seed gives may not."""
    problems = {f"p{n}": problem(f"p{n}") for n in range(6)}
    curated = v2v.curate(problems, [rollout(name, True) for name in problems], NOTHING)
    assert [e.problem_id for e in curated.examples] == ["p1", "p0", "p3", "p4", "p5", "p2"]


TEXT = ("Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
        "How many clips did Natalia sell altogether in April and May?")


def test_contaminated_questions_lose_their_responses():
    problems = {"p": problem("p", question=TEXT), "q": problem("q")}
    curated = v2v.curate(problems, [rollout("p", True), rollout("p", False, sample=1), rollout("q", True)], NOTHING,
                         bench_questions=[TEXT + " "])
    assert rows(curated) == {"question near the bench": 2} and ids(curated) == ["q/a/0"]


def test_of_near_questions_one_stays():
    """p, q and r are near each other; q alone has a response, so it stays; of p and r, once both have, one does."""
    problems = {name: problem(name, question=text)
                for name, text in zip("pqrs", [TEXT, TEXT.upper(), "In spring. " + TEXT, "else?"], strict=True)}
    one = v2v.curate(problems, [rollout("q", True), rollout("s", True)], NOTHING)
    assert ids(one) == ["q/a/0", "s/a/0"]
    three = v2v.curate(problems, [rollout(name, True, text=name) for name in "pqrs"], NOTHING)
    assert rows(three) == {"question near another": 2} and len(ids(three)) == 2 and "s/a/0" in ids(three)
    every = dataclasses.replace(NOTHING, near_questions=True)
    assert len(v2v.curate(problems, [rollout(name, True, text=name) for name in "pqrs"], every).examples) == 4


def test_ids_that_two_problems_share_are_unique_all_the_same():
    problems = {"p": problem("p"), "p/b": problem("p/b")}
    rollouts = [rollout("p", True, policy="b/c"), rollout("p/b", True, policy="c")]
    curated = v2v.curate(problems, rollouts, NOTHING)
    assert rows(curated) == {"id of another problem's": 1} and ids(curated) == ["p/b/c/0"]
    assert v2v.curate(problems, rollouts[::-1], NOTHING) == curated


def solved(rights, *, policy="a", num=4):
    """Of problem pN, rights[N] of `num` responses are right."""
    return [rollout(f"p{n}", sample < right, policy=policy, sample=sample)
            for n, right in enumerate(rights) for sample in range(num)]


def names_kept(rollouts, **config):
    problems = {f"p{n}": problem(f"p{n}") for n in range(40)}
    curated = v2v.curate(problems, rollouts, dataclasses.replace(NOTHING, **config))
    return sorted({example.problem_id for example in curated.examples}), rows(curated)


def test_bands_of_difficulty_keep_what_lies_between_their_edges():
    """Shares right: 0, 1/4, 1/2, 3/4, 1. Lower edges belong to a band, and the last one's upper edge too."""
    given = solved([0, 1, 2, 3, 4])
    assert names_kept(given, bands=(0.25, 0.5)) == (["p1", "p2"], {"outside the bands of difficulty": 12})
    assert names_kept(given, bands=(0.3, 0.9))[0] == ["p2", "p3"]
    assert names_kept(given, bands=(0.0, 1.0))[0] == ["p0", "p1", "p2", "p3", "p4"]


def test_difficulty_is_measured_before_anything_but_repetitions_is_removed():
    """All eight responses of p0 are decided, half of them right; the wrong ones are cut off and go."""
    given = [dataclasses.replace(each, finish="stop" if each.correct else "length") for each in solved([2])]
    assert names_kept([*given, *given], bands=(0.5, 0.6)) == (["p0"], {"repeated id": 4, "cut off": 2})


def test_difficulty_for_some_policies():
    given = [*solved([0, 4, 2]), *solved([4, 4, 4], policy="b")]
    assert names_kept(given, bands=(0.0, 0.5))[0] == ["p0"]
    assert names_kept(given, bands=(0.0, 0.5), difficulty_policies=("a",))[0] == ["p0", "p2"]
    assert names_kept(given, bands=(0.0, 0.5), difficulty_policies=("b",))[0] == []
    assert names_kept(given, bands=(0.0, 1.0), difficulty_policies=("nobody",))[0] == []


def test_bands_are_limited_and_balanced():
    """Bands of 8, 3 and 1 problems (and an empty one)."""
    given = solved([0] * 8 + [1] * 3 + [4])
    edges = (0.0, 0.25, 0.5, 0.75, 1.0)
    limited, removed = names_kept(given, bands=edges, max_per_band=2)
    assert len(limited) == 5 and removed == {"over the limit of a band": 28}
    assert len(names_kept(given, bands=edges, balance_bands=True)[0]) == 3
    assert len(names_kept(given, bands=edges, balance_bands=True, seed=1)[0]) == 3
    assert names_kept(given[::-1], bands=edges, max_per_band=2)[0] == limited


def test_split_is_disjoint_stable_and_keeps_equal_questions_together():
    problems = [problem(f"p{n}", question=("What is  ", "what is ")[n % 2] + f"{n // 2}?") for n in range(2000)]
    train, bench = v2v.split(problems, 0.3, seed=0)
    assert train.keys().isdisjoint(bench) and len(train) + len(bench) == 2000
    assert 500 < len(bench) < 700
    assert all((f"p{n}" in bench) == (f"p{n + 1}" in bench) for n in range(0, 2000, 2))
    fewer = v2v.split(reversed(problems[:100]), 0.3, seed=0)[1]
    assert fewer.keys() == {f"p{n}" for n in range(100)} & bench.keys()
    assert v2v.split(problems, 0.3, seed=1)[1].keys() != bench.keys()
    assert v2v.split(problems, 0.0, seed=0)[1] == {} and v2v.split(problems, 1.0, seed=0)[0] == {}


def test_one_id_for_two_problems_is_an_error():
    with pytest.raises(ValueError, match="'p'"):
        v2v.split([problem("p", question="a"), problem("p", question="b")], 0.5, seed=0)
    assert len(v2v.split([problem("p"), problem("p")], 0.0, seed=0)[0]) == 1


@pytest.mark.parametrize("wrong", [
    {"max_per_problem": 1}, {"max_per_problem": -2}, {"ngram": 0}, {"overlap": 0.0}, {"bands": (0.5,)},
    {"bands": (0.5, 0.2)}, {"bands": (0.5, 0.5)}, {"bands": (0.0, 1.5)}, {"max_per_band": 3}, {"balance_bands": True},
    {"difficulty_policies": ("a",)}, {"max_per_band": -1, "bands": (0.0, 1.0)},
])
def test_impossible_configs(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        V2VConfig(**wrong)


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_impossible_fraction(fraction):
    with pytest.raises(ValueError, match="bench_fraction"):
        v2v.split([], fraction, seed=0)
