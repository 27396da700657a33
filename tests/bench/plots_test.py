"""Pictures that are files: names stand apart, markup in them is text."""

import numpy as np
import pytest

from libra_jax.bench import best_of, plots
from libra_jax.bench.significance import Estimate


def test_names_at_the_ends_of_lines_stand_apart():
    assert plots._apart([0.5, 0.5, 0.9, 0.48], 0.05) == pytest.approx([0.53, 0.58, 0.9, 0.48])
    assert plots._apart([0.1, 0.9], 0.05) == [0.1, 0.9]


@pytest.mark.parametrize("sizes", [[1], [1, 2, 4]])
def test_a_picture_of_best_of_n_names_its_lines(sizes):
    problem = best_of.Responses(problem="p", source="s", right=np.array([True, False, False, True]),
                                answers=[0, 1, 1, 0], scores={"<b>": np.arange(4.0)})
    lines = best_of.lines([problem] * 2, sizes)
    drawn = plots.svg(plots.best_of(sizes, lines))
    assert drawn.startswith(b"<?xml") and b"<b>" not in drawn
    assert drawn == plots.svg(plots.best_of(sizes, lines))  # the same bytes
    for name in (b"majority answer", b"verifier", b"&lt;b&gt;"):
        assert name in drawn


def test_lines_in_one_plot_are_named_and_drawn_alike_every_time():
    points = {"the <reward>": [(0, 0.5), (5, 0.7)], "the truth": [(0, 0.5), (5, 0.3)]}
    drawn = plots.svg(plots.lines(points, "step", "share"))
    assert drawn == plots.svg(plots.lines(points, "step", "share"))
    for name in (b"the &lt;reward&gt;", b"the truth", b"step", b"share"):
        assert name in drawn
    assert plots.lines({"alone": [(1, 0.5)]}, "step", "share") != plots.lines({"alone": [(1, 0.5)]}, "step", "part")


def test_shares_are_dots_with_intervals_and_a_line_to_compare_with():
    estimates = [("before", Estimate(value=0.6, low=0.5, high=0.7)),
                 ("after", Estimate(value=0.8, low=None, high=None))]
    plain, dashed = (plots.svg(plots.shares(estimates, "right", dashed=dashed)) for dashed in (None, 0.5))
    assert plain.count(b"stroke-dasharray") < dashed.count(b"stroke-dasharray")
    for name in (b"before", b"after", b"0.600", b"0.800", b"right"):
        assert name in plain
